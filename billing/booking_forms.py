"""Forms of what people ask to be booked. The reference is drawn when a form is shown: sent twice, it books once."""

from __future__ import annotations

import uuid
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminSingleDateWidget, UnfoldAdminTextInputWidget

from billing.models import Account
from models_registry.amounts import ONE_MICRO, AmountField, format_money

FIRST_YEAR = 1970


def ask_line(label: str, help_text: str) -> forms.CharField:
    return forms.CharField(label=label, max_length=200, widget=UnfoldAdminTextInputWidget(), help_text=help_text)


class BookingForm(forms.Form):
    reference = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    @property
    def booking_reference(self) -> str:
        return f"admin-{self.cleaned_data['reference']}"


class DatedForm(BookingForm):
    book_on = forms.DateField(
        label="Date",
        required=False,
        widget=UnfoldAdminSingleDateWidget(),
        help_text="Empty is now. Neither in the future nor in a closed month.",
    )

    def clean_book_on(self) -> date | None:
        day: date | None = self.cleaned_data["book_on"]
        if day is not None and day.year < FIRST_YEAR:
            raise ValidationError(f"There were no books before {FIRST_YEAR}.")
        return day

    def find_moment(self, account: Account) -> datetime | None:
        """The beginning of the named day where the account is."""
        day = self.cleaned_data["book_on"]
        return day and datetime.combine(day, time(), ZoneInfo(account.time_zone))


class TopUpForm(DatedForm):
    """A payment."""

    amount = AmountField(label="Amount (¥)", min_value=ONE_MICRO, help_text="Plain CNY, like 100.00.")
    memo = ask_line("Memo", "Where the money came from.")
    field_order = ("amount", "memo", "book_on")


class AdjustForm(DatedForm):
    """A correction of either sign. `seen` is the amount whose effect on the balance was shown."""

    amount = AmountField(
        label="Amount (¥)", help_text="What is added to the balance: 12.50 gives to the customer, -12.50 takes."
    )
    memo = ask_line("Reason", "Why the balance is not right without it. It stands in the books.")
    seen = forms.CharField(widget=forms.HiddenInput, required=False)
    field_order = ("amount", "memo", "book_on")

    def clean_amount(self) -> int:
        amount: int = self.cleaned_data["amount"]
        if amount == 0:
            raise ValidationError("An adjustment must not be zero.")
        return amount

    def is_seen(self) -> bool:
        return self.cleaned_data["seen"] == str(self.cleaned_data["amount"])

    def show_effect(self) -> AdjustForm:
        """The same form again, to be sent once its effect was read."""
        return AdjustForm(dict(self.data.items()) | {"seen": str(self.cleaned_data["amount"])})


class RefundForm(BookingForm):
    """What is given back of a charge, of which this much is left."""

    memo = ask_line("Reason", "Why it is given back. It stands in the books.")
    field_order = ("amount", "memo")

    def __init__(self, data: Any = None, *, left_micros: int) -> None:
        super().__init__(data)
        self.fields["amount"] = AmountField(
            label="Amount (¥)",
            min_value=ONE_MICRO,
            initial=left_micros,
            help_text=f"{format_money(left_micros)} of this charge is not refunded yet.",
        )
        self.order_fields(self.field_order)


class ReasonForm(forms.Form):
    reason = ask_line("Reason", "Who asked for the booking reads it.")
