"""A public page, as a reader has it: its words, tables, links and ids."""

from __future__ import annotations

from html.parser import HTMLParser

from django.test import Client

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "rect", "path"}


class Page(HTMLParser):
    """`rows` are the cells of each body row by its id, or by its first cell where it has none."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tables: list[list[list[str]]] = []
        self.rows: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self._row_id = ""
        self._into: list[str] | None = None
        self._heading = False
        self._main = 0
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "main":
            self._main += 1
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self._row_id = given.get("id", "")
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
            self._into = self.tables[-1][-1]
        elif tag in {"h1", "h2", "h3"}:
            self.headings.append("")
            self._heading = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "main":
            self._main -= 1
        elif tag in {"td", "th"}:
            self._into = None
        elif tag == "tr":
            row = [" ".join(cell.split()) for cell in self.tables[-1][-1]]
            self.tables[-1][-1] = row
            self.rows[self._row_id or row[0]] = row
        elif tag in {"h1", "h2", "h3"}:
            self._heading = False

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data
        if self._heading:
            self.headings[-1] += data
        if self._main:
            self.text += data + " "


def read_page(path: str) -> Page:
    response = Client().get(path)
    assert (response.status_code, response["Content-Type"]) == (200, "text/html; charset=utf-8"), path
    return Page(response.content.decode())
