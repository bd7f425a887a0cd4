"""Sizes as carriers name them who render a few ratios only."""

from __future__ import annotations

from providers.adapters.base import Verdict
from providers.contract import Billed, Code, Scope

#: A size that this offer cannot be asked for, found before anything was sent; another may.
NOT_RENDERED = Verdict(Code.BAD_REQUEST, Billed.NO, Scope.OFFER)

_RATIOS = {"1:1": 1.0, "4:3": 4 / 3, "3:4": 3 / 4, "3:2": 3 / 2, "2:3": 2 / 3, "16:9": 16 / 9, "9:16": 9 / 16}
# 1664x928 is sold as 16:9, and pictures whose sides are off by more than this are not delivered.
_TOLERANCE = 0.02


def name_ratio(width: int, height: int) -> str | None:
    """The usual ratio that a size has, within 2 %; None if it has none of them."""
    asked = width / height
    name, ratio = min(_RATIOS.items(), key=lambda item: abs(item[1] / asked - 1))
    return name if abs(ratio / asked - 1) <= _TOLERANCE else None
