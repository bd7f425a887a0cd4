"""From a plan to bytes, a piece at a time: what is in memory does not grow with what is exported."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from billing.csvtext import Cell, render_lines
from billing.exports import entries, statements
from billing.exports.plans import Order, Plan
from billing.models import Export

BOM = b"\xef\xbb\xbf"
#: Lines that are encoded and handed on together.
PIECE = 1000

WRITERS: dict[str, Callable[[Plan], Iterator[Sequence[Cell]]]] = {
    Export.Kind.CHARGES: entries.write_charges,
    Export.Kind.LEDGER: entries.write_ledger,
    Export.Kind.STATEMENT: statements.write_statements,
}
HEADERS: dict[str, Sequence[str]] = {
    Export.Kind.CHARGES: entries.CHARGES_HEADER,
    Export.Kind.LEDGER: entries.LEDGER_HEADER,
    Export.Kind.STATEMENT: statements.STATEMENT_HEADER,
}


def write_rows(plan: Plan) -> Iterator[Sequence[Cell]]:
    """The lines below the header."""
    return WRITERS[plan.order.kind](plan)


def stream_export(plan: Plan, *, bom: bytes = b"") -> Iterator[tuple[bytes, int]]:
    """The file in pieces, each with the number of rows so far; the header and a `bom` come first."""
    if plan.frozen is not None:
        yield bom + plan.frozen.encode(), count_rows(plan.frozen)
        return
    lines = render_lines(chain([HEADERS[plan.order.kind]], write_rows(plan)))
    yield bom + next(lines).encode(), 0
    rows = 0
    while piece := list(islice(lines, PIECE)):
        rows += len(piece)
        yield "".join(piece).encode(), rows


def count_rows(text: str) -> int:
    """Rows below the header; a cell may hold line breaks."""
    return sum(1 for _ in csv.reader(io.StringIO(text, newline=""))) - 1


def name_file(order: Order) -> str:
    """Like `charges-2026-11-01-to-2026-11-30.csv`; with the account's id where it is of one."""
    account = "" if order.account_id is None else f"-account-{order.account_id}"
    return f"{order.kind}{account}-{order.first_day}-to-{order.last_day}.csv"
