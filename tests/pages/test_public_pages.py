"""What holds for every public page: links lead somewhere, nothing is kept of readers, text of the registry is text."""

from __future__ import annotations

import gzip
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest
from django.contrib.staticfiles import finders
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from crazyrouter.generation.models import ServiceHour
from crazyrouter.pages import views
from crazyrouter.pages.facts import FIGURES
from crazyrouter.pages.markdown import escape_markdown, render_markdown
from models_registry.models import ImageModel, ImageSize, ModelFamily, Price
from tests.pages.reading import Page, read_page

pytestmark = pytest.mark.usefixtures("shop")

LOC = "{http://www.sitemaps.org/schemas/sitemap/0.9}loc"
BASE = "http://127.0.0.1:8000"
NAMES = ["qwen-image-plus", "qwen-image-max", "qwen-image-2.0", "qwen-image-2.0-pro"]
STATIC = re.compile(r'(?:src|href)="(/static/[^"]+)"')
EVIL = "<script>alert(1)</script> *bold* [x](javascript:alert(2)) `tick` | <b>&amp;"


def list_pages() -> list[str]:
    found = ET.fromstring(Client().get("/sitemap.xml").content)
    return [(loc.text or "").removeprefix(BASE) for loc in found.iter(LOC)]


def test_the_sitemap_has_every_page() -> None:
    assert list_pages() == [
        "/",
        "/models",
        *(f"/models/{name}" for name in NAMES),
        "/pricing",
        "/playground",
        "/docs/",
        *(f"/docs/{name}" for name in ("quickstart", "openai", "images/qwen", "outcomes", "errors", "idempotency")),
        *(f"/docs/{name}" for name in ("limits", "clients", "api")),
    ]
    assert f"Sitemap: {BASE}/sitemap.xml" in Client().get("/robots.txt").content.decode()


def test_every_link_leads_to_a_page_and_to_a_place_on_it() -> None:
    pages = {path: read_page(path) for path in list_pages()}
    for path, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            target, _, place = link.partition("#")
            if link.startswith("#") or target in pages:
                assert place == "" or place in pages[target or path].ids, f"{path} -> {link}"
            elif target != "/openapi.json" and target != "/api/pricing":
                assert Client().get(target).status_code == 200, f"{path} -> {link}"


