"""The page of errors and outcomes: it says what the tables say, to anybody, and names no carrier."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from crazyrouter.api.errors import KINDS
from crazyrouter.generation.outcomes import TABLE, Key, Next, Pays, Row
from crazyrouter.pages import views
from crazyrouter.pages.outcomes import mark_code
from tests.api.test_anonymity import FORBIDDEN


class Tables(HTMLParser):
    """The cells of each body row by the row's id, and where the page's own links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[str]] = {}
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self._cells: list[str] = []
        self._within = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        self.links |= {given["href"]} if tag == "a" else set()
        if tag == "tr":
            self._cells = self.rows.setdefault(given.get("id", ""), [])
        elif tag in {"td", "th"}:
            self._cells.append("")
            self._within = True

    def handle_endtag(self, tag: str) -> None:
        self._within = self._within and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self._within:
            self._cells[-1] += data


def read_page() -> Tables:
    response = Client().get("/docs/errors")
    assert response.status_code == 200
    return Tables(response.content.decode())


def test_every_outcome_is_told() -> None:
    page = read_page()
    shown = [name.removeprefix("outcome-") for name in page.rows if name.startswith("outcome-")]
    assert shown == [row.name for row in TABLE]
    for row in TABLE:
        happened, answer, retry, pays, key, follows = page.rows[f"outcome-{row.name}"]
        assert happened == row.happened.replace("`", "")
        assert (row.code in answer, str(row.status or "") in answer) == (True, True)
        assert ("x-should-retry: false" in retry) == (not row.should_retry)
        assert (pays, follows) == (row.pays, row.next.replace("`", ""))
        assert key == ("–" if row.key is Key.UNDECIDED else row.key)


def test_rows_that_a_customer_looks_up() -> None:
    rows = read_page().rows
    assert rows["outcome-refused"][1:5] == ["one of the errors below", "as that error says", "nothing", "not taken"]
    assert rows["outcome-timeout"][1:5] == [
        "504 generation_timeout",
        "x-should-retry: false",
        "the images, if they end up stored",
        "kept",
    ]
    assert rows["outcome-no-capacity"][1:5] == ["429 rate_limit_exceeded", "Retry-After: 10", "nothing", "freed"]
    assert rows["error-no_channel_available"] == [
        "no_channel_available",
        "503",
        "service_unavailable",
        "Retry-After: 10",
        "The model cannot be served right now. Nothing was charged.",
    ]


def test_every_error_is_told() -> None:
    page = read_page()
    shown = {name.removeprefix("error-"): cells for name, cells in page.rows.items() if name.startswith("error-")}
    assert set(shown) == set(KINDS)
    for code, kind in KINDS.items():
        name, status, kind_of, retry, message = shown[code]
        assert (name, status, kind_of, message) == (code, str(kind.status), kind.type, kind.message)
        assert ("x-should-retry: false" in retry) == (not kind.may_retry)
    statuses = [int(cells[1]) for cells in shown.values()]
    assert statuses == sorted(statuses)


def test_a_new_row_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    new = Row("new", "A <new> thing with `code`.", status=418, code="teapot", pays=Pays.ONCE, next=Next.COLLECT)
    monkeypatch.setattr(views, "TABLE", (*TABLE, new))
    cells = read_page().rows["outcome-new"]
    assert cells[:4] == ["A <new> thing with code.", "418 teapot", "–", "once"]


def test_links_on_the_page_lead_somewhere() -> None:
    page = read_page()
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert {link for link in page.links if not link.startswith("#")} == {"/docs/errors"}


def test_anybody_may_read_it_and_nothing_is_kept_of_them() -> None:
    response = Client().get("/docs/errors")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "public, max-age=300"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert not response.cookies
    assert Client().head("/docs/errors").status_code == 200
    assert Client().post("/docs/errors").status_code == 405


def test_it_names_no_carrier_and_loads_nothing_from_elsewhere() -> None:
    html = Client().get("/docs/errors").content.lower()
    style = finders.find("crazyrouter/pages.css")
    assert isinstance(style, str)
    with open(style, "rb") as file:  # noqa: PTH123 - as the finder gives it
        css = file.read().lower()
    carriers = [word for word in FORBIDDEN if word != b"request id"] + [b"fal.ai", b"upstream_model"]
    assert [word for word in carriers if word in html + css] == []
    assert b"<script" not in html
    assert [part for part in html.split(b'"') if part.startswith((b"http", b"//"))] == []
    assert b"url(" not in css
    assert b"@import" not in css


def test_code_is_marked_and_the_rest_escaped() -> None:
    assert mark_code("a `b` <c> `d`") == "a <code>b</code> &lt;c&gt; <code>d</code>"
    assert mark_code("plain") == "plain"
    assert mark_code("") == ""
