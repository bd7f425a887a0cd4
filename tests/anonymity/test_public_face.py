"""Whatever a reader can reach from the home page: pages, their Markdown, styles, scripts, fonts, the schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from models_registry.models import ImageModel
from providers.models import Channel, Offer
from tests.anonymity.words import Leak, find_leaks, find_words
from tests.server import RunningServer
from tests.shop import Customer

pytestmark = pytest.mark.live

STARTS = ("/", "/robots.txt", "/sitemap.xml", "/llms-full.txt", "/readyz", "/no/such/page", "/models/no-such-model")
#: How links are written, by the media type.
LINKS = {
    "text/html": re.compile(r'(?:href|src)="([^"#]+)'),
    "text/css": re.compile(r'url\("?([^")]+)'),
    "text/javascript": re.compile(r'(?:from|import) "([^"]+)"'),
    "application/xml": re.compile(r"<loc>([^<]+)"),
    "text/markdown": re.compile(r"\]\(([^)#\s]+)"),
    "text/plain": re.compile(r"\]\(([^)#\s]+)"),
}
MOST_PAGES = 200


@pytest.fixture
def server(customer: Customer) -> Iterator[RunningServer]:
    running = RunningServer()
    # As `crazyrouter.web` does it.
    running.command = [*running.command, "--no-server-header"]
    with running:
        yield running


def crawl(server: RunningServer) -> dict[str, httpx.Response]:
    """By path, everything on this server that one thing leads to from another; the admin is not public."""
    found: dict[str, httpx.Response] = {}
    waiting = list(STARTS)
    with httpx.Client(base_url=server.base_url, timeout=20) as client:
        while waiting:
            path = waiting.pop()
            if path in found:
                continue
            assert len(found) < MOST_PAGES
            found[path] = client.get(path)
            waiting += list_links(found[path], server.base_url)
    return found


def list_links(response: httpx.Response, base_url: str) -> Iterator[str]:
    pattern = LINKS.get(response.headers["Content-Type"].partition(";")[0])
    for link in pattern.findall(response.text) if pattern else ():
        target = urlsplit(urljoin(str(response.url), link))
        if f"{target.scheme}://{target.netloc}" == base_url and not target.path.startswith(
            ("/v1/", "/files/", "/admin")
        ):
            yield target.path


def list_telltales() -> list[str]:
    """What an operator calls things, and where they lead."""
    said = [text for channel in Channel.objects.all() for text in (channel.name, channel.base_url)]
    aliases = Offer.objects.values_list("upstream_model", flat=True).distinct()
    return said + [alias for alias in aliases if not ImageModel.objects.filter(name=alias).exists()]


def find_all_leaks(found: dict[str, httpx.Response]) -> dict[str, set[str]]:
    telltales = list_telltales()
    leaks = {path: {leak.what for leak in find(response, telltales)} for path, response in found.items()}
    return {path: words for path, words in leaks.items() if words}


def find(response: httpx.Response, telltales: list[str]) -> list[Leak]:
    """Our own drawings are text; any other image would be a customer's picture."""
    if response.headers["Content-Type"] == "image/svg+xml":
        return find_words(response.text, telltales, "body")
    return find_leaks(response, telltales)


def test_no_page_asset_or_schema_names_a_carrier(server: RunningServer) -> None:
    Offer.objects.filter(model__name="qwen-image-max").update(upstream_model="secret-alias-77")
    Channel.objects.filter(kind="dashscope_async").update(name="Hangzhou main account")
    found = crawl(server)
    assert {path: answer.status_code for path, answer in found.items() if answer.status_code != 200} == {
        "/no/such/page": 404,
        "/models/no-such-model": 404,
    }
    kinds = {path.rpartition(".")[2] for path in found if "." in path}
    assert {"css", "js", "svg", "woff2", "md", "txt", "json", "xml"} <= kinds
    assert {"/playground", "/pricing", "/docs/api", "/docs/images/qwen", "/docs/images/qwen.md", "/models"} <= set(
        found
    )
    assert {"/openapi.json", "/api/pricing", "/llms.txt", "/models/qwen-image-max"} <= set(found)
    assert find_all_leaks(found) == {}
    assert {path for path, answer in found.items() if answer.cookies or "set-cookie" in answer.headers} == set()


def test_a_name_that_an_operator_writes_into_the_registry_would_be_found(server: RunningServer) -> None:
    ImageModel.objects.filter(name="qwen-image-max").update(
        description="Served by Alibaba Cloud, account Hangzhou main."
    )
    Channel.objects.filter(kind="dashscope_async").update(name="Hangzhou main")
    leaks = find_all_leaks(crawl(server))
    assert set(leaks) == {"/models/qwen-image-max", "/models/qwen-image-max.md", "/llms-full.txt"}
    assert {"alibaba", "hangzhou main"} <= leaks["/models/qwen-image-max"]