def test_nothing_is_kept_of_readers_and_nothing_is_served_from_a_cache_unasked() -> None:
    for path in [*list_pages(), "/docs/errors.md", "/llms.txt", "/llms-full.txt", "/models.md", "/pricing.md"]:
        response = Client().get(path)
        assert (response.status_code, len(response.cookies)) == (200, 0), path
        assert "Cookie" not in response.get("Vary", ""), path
        assert set(response["Cache-Control"].split(", ")) == {"public", "no-cache"}
        again = Client().get(path, headers={"If-None-Match": response["ETag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert Client().head(path).status_code == 200
        assert Client(enforce_csrf_checks=True).post(path).status_code == 405


def test_whoever_can_read_it_gets_a_page_compressed_and_is_told_when_it_has_not_changed() -> None:
    plain = Client().get("/docs/api")
    small = Client().get("/docs/api", headers={"Accept-Encoding": "gzip"})
    assert (small["Content-Encoding"], small["Vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(small.content) == plain.content
    assert len(small.content) < len(plain.content) / 4
    both = {"Accept-Encoding": "gzip", "If-None-Match": small["ETag"]}
    same = Client().get("/docs/api", headers=both)
    assert (same.status_code, same["Vary"]) == (304, "Accept-Encoding")


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    for path in [*list_pages(), "/nothing"]:
        response = Client().get(path)
        policy = dict(part.split(" ", 1) for part in response["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["img-src"] == f"'self' data: blob: {BASE}"
        assert response["X-Frame-Options"] == "DENY"
        assert response["X-Content-Type-Options"] == "nosniff"
        html = response.content.decode()
        assert [tag for tag in re.findall(r"<script[^>]*>", html) if "src=" not in tag] == []
        assert re.findall(r"<style|\sstyle=|\son[a-z]+=", html) == []
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="([^"]+)"|<link[^>]*\shref="([^"]+)"', html)
        assert [one for pair in loaded for one in pair if one and not one.startswith("/")] == []


def test_the_admin_has_a_policy_of_its_own() -> None:
    policy = Client().get("/admin/login/")["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-inline' 'unsafe-eval'" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_model_that_is_not_there_is_a_helpful_404() -> None:
    ImageModel.objects.filter(name="qwen-image-plus").update(status="retired")
    for path, meant in (
        ("/models/qwen-image-pro", "/models/qwen-image-2.0-pro"),
        ("/models/qwen-image-plus", "/models/qwen-image-max"),
        ("/docs/quickstar", "/docs/quickstart"),
        ("/docs/images/gwen", "/docs/images/qwen"),
        ("/docs/idempotency/keys", "/docs/idempotency"),
        ("/price", "/pricing"),
    ):
        response = Client().get(path)
        near = response.content.decode().partition("Everything there is")[0]
        assert (response.status_code, response["Cache-Control"]) == (404, "no-store"), path
        assert f'href="{meant}"' in near, path
    for path in ("/models/qwen-image-plus.md", "/docs/nothing.md", "/docs/images/nothing.md", "/docs/index"):
        assert Client().get(path).status_code == 404, path


def test_what_is_not_there_is_said_without_a_database_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OperationalError("the database is gone")

    monkeypatch.setattr(views, "load_shop", fail)
    response = Client().get("/quickstart")
    near = response.content.decode().partition("Everything there is")[0]
    assert (response.status_code, response["Cache-Control"]) == (404, "no-store")
    assert 'href="/docs/quickstart"' in near


def test_what_is_not_there_is_told_as_text() -> None:
    html = Client().get("/<script>alert(1)</script>").content.decode()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_text_of_the_registry_is_text() -> None:
    ModelFamily.objects.update(title=EVIL[:100], summary=EVIL, notes=f"{EVIL}\n# {EVIL}\n1. {EVIL}")
    ImageModel.objects.filter(name="qwen-image-max").update(title=EVIL[:100], description=EVIL, capability="<i>&|*x*")
    for path in list_pages():
        page = read_page(path)
        assert "<script>alert" not in page.html, path
        assert "<b>" not in page.html, path
        assert "<i>" not in page.html, path
        assert [link for link in page.links if "javascript" in link] == [], path
    family, model = read_page("/docs/images/qwen"), read_page("/models/qwen-image-max")
    assert EVIL in family.text
    assert f"{EVIL} # {EVIL} 1. {EVIL}" in family.text
    assert EVIL in model.text
    assert family.tables[0][2][2] == "<i>&|*x*"
    text = Client().get("/docs/images/qwen.md").content.decode()
    assert "<script>alert" not in text.replace("\\<script\\>", "")


def test_a_model_page_shows_what_the_registry_says() -> None:
    page = read_page("/models/qwen-image-2.0")
    for said in (
        "verified since 3 March 2026",
        "sync generation",
        "¥0.20 / image",
        "2048x2048 default",
        "multiples of 16",
        "256 to 4096 pixels each",
        "262144 to 4194304 pixels in all",
        "1 to 6",
        "at most 1300 characters",
        "There were too few orders in the last 7 days",
        "Beta : the model works",
    ):
        assert said in page.text, said
    assert "/playground?model=qwen-image-2.0" in page.links
    assert "Beta since 3 March 2026" in read_page("/models/qwen-image-2.0-pro").text
    model = ImageModel.objects.get(name="qwen-image-2.0")
    ImageSize.objects.filter(model=model, width=1024).delete()
    Price.objects.create(model=model, amount_micros=123_456)
    changed = read_page("/models/qwen-image-2.0")
    assert "1024x1024" not in changed.text
    assert "¥0.123456 / image" in changed.text


@pytest.mark.parametrize("line", ["1. One", "2) Two", "# Head", "## Head", "- x", "+", "---", "- - -", "===", "-5 °C"])
def test_a_line_that_begins_like_markdown_is_text(line: str) -> None:
    html = render_markdown(f"before\n{escape_markdown(line)}\n\n- {escape_markdown(line)}\n").html
    assert html == f"<p>before\n{line}</p>\n<ul>\n<li>{line}</li>\n</ul>\n"


@pytest.mark.parametrize("name", ["a?b=c#d", "50% off", "画 图", "it's(a)|`b`", "x" * 64])
def test_any_name_leads_to_its_page(name: str) -> None:
    ImageModel.objects.filter(name="qwen-image-max").update(name=name)
    address = f"/models/{quote(name)}"
    assert address in list_pages()
    assert read_page(address).headings[0] == name
    for path in ("/models", "/pricing", "/docs/images/qwen", "/docs/limits", "/nothing"):
        assert address in Page(Client().get(path).content.decode()).links, path
    text = Client().get(f"{address}.md")
    assert text.status_code == 200
    for path in ("/llms.txt", "/models.md"):
        assert f"]({BASE}{address}.md)" in Client().get(path).content.decode(), path


def test_a_family_is_found_under_whatever_a_slug_may_be() -> None:
    for slug in ("Qwen_2", "index", "-"):
        ModelFamily.objects.update(slug=slug)
        assert f"/docs/images/{slug}" in list_pages()
        assert read_page(f"/docs/images/{slug}").headings[0] == "Qwen Image"
        assert Client().get(f"/docs/images/{slug}.md").status_code == 200


def test_an_example_can_be_bought() -> None:
    ImageModel.objects.update(verification="beta")
    model = ImageModel.objects.create(
        name="soon", title="Soon", execution_shape="sync", verification="verified", default_size="512x512"
    )
    Price.objects.create(model=model, amount_micros=1, effective_from=timezone.now() + timedelta(days=1))
    assert '"model": "qwen-image-max"' in read_page("/docs/quickstart").text


def test_a_default_that_is_not_listed_is_drawn_before_the_sizes_that_are() -> None:
    model = ImageModel.objects.get(name="qwen-image-2.0")
    ImageSize.objects.filter(model=model).exclude(width=1024).delete()
    assert "2048x2048 default 1024x1024" in read_page("/models/qwen-image-2.0").text
    ImageSize.objects.filter(model=model).delete()
    assert "Sizes 2048x2048 default Besides" in read_page("/models/qwen-image-2.0").text


def test_frames_are_in_proportion() -> None:
    html = read_page("/models/qwen-image-max").html
    frames = [(int(width), int(height)) for width, height in re.findall(r'<svg width="(\d+)" height="(\d+)"', html)]
    sizes = [(1664, 928), (1472, 1104), (1328, 1328), (1104, 1472), (928, 1664), (1024, 1024)]
    assert frames == [(round(width * 112 / 1664), round(height * 112 / 1664)) for width, height in sizes]


def test_times_and_availability_are_shown_once_there_are_enough_orders() -> None:
    model = ImageModel.objects.get(name="qwen-image-max")
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    # Bucket 107 is around 10.5 s.
    ServiceHour.objects.create(model=model, hour=hour, served=99, failed=1, latency={"107": 99})
    FIGURES.forget()
    page = read_page("/models/qwen-image-max")
    assert "ready within 11 s" in page.text
    assert "99 % of the orders of the last 30 days were served" in page.text
    assert "typically 11 s" in read_page("/models").text
    assert "| Availability over 30 days | 99 % |" in Client().get("/models/qwen-image-max.md").content.decode()
    assert "too few orders" in read_page("/models/qwen-image-2.0").text


def test_figures_are_kept_for_a_minute_and_the_registry_is_not(django_assert_num_queries: object) -> None:
    Client().get("/models")
    with django_assert_num_queries(5) as seen:  # type: ignore[operator]
        Client().get("/models")
    assert [query["sql"] for query in seen.captured_queries if "servicehour" in query["sql"]] == []


def test_a_model_without_a_price_or_a_family_is_not_in_the_way() -> None:
    ImageModel.objects.create(name="lonely", title="Lonely", execution_shape="sync", default_size="512x512")
    assert "/models/lonely" in list_pages()
    assert "Not on sale right now" in read_page("/models/lonely").text
    assert "/models/lonely" in read_page("/models").links
    assert "lonely" not in read_page("/pricing").html
    assert "lonely" not in read_page("/docs/images/qwen").html
    ImageModel.objects.update(status="hidden")
    for path in list_pages():
        assert read_page(path).headings, path
    assert "Nothing is on sale right now" in read_page("/").text
    assert '"model": "MODEL", "prompt": "A cat in the snow", "size": "1024x1024"' in read_page("/docs/quickstart").text


def test_each_page_is_markdown_too() -> None:
    text = Client().get("/docs/images/qwen.md")
    assert text["Content-Type"] == "text/markdown; charset=utf-8"
    body = text.content.decode()
    assert body.startswith("# Qwen Image\n\n`POST /v1/images/generations`\n")
    assert "| `qwen-image-max` | per image | ¥0.50 / image | verified |\n" in body
    assert "\n\n\n" not in body
    full = Client().get("/llms-full.txt").content.decode()
    for path in list_pages():
        if path.startswith("/docs/") and path != "/docs/":
            assert Client().get(f"{path}.md").content.decode() in full, path
    index = Client().get("/llms.txt").content.decode()
    assert index.startswith("# Crazyrouter\n\n> ")
    for link in re.findall(rf"\]\({BASE}(/[^)]+\.md)\)", index):
        assert Client().get(link).status_code == 200, link
    assert f"[qwen-image-max]({BASE}/models/qwen-image-max.md): ¥0.50 / image, verified" in index


def test_pages_are_light() -> None:
    """Under 100 KB without pictures, uncompressed: the page and all that it loads."""
    for path in list_pages():
        html = Client().get(path).content
        loaded = set(STATIC.findall(html.decode()))
        files = [Path(str(finders.find(name.removeprefix("/static/")))) for name in loaded]
        with_all = len(html) + sum(file.stat().st_size for file in files)
        assert with_all < 100_000, (path, with_all, sorted(loaded))
