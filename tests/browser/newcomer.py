"""A newcomer's way, by what one sees on the pages: what it is, how it works, a picture, what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

PROMPT = "A paper lantern over a quiet canal at dusk, watercolour"


def follow(page: Page, name: str) -> None:
    """A link of the site's own navigation."""
    page.get_by_role("navigation", name="Site").get_by_role("link", name=name).click()


def walk(page: Page, secret: str, *, look: Callable[[str], Any] = lambda _: None) -> None:
    """From the home page to a picture and on to its price; `look` is called with the name of each page."""
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Pay for pictures, not for tries.")
    expect(page.get_by_role("link", name="qwen-image-2.0-pro")).to_contain_text("Beta")
    look("home")
    page.get_by_role("link", name="Quick start", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Quick start")
    page.get_by_role("navigation", name="Documentation").get_by_role("link", name="Qwen Image").click()
    expect(page.get_by_role("heading", name="Billing truth")).to_be_visible()
    look("docs")
    page.get_by_role("link", name="qwen-image-2.0", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("qwen-image-2.0")
    look("model")
    page.get_by_role("link", name="Try it in the playground").click()
    page.wait_for_load_state("networkidle")
    expect(page.get_by_label("Model", exact=True)).to_have_value("qwen-image-2.0")
    order(page, secret)
    look("playground")
    follow(page, "Pricing")
    page.wait_for_load_state("networkidle")
    model = page.get_by_role("link", name="qwen-image-2.0", exact=True)
    expect(page.get_by_role("row").filter(has=model)).to_contain_text("¥0.20")
    page.get_by_label("Model").select_option("qwen-image-2.0")
    page.get_by_label("Images a month").fill("5000")
    expect(page.locator("#calc-result")).to_have_text("¥1,000.00 for 5,000 delivered")
    look("pricing")


def order(page: Page, secret: str) -> None:
    """Two pictures, by label and keyboard."""
    page.get_by_label("API key").fill(secret)
    page.keyboard.press("Enter")
    expect(page.locator("#account")).to_contain_text("available")
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.get_by_role("group", name="Images").get_by_role("radio", name="2", exact=True).check()
    expect(page.locator("#price")).to_have_text("¥0.40")
    page.get_by_role("button", name="Generate").click()
    pictures = page.get_by_role("img", name=PROMPT)
    expect(pictures).to_have_count(2, timeout=60_000)
    for at in (0, 1):
        expect(pictures.nth(at)).to_have_js_property("naturalWidth", 2048)
