"""Amounts where people type and read them: plain decimals outside, integer micro-units (10⁻⁶) inside."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

MICROS = 1_000_000
SIGNS = {"CNY": "¥"}
#: The smallest amount that can be written down.
ONE_MICRO = Decimal("0.000001")


def format_money(micros: int | None, currency: str = "CNY") -> str:
    """`200000` -> `"¥0.20"`: two to six decimals; a currency without a sign stands before its amount."""
    if micros is None:
        return "–"
    whole, fraction = divmod(abs(micros), MICROS)
    digits = f"{fraction:06d}"
    amount = f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}"
    return f"{'-' if micros < 0 else ''}{SIGNS.get(currency, currency + ' ')}{amount}"


class AmountField(forms.DecimalField):
    """An amount as people write it, `0.20`; cleans to micro-units. A seventh decimal is refused, never rounded."""

    widget = UnfoldAdminTextInputWidget

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_digits": 15, "decimal_places": 6, **kwargs})

    def clean(self, value: Any) -> Any:
        amount = super().clean(value)
        return None if amount is None else int(amount.scaleb(6))

    def prepare_value(self, value: Any) -> Any:
        return format_money(value, "").strip() if isinstance(value, int) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(None if initial is None else Decimal(initial).scaleb(-6), data)

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        return {**super().widget_attrs(widget), "inputmode": "decimal"}
