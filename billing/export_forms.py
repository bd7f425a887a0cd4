"""Forms of exports and of closing: which days or month, and of which accounts."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminDateWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing.models import Account, Export
from billing.periods import PeriodError, find_last_day, name_month, parse_month

#: As many accounts as an address can name.
MOST_ACCOUNTS = 100


def find_last_month() -> date:
    """The first day of the month before this one, in the default time zone of accounts."""
    today = timezone.now().astimezone(ZoneInfo(Account._meta.get_field("time_zone").default)).date()
    return (today.replace(day=1) - timedelta(days=1)).replace(day=1)


class AccountsField(forms.ModelMultipleChoiceField):
    """Some accounts, found by typing; none stands for all."""

    def __init__(self, **kwargs: Any) -> None:
        widget = AutocompleteSelectMultiple(
            Export._meta.get_field("account"), admin.site, attrs={"class": "unfold-admin-autocomplete"}
        )
        super().__init__(
            Account.objects.order_by("name"),
            **{"required": False, "widget": widget, "help_text": "Empty: all accounts.", **kwargs},
        )

    def clean(self, value: Any) -> Any:
        accounts = super().clean(value)
        if len(accounts) > MOST_ACCOUNTS:
            raise ValidationError(f"choose at most {MOST_ACCOUNTS} accounts, or none for all of them")
        return accounts


class ExportForm(forms.Form):
    kind = forms.ChoiceField(choices=Export.Kind.choices, widget=UnfoldAdminSelectWidget())
    first_day = forms.DateField(label="From", widget=UnfoldAdminDateWidget())
    last_day = forms.DateField(
        label="To", widget=UnfoldAdminDateWidget(), help_text="Included. Days are cut in each account's time zone."
    )
    accounts = AccountsField(help_text="Empty: all accounts in one file. Each account that is named has its own.")
    with_bom = forms.BooleanField(
        label="Byte order mark", required=False, widget=UnfoldBooleanSwitchWidget(), help_text="For old spreadsheets."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        month = find_last_month()
        self.initial = {"first_day": month, "last_day": find_last_day(month), **self.initial}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        first, last = cleaned.get("first_day"), cleaned.get("last_day")
        if first and last and last < first:
            self.add_error("last_day", f"this is before the first day, {first}")
        return cleaned


class CloseForm(forms.Form):
    month = forms.CharField(
        max_length=7, widget=UnfoldAdminTextInputWidget(), help_text="Like 2026-11, cut in each account's time zone."
    )
    accounts = AccountsField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial = {"month": name_month(find_last_month()), **self.initial}

    def clean_month(self) -> date:
        try:
            return parse_month(self.cleaned_data["month"])
        except PeriodError as error:
            raise ValidationError(str(error)) from None
