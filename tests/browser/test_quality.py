"""What holds on every public page for everybody: readable, labelled, in order, still, and as wide as the screen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from models_registry.models import ImageModel
from tests.browser.conftest import DESKTOP, PHONE, open_page
from tests.browser.playground import WATCH_SHIFTS
from tests.browser.test_playground_changes import wait_until_known
from tests.server import RunningServer

LOC = "{http://www.sitemaps.org/schemas/sitemap/0.9}loc"
SCREENS = {
    "desktop, light": {"size": DESKTOP, "color_scheme": "light"},
    "desktop, dark": {"size": DESKTOP, "color_scheme": "dark"},
    "phone, light": {"size": PHONE, "color_scheme": "light", "is_mobile": True, "has_touch": True},
}
#: The element that has the focus: where it stands in the document, and whether one sees that it has it.
READ_FOCUS = """() => {
  const all = [...document.querySelectorAll("*")];
  const one = document.activeElement;
  const style = getComputedStyle(one);
  const label = one.nextElementSibling && getComputedStyle(one.nextElementSibling);
  const marked = (each) => each && each.outlineStyle !== "none" && parseFloat(each.outlineWidth) >= 2;
  return {at: all.indexOf(one), tag: one.tagName, seen: marked(style) || marked(label), text: one.textContent.trim()};
}"""


@pytest.fixture(params=SCREENS)
def screen(request: pytest.FixtureRequest, browser: Browser, site: RunningServer) -> Iterator[Page]:
    with open_page(browser, site, **SCREENS[request.param]) as opened:  # type: ignore[arg-type]
        opened.add_init_script(WATCH_SHIFTS)
        yield opened


def list_pages(page: Page) -> list[str]:
    found = ET.fromstring(page.request.get("/sitemap.xml").text())
    urls = [loc.text or "" for loc in found.iter(LOC)]
    assert len(urls) > 15
    return [*urls, *(f"{urls[0]}{path}" for path in ("playground?model=qwen-image-2.0",))]


def describe(violation: dict[str, Any]) -> str:
    nodes = "; ".join(node["html"][:120] for node in violation["nodes"][:3])
    return f"{violation['id']} ({violation['impact']}): {nodes}"


def test_every_page_is_for_everybody_and_keeps_still(screen: Page) -> None:
    axe, faults = Axe(), []
    for url in list_pages(screen):
        screen.goto(url)
        screen.wait_for_load_state("networkidle")
        faults += [f"{url}: {describe(one)}" for one in axe.run(screen).response["violations"]]
        levels = screen.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => Number(one.tagName[1]))")
        if levels.count(1) != 1 or any(after > before + 1 for before, after in pairwise(levels)):
            faults.append(f"{url}: headings {levels}")
        moved = screen.evaluate("window.shifts")
        if moved > 0.01:
            faults.append(f"{url}: moved by {moved:.3f}")
        wide = screen.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            faults.append(f"{url}: {wide} pixels wider than the screen")
    assert faults == [], "\n".join(faults)


def test_long_names_and_words_stay_on_their_page(screen: Page) -> None:
    model = ImageModel.objects.get(name="qwen-image-max")
    model.name = "qwen-image-max-with-a-name-of-many-parts-2026-11-preview"
    model.description = "x" * 300
    model.save()
    wait_until_known()
    for path in (
        "/",
        "/models",
        f"/models/{model.name}",
        "/pricing",
        "/docs/images/qwen",
        "/docs/limits",
        "/playground",
    ):
        screen.goto(path)
        assert model.name in screen.content(), path
        wide = screen.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, path


def test_what_is_printed_is_light_and_whole(browser: Browser, site: RunningServer) -> None:
    with open_page(browser, site, color_scheme="dark") as page:
        page.emulate_media(media="print")
        page.goto("/docs/quickstart")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 248, 242)"
        first = page.locator(".examples").first
        assert first.locator("figcaption:visible").all_inner_texts() == ["curl", "Python", "Node", "HTTP"]
        cut = "all => all.filter(one => one.scrollWidth > one.clientWidth).length"
        assert page.eval_on_selector_all("pre", cut) == 0


def test_a_keyboard_goes_through_every_page_in_order_and_is_seen(page: Page) -> None:
    for path in ("/", "/models/qwen-image-max", "/docs/images/qwen", "/pricing", "/playground"):
        page.goto(path)
        stops: list[dict[str, Any]] = []
        for _ in range(200):
            page.keyboard.press("Tab")
            stop = page.evaluate(READ_FOCUS)
            if stop["tag"] == "BODY" or stop["at"] == (stops or [{"at": None}])[0]["at"]:
                break
            stops.append(stop)
        places = [stop["at"] for stop in stops]
        assert stops[0]["text"] == "Skip to the content", path
        assert places == sorted(places), path
        assert len(places) == len(set(places)) > 8, path
        assert [stop for stop in stops if not stop["seen"]] == [], path
        assert stops[-1]["tag"] == "A", path


def test_the_skip_link_leads_past_the_navigation(page: Page) -> None:
    page.goto("/docs/errors")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_the_arrow_keys_choose_the_language_of_an_example(page: Page) -> None:
    page.goto("/docs/quickstart")
    group = page.locator(".examples").first
    first = group.get_by_role("radio", name="curl")
    first.focus()
    assert group.locator("code:visible").inner_text().startswith("curl ")
    page.keyboard.press("ArrowRight")
    assert group.get_by_role("radio", name="Python").is_checked()
    assert "from openai import OpenAI" in group.locator("code:visible").inner_text()


def test_without_scripts_every_page_still_says_everything(browser: Browser, site: RunningServer) -> None:
    with open_page(browser, site, java_script_enabled=False) as page:
        page.goto("/docs/images/qwen")
        page.locator(".examples label", has_text="HTTP").first.click()
        assert "POST /v1/images/generations HTTP/1.1" in page.locator("pre:visible").first.inner_text()
        page.goto("/playground")
        assert page.locator("noscript a[href='/docs/quickstart']").is_visible()
        page.goto("/pricing")
        assert page.get_by_role("cell", name="¥0.50").count() == 2


def test_the_calculator_multiplies_exactly(page: Page) -> None:
    page.goto("/pricing")
    result = page.locator("#calc-result")
    page.get_by_label("Model").select_option("qwen-image-max")
    page.get_by_label("Images a month").fill("123456789")
    assert result.inner_text() == "¥61,728,394.50 for 123,456,789 delivered"
    for wrong in ("0", "", "1.5", "-3"):
        page.get_by_label("Images a month").fill(wrong)
        assert result.inner_text() == "Enter a whole number of images, from 1 on.", wrong


def test_an_example_can_be_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/docs/errors")
    page.get_by_role("button", name="Copy: curl, refused").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl ")
