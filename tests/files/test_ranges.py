from __future__ import annotations

import pytest

from crazyrouter.files.ranges import Span, Unsatisfiable, parse_range


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=0-99", Span(0, 100)),
        ("bytes=0-", Span(0, 100)),
        ("bytes=90-", Span(90, 10)),
        ("bytes=99-", Span(99, 1)),
        ("bytes=10-19", Span(10, 10)),
        ("bytes=90-1000", Span(90, 10)),
        ("bytes=-1", Span(99, 1)),
        ("bytes=-100", Span(0, 100)),
        ("bytes=-5000", Span(0, 100)),
        ("Bytes=5-6", Span(5, 2)),
        (" bytes=5-6 ", Span(5, 2)),
        ("bytes=999999999999999999-", None),
    ],
)
def test_single_ranges(header, span):
    if span is None:
        with pytest.raises(Unsatisfiable):
            parse_range(header, size=100)
    else:
        assert parse_range(header, size=100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_outside_the_file(header):
    with pytest.raises(Unsatisfiable):
        parse_range(header, size=100)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=0-1,3-4",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=١-٢",
        "bytes=1-2-3",
        "items=0-1",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_everything_else_is_answered_whole(header):
    assert parse_range(header, size=100) is None


def test_description():
    assert Span(10, 10).describe(100) == "bytes 10-19/100"
