"""Every example of every public page, taken from the page as it is served, works as it is shown."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from models_registry.models import ImageModel
from tests.books import read_violations
from tests.pages.examples import PageRun, read_examples
from tests.pages.programs import Workshop, find
from tests.server import RunningServer
from tests.shop import Customer, open_customer
from tests.tools import find_node

pytestmark = pytest.mark.live

#: Pages at a time: most of an example's time is a program that starts.
POOL = 3
LOC = "{http://www.sitemaps.org/schemas/sitemap/0.9}loc"


@pytest.fixture
def server(customer: Customer) -> Iterator[RunningServer]:
    with RunningServer() as running:
        yield running


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        assert response.status == 200
        return str(response.read().decode())


def list_pages(server: RunningServer) -> list[str]:
    """The paths of the site map."""
    urls = [loc.text or "" for loc in ET.fromstring(fetch(f"{server.base_url}/sitemap.xml")).iter(LOC)]
    assert [url for url in urls if not url.startswith(f"{server.base_url}/")] == []
    return [url.removeprefix(server.base_url) for url in urls]


def run_page(server: RunningServer, path: str, customer: Customer, folder: Path) -> PageRun:
    """In order, as a customer of its own: what another page orders under the same key is none of its business."""
    folders = [folder / "files", folder / "programs"]
    for each in folders:
        each.mkdir(parents=True)
    page = PageRun(Workshop(folders[0], folders[1], server.base_url, customer.secret))
    try:
        page.run(read_examples(fetch(server.base_url + path)))
    except urllib.error.HTTPError as error:
        with error:
            page.faults.append(f"it answers {error.code}")
    return page


def test_every_example_works_as_it_is_shown(server: RunningServer, tmp_path: Path) -> None:
    paths = list_pages(server)
    models = [f"/models/{name}" for name in ImageModel.objects.values_list("name", flat=True)]
    assert {"/", "/pricing", "/playground", "/docs/errors", "/docs/images/qwen", *models} <= set(paths)
    customers = [open_customer(f"reader-{number}", micros=10**10) for number in range(len(paths))]
    folders = [tmp_path / str(number) for number in range(len(paths))]
    with ThreadPoolExecutor(POOL) as pool:
        runs = list(pool.map(run_page, [server] * len(paths), paths, customers, folders))
    faults = [f"{path}: {fault}" for path, run in zip(paths, runs, strict=True) for fault in run.faults]
    assert faults == [], "\n".join(["", *faults])
    ran = {path: set(run.ran) for path, run in zip(paths, runs, strict=True)}
    spellings = {"sh", "python", "http"} | ({"js"} if find(find_node) else set())
    assert {path: spellings - ran[path] for path in ["/docs/images/qwen", *models] if spellings - ran[path]} == {}
    assert read_violations() == []
