"""CSV as RFC 4180 has it, safe to open in a spreadsheet; rows in, lines out, so that any number fits in memory."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence

from billing.money import format_plain

CONTENT_TYPE = "text/csv; charset=utf-8"
#: A text cell that begins so is a formula to a spreadsheet.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
STARTS = frozenset(FORMULA_STARTS)


class Number(str):
    """Digits of ours, written as they are: a negative amount is no formula."""

    __slots__ = ()


Cell = str | int


def write_amount(micros: int) -> Number:
    """A plain decimal with six places; the currency is another column's."""
    return Number(format_plain(micros))


class Line:
    """A file whose `write` gives the line back: the csv module's own way of rendering without a buffer."""

    def write(self, text: str) -> str:
        return text


def render_lines(rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """One line a row, ended by CR LF. Text is neutralised, `int` and `Number` are not."""
    writer = csv.writer(Line(), lineterminator="\r\n")
    for row in rows:
        # Neutralised in place: tens of millions of cells pass here.
        yield writer.writerow([f"'{cell}" if type(cell) is str and cell[:1] in STARTS else cell for cell in row])
