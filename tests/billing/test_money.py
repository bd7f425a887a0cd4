import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import InvalidAmount, format_amount, format_plain, parse, quote


@pytest.mark.parametrize(
    ("text", "micros"),
    [("0.20", 200_000), ("12", 12_000_000), ("-1.5", -1_500_000), (" 0.000001 ", 1), ("999999999.999999", 10**15 - 1)],
)
def test_parse(text: str, micros: int) -> None:
    assert parse(text) == micros


@pytest.mark.parametrize("text", ["", "1e3", "0.0000001", "1,5", "٣", "+1", "NaN", "0x1", "1.", ".5", "--1", "1 2"])
def test_parse_refuses_what_is_not_exact(text: str) -> None:
    with pytest.raises(InvalidAmount):
        parse(text)


@pytest.mark.parametrize(
    ("micros", "shown", "plain"),
    [
        (200_000, "0.20", "0.200000"),
        (0, "0.00", "0.000000"),
        (-1, "-0.000001", "-0.000001"),
        (1_230_000, "1.23", "1.230000"),
        (-12_345_600, "-12.3456", "-12.345600"),
    ],
)
def test_format(micros: int, shown: str, plain: str) -> None:
    assert (format_amount(micros), format_plain(micros)) == (shown, plain)


@given(st.integers(-(10**15) + 1, 10**15 - 1))
def test_text_and_micros_are_the_same_amount(micros: int) -> None:
    assert parse(format_amount(micros)) == parse(format_plain(micros)) == micros


def test_quote_is_exact() -> None:
    assert quote(unit_micros=200_000, images=6) == 1_200_000
