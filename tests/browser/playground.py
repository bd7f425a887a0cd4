"""The playground as its visitor uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, Request, expect

#: Shifts that no input of the visitor's in the half second before explains, added up.
WATCH_SHIFTS = """
    window.shifts = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
"""


class Playground:
    """`posts` are the orders that the page has sent, `requests` everything that it has asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[Request] = []
        page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108 - Playwright marks it
        page.add_init_script(WATCH_SHIFTS)

    @property
    def posts(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def open(self, secret: str = "", *, model: str = "") -> None:
        """With this key entered, and what its account pays shown."""
        self.page.goto(f"/playground?model={model}" if model else "/playground")
        if secret:
            self.page.fill("#key", secret)
            self.page.press("#key", "Enter")
            expect(self.page.locator("#account")).to_contain_text("available")

    def choose(self, **fields: Any) -> None:
        """Radio buttons by value (`n`, `size`, `response_format`), everything else as it is typed or selected."""
        for name, value in fields.items():
            if name in ("n", "size", "response_format"):
                self.page.locator(f'input[name="{name}"][value="{value}"]').check()
            elif name in ("model", "prompt_extend", "watermark"):
                self.page.locator(f"#{name}").select_option(value)
            else:
                self.page.fill(f"#{name}", value)

    def generate(self) -> None:
        self.page.click("#generate")

    @property
    def run(self) -> Locator:
        """The newest order."""
        return self.page.locator("#stage .run")

    @property
    def charge(self) -> Locator:
        return self.run.locator(".gauge strong")

    @property
    def images(self) -> Locator:
        return self.run.locator("img")

    def wait_for_images(self, count: int) -> None:
        expect(self.images).to_have_count(count)
        expect(self.run.locator(".real").nth(count - 1)).to_contain_text("×")

    def read_sizes(self) -> list[list[int]]:
        """As the browser has decoded them."""
        return self.images.evaluate_all("images => images.map(one => [one.naturalWidth, one.naturalHeight])")

    def download(self, at: int) -> tuple[str, bytes]:
        """The file's name and what is in it."""
        with self.page.expect_download() as found:
            self.run.get_by_text("Download").nth(at).click()
        return found.value.suggested_filename, Path(found.value.path()).read_bytes()

    def read_request(self, language: str) -> str:
        """The exact request in curl, Python or Node."""
        self.page.locator("#request").get_by_text(language, exact=True).first.click()
        return self.page.locator("#request pre:visible").inner_text()

    def expect_fault(self, name: str, words: str) -> None:
        """Said beside the field, tied to it, and the focus is there."""
        expect(self.page.locator(f"#error-{name}")).to_have_text(words)
        focused = self.page.locator(":focus")
        expect(focused).to_have_attribute("aria-invalid", "true")
        tied = focused.evaluate(
            "one => (one.getAttribute('aria-describedby') ?? '') + ' '"
            " + (one.closest('fieldset')?.getAttribute('aria-describedby') ?? '')"
        )
        assert f"error-{name}" in tied.split()
