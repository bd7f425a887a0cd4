"""A real browser on a real server: every page is watched, and what it must never do fails its test.

Playwright's loop runs in the thread of the tests. The browser therefore lives no longer than this package's tests, so
that asynchronous ones elsewhere have the thread to themselves, and Django is told that nobody awaits in here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.server import RunningServer
from tests.shop import Customer
from tests.tools import CHROMIUM_ARGUMENTS, find_chromium

UNSAFE = "DJANGO_ALLOW_ASYNC_UNSAFE"
DESKTOP, PHONE = (1280, 800), (360, 740)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "browser":
            item.add_marker("browser")


@pytest.fixture(scope="package", autouse=True)
def quiet_django() -> Iterator[None]:
    """The ORM refuses a thread in which a loop runs; here it is Playwright's, and the test waits for it."""
    os.environ[UNSAFE] = "true"
    yield
    del os.environ[UNSAFE]


@pytest.fixture(scope="package")
def browser(quiet_django: None) -> Iterator[Browser]:
    path = find_chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


def start_site(**environment: Any) -> RunningServer:
    """A server that is as strict as ever about the thread it is called in."""
    server = RunningServer(**environment)
    server.environment.pop(UNSAFE, None)
    return server


@pytest.fixture
def site(customer: Customer) -> Iterator[RunningServer]:
    with start_site() as running:
        yield running


@pytest.fixture
def page(browser: Browser, site: RunningServer) -> Iterator[Page]:
    with open_page(browser, site) as opened:
        yield opened


@pytest.fixture
def phone(browser: Browser, site: RunningServer) -> Iterator[Page]:
    with open_page(browser, site, size=PHONE, has_touch=True, is_mobile=True) as opened:
        yield opened


@contextmanager
def open_page(
    browser: Browser, site: RunningServer, *, size: tuple[int, int] = DESKTOP, **options: Any
) -> Iterator[Page]:
    """A browser of its own, whose addresses are relative to the site; at the end nothing may have gone wrong in it."""
    context = browser.new_context(
        base_url=site.base_url, viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce", **options
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    faults = watch(page, site.base_url)
    yield page
    context.close()
    assert faults == []


def watch(page: Page, base_url: str) -> list[str]:
    """What the console complains of (violations of the policy are among it), what throws, and who else is asked."""
    faults: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        # Answers of the API that are errors, and requests that a test has cut off, are no fault of the page.
        is_answer = urlsplit(message.location["url"]).path.startswith("/v1/")
        if message.type in ("error", "warning") and not is_answer:
            faults.append(f"console: {message.text}")

    def see(request: Request) -> None:
        if not request.url.startswith((f"{base_url}/", "blob:", "data:")):
            faults.append(f"asked elsewhere: {request.url}")

    page.on("console", hear)
    page.on("pageerror", lambda error: faults.append(f"thrown: {error}"))
    page.on("request", see)
    return faults
