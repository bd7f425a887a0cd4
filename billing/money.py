"""Money as integer micro-units: 10⁻⁶ CNY. Pure; text at the edges, float never.

InvalidAmount       text that is not an amount
"""

from __future__ import annotations

import re

MICROS = 1_000_000
AMOUNT = re.compile(r"(-?)([0-9]{1,9})(?:\.([0-9]{1,6}))?", re.ASCII)


class InvalidAmount(ValueError):
    """Not an amount of money: plain decimals with at most six places are."""


def parse(text: str) -> int:
    """`"12.5"` -> 12500000 micro-units. Exact or refused, never rounded."""
    match = AMOUNT.fullmatch(text.strip())
    if not match:
        raise InvalidAmount(f"{text!r} is not an amount: use a plain number with at most six decimals, like 12.50")
    sign, whole, fraction = match.groups()
    micros = int(whole) * MICROS + int((fraction or "").ljust(6, "0"))
    return -micros if sign else micros


def format_amount(micros: int) -> str:
    """For JSON and people: two to six decimals, `"0.20"`, `"-1.234567"`."""
    whole, fraction = split(micros)
    return f"{whole}.{fraction[:2]}{fraction[2:].rstrip('0')}"


def format_plain(micros: int) -> str:
    """For CSV: always six decimals."""
    whole, fraction = split(micros)
    return f"{whole}.{fraction}"


def split(micros: int) -> tuple[str, str]:
    sign = "-" if micros < 0 else ""
    whole, fraction = divmod(abs(micros), MICROS)
    return f"{sign}{whole}", f"{fraction:06d}"


def quote(*, unit_micros: int, images: int) -> int:
    """The price of some images: the only multiplication of money in the product; nothing is rounded."""
    return unit_micros * images


def discount(amount_micros: int, *, basis_points: int) -> int:
    """An amount less some hundredths of a percent, to the nearest micro-unit, halves up, and never nothing.

    THE ONE PLACE where an amount of money is rounded.
    """
    return max(1, (amount_micros * (10_000 - basis_points) + 5_000) // 10_000)
