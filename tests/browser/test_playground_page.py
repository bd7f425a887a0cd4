"""The playground as a page: by keyboard, on a phone, without scripts, as it is served in production."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from billing.models import Account
from crazyrouter.files.models import StoredImage
from crazyrouter.files.storage import get_storage
from crazyrouter.generation.latency import find_bucket
from crazyrouter.generation.models import ServiceHour
from crazyrouter.ops.statics import collect_static
from models_registry.models import ImageModel
from tests.browser.conftest import PHONE, open_page, start_site
from tests.browser.playground import Playground
from tests.server import RunningServer
from tests.shop import Customer


def test_the_keyboard_alone_is_enough(page: Page, customer: Customer) -> None:
    playground = Playground(page)
    page.goto("/playground")

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"no way to {selector}")

    tab_to("#key")
    page.keyboard.insert_text(customer.secret)
    tab_to("#model")
    expect(page.locator("#account")).to_contain_text("available")
    page.keyboard.type("qwen-image-2.0")
    tab_to("#prompt")
    page.keyboard.type("a cat")
    tab_to('input[name="size"]')
    page.keyboard.press("ArrowRight")
    tab_to('input[name="n"]')
    page.keyboard.press("ArrowRight")
    tab_to("#generate")
    page.keyboard.press("Enter")
    playground.wait_for_images(2)
    assert json.loads(playground.posts[0].post_data or "") == {
        "model": "qwen-image-2.0",
        "prompt": "a cat",
        "size": "2688x1536",
        "n": 2,
    }
    with page.expect_download() as found:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    assert found.value.suggested_filename == StoredImage.objects.order_by("slot")[0].name


def test_earlier_pictures_stay_below_and_nothing_moves_by_itself(page: Page, customer: Customer) -> None:
    playground = Playground(page)
    playground.open(customer.secret)
    for prompt in ("first", "second", "third"):
        playground.choose(prompt=prompt)
        playground.generate()
        expect(playground.run.locator("h3")).to_have_text(prompt)
        playground.wait_for_images(1)
        page.wait_for_timeout(300)
    assert page.locator("#runs .run h3").all_inner_texts() == ["second", "first"]
    assert page.evaluate("window.shifts") == 0


def test_a_phone_shows_all_of_it(phone: Page, customer: Customer) -> None:
    playground = Playground(phone)
    playground.open(customer.secret, model="qwen-image-2.0")
    playground.choose(prompt="a cat " * 20, n=6)
    phone.locator("#more summary").click()
    widths = [phone.evaluate("document.documentElement.scrollWidth")]
    playground.generate()
    playground.wait_for_images(6)
    expect(playground.run).to_be_in_viewport()
    widths.append(phone.evaluate("document.documentElement.scrollWidth"))
    playground.choose(prompt="[[sim: moderation_input]]" + "a" * 300)
    playground.generate()
    expect(playground.run).to_contain_text("moderation_blocked")
    playground.run.get_by_text("Details").click()
    widths.append(phone.evaluate("document.documentElement.scrollWidth"))
    assert widths == [PHONE[0]] * 3


def test_a_size_follows_the_model_only_while_it_is_sold(page: Page) -> None:
    playground = Playground(page)
    playground.open()
    chosen = page.locator('input[name="size"]:checked')
    playground.choose(size="1024x1024")
    playground.choose(model="qwen-image-2.0")
    expect(chosen).to_have_value("1024x1024")
    playground.choose(size="1536x2688")
    playground.choose(model="qwen-image-max")
    expect(chosen).to_have_value("1664x928")
    playground.choose(model="qwen-image-2.0")
    expect(chosen).to_have_value("2048x2048")
    page.fill("#free-size", "512x768")
    playground.choose(model="qwen-image-2.0-pro")
    expect(page.locator(".other input")).to_be_checked()
    assert '"size": "512x768"' in playground.read_request("curl")
    assert page.url.endswith("?model=qwen-image-2.0-pro")
    page.reload()
    expect(page.locator("#model")).to_have_value("qwen-image-2.0-pro")


def test_another_origin_is_shown_but_this_one_is_asked(browser: Browser, customer: Customer) -> None:
    public = "https://images.example.com"
    with start_site(PUBLIC_BASE_URL=public, ALLOWED_HOSTS="127.0.0.1") as site, open_page(browser, site) as page:
        playground = Playground(page)
        playground.open(customer.secret)
        playground.choose(prompt="a cat")
        assert playground.read_request("curl").startswith(f"curl {public}/v1/images/generations ")
        playground.generate()
        playground.wait_for_images(1)
        assert playground.download(0)[1] == get_storage().read(StoredImage.objects.get().name)


def test_as_in_production_scripts_have_names_of_their_own(
    browser: Browser, customer: Customer, settings: Any, tmp_path: Path
) -> None:
    """Without debugging, statics are the collected ones, whose names carry a digest."""
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": "crazyrouter.ops.statics.StaticStorage"}}
    collect_static()
    production = {
        "DEBUG": "false",
        "SECRET_KEY": "0123456789" * 6,
        "API_KEY_PEPPER": settings.API_KEY_PEPPER,
        "CREDENTIAL_KEYS": ",".join(settings.CREDENTIAL_KEYS),
        "STATIC_ROOT": settings.STATIC_ROOT,
    }
    with start_site(**production) as site, open_page(browser, site) as page:
        playground = Playground(page)
        playground.open(customer.secret)
        names = [request.url.rpartition("/")[2] for request in playground.requests if request.url.endswith(".js")]
        assert sorted(name.split(".")[0] for name in set(names)) == sorted(
            ["account", "api", "dom", "facts", "form", "memory", "money", "playground", "run", "sizes", "snippets"]
        )
        assert len(names) == len(set(names))
        assert all(len(name.split(".")[1]) == 12 for name in names)
        loaded = [request for request in playground.requests if "/v1/" not in request.url]
        assert sum(request.sizes()["responseBodySize"] for request in loaded) < 100_000
        playground.choose(prompt="a cat")
        playground.generate()
        playground.wait_for_images(1)
    assert Account.objects.get().balance_micros == 99_800_000


def test_without_a_model_on_sale_it_says_so(page: Page) -> None:
    ImageModel.objects.update(status=ImageModel.Status.HIDDEN)
    page.goto("/playground")
    expect(page.get_by_text("Nothing is on sale right now.")).to_be_visible()
    assert page.locator("form").count() == 0


def test_without_scripts_there_is_a_way(browser: Browser, site: RunningServer) -> None:
    with open_page(browser, site, java_script_enabled=False) as page:
        page.goto("/playground")
        expect(page.locator("noscript a")).to_have_attribute("href", "/docs/quickstart")
        expect(page.locator("noscript")).to_be_visible()


def test_progress_is_measured_by_the_usual_time(page: Page, customer: Customer) -> None:
    model = ImageModel.objects.get(name="qwen-image-max")
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    ServiceHour.objects.create(model=model, hour=hour, served=30, latency={str(find_bucket(20_000)): 30}, final=True)
    playground = Playground(page)
    playground.open(customer.secret, model="qwen-image-max")
    expect(page.locator("#model-words")).to_have_text("text-to-image, usually 20 s")
    playground.choose(prompt="a cat [[sim: latency seconds=2]]")
    playground.generate()
    expect(playground.run.locator(".status")).to_have_text(
        "Drawing. Half of the orders that brought images took no longer than 20 s."
    )
    progress = playground.run.get_by_role("progressbar", name="Time against the usual time")
    assert progress.get_attribute("max") == "20"
    expect(playground.run.locator(".seconds")).to_have_text("1 s")
    assert 1 <= float(progress.get_attribute("value") or 0) < 20
    playground.wait_for_images(1)
    expect(playground.run.locator(".status")).to_have_text(re.compile(r"1 image is ready after [2-9]\.[0-9] s\."))
