"""CSV that every reader reads back, and no spreadsheet runs."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.csvtext import FORMULA_STARTS, render_lines, write_amount


def test_lines_are_those_of_rfc_4180() -> None:
    rows: list[list[str | int]] = [["a", 'say "hi"', "one,two"], ["line\nbreak", "", 7]]
    assert list(render_lines(rows)) == ['a,"say ""hi""","one,two"\r\n', '"line\nbreak",,7\r\n']


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("=1+1", "'=1+1\r\n"),
        ("+1", "'+1\r\n"),
        ("-1", "'-1\r\n"),
        ("@SUM(A1)", "'@SUM(A1)\r\n"),
        ("\tx", "'\tx\r\n"),
        ("\rx", '"\'\rx"\r\n'),
        ("1-1", "1-1\r\n"),
        ("'=1", "'=1\r\n"),
    ],
)
def test_text_is_never_a_formula(cell: str, line: str) -> None:
    assert list(render_lines([[cell]])) == [line]


def test_numbers_are_never_touched() -> None:
    assert list(render_lines([[write_amount(-200_000), write_amount(1), -5]])) == ["-0.200000,0.000001,-5\r\n"]


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4), max_size=4))
def test_what_is_written_is_read_back(rows: list[list[str]]) -> None:
    text = "".join(render_lines(rows))
    wanted = [[f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell for cell in row] for row in rows]
    assert list(csv.reader(io.StringIO(text, newline=""))) == wanted
