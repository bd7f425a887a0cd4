"""Forms of the billing admin: people write plain CNY and lists of names, the columns hold micro-units and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from billing.ledger import LedgerError, check_zone
from billing.limits import InvalidLimit, parse_models, parse_networks
from billing.models import Account, AccountPrice, ApiKey
from billing.prices import PriceRefused, check_terms
from models_registry.amounts import ONE_MICRO, AmountField
from models_registry.models import ImageModel

#: The columns of `billing.models.Limits` that people set.
LIMITS = (
    "spend_limit_micros",
    "monthly_spend_limit_micros",
    "requests_per_minute",
    "max_in_flight",
    "allowed_models",
    "allowed_networks",
)


class NamesField(forms.CharField):
    """A list of names as people write it, `a, b`; cleans to a list of strings."""

    def parse(self, text: str) -> list[str]:
        raise NotImplementedError

    def clean(self, value: Any) -> Any:
        try:
            return self.parse(super().clean(value))
        except InvalidLimit as refused:
            raise ValidationError(str(refused)) from None

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Sequence[str] | None, data: Any) -> bool:
        try:
            return self.parse(data or "") != list(initial or ())
        except InvalidLimit:
            return True


class ModelsField(NamesField):
    widget = UnfoldAdminTextInputWidget

    def parse(self, text: str) -> list[str]:
        return parse_models(text, set(ImageModel.objects.values_list("name", flat=True)))


class NetworksField(NamesField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"widget": UnfoldAdminTextareaWidget(attrs={"rows": 2}), **kwargs})

    def parse(self, text: str) -> list[str]:
        return parse_networks(text)


class LimitsForm(forms.ModelForm):
    """What accounts and keys have in common: what is empty has no limit."""

    spend_limit_micros = AmountField(
        label="Spend limit (¥)", required=False, min_value=0, help_text="Ever, in all. Refunds do not give it back."
    )
    monthly_spend_limit_micros = AmountField(
        label="Spend limit a month (¥)", required=False, min_value=0, help_text="Months of the account's time zone."
    )
    requests_per_minute = forms.IntegerField(
        label="Requests per minute",
        required=False,
        min_value=1,
        max_value=1_000_000,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="A window of 60 s begins with its first request.",
    )
    max_in_flight = forms.IntegerField(
        label="Generations in flight",
        required=False,
        min_value=1,
        max_value=1_000_000,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="At the same moment.",
    )
    allowed_models = ModelsField(
        label="Allowed models",
        required=False,
        help_text="Like qwen-image-plus, qwen-image-max. Empty: every model.",
    )
    allowed_networks = NetworksField(
        label="Allowed networks",
        required=False,
        help_text="Like 203.0.113.0/24, 2001:db8::/32, 198.51.100.7. Empty: from anywhere.",
    )


class AccountForm(LimitsForm):
    credit_limit_micros = AmountField(
        label="Credit limit (¥)",
        min_value=0,
        initial=0,
        help_text="How far below zero the account may go. A lower one than is used stops new requests only.",
    )

    class Meta:
        model = Account
        fields = ()  # the admin names them
        help_texts = {"time_zone": "Its days and months are cut in it. Fixed by the first month that is closed."}

    def clean_time_zone(self) -> str:
        name: str = self.cleaned_data["time_zone"]
        if "time_zone" not in self.changed_data:
            return name
        if self.instance.closed_until is not None:
            raise ValidationError(f"a month was closed in {self.initial['time_zone']}: it stays")
        try:
            check_zone(name)
        except LedgerError as refused:
            raise ValidationError(str(refused)) from None
        return name


class ApiKeyForm(LimitsForm):
    class Meta:
        model = ApiKey
        fields = ("account", "name", "expires_at", "enabled")

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment is not None and "expires_at" in self.changed_data and moment <= timezone.now():
            raise ValidationError("this is in the past: revoke the key instead")
        return moment


class AccountPriceForm(forms.ModelForm):
    """A new version of what is agreed with an account. What was sold keeps the price that it was sold at."""

    amount = AmountField(
        label="Fixed price per image (¥)", required=False, min_value=ONE_MICRO, help_text="Plain CNY, like 0.18."
    )
    discount = forms.DecimalField(
        label="Discount on the list price (%)",
        required=False,
        max_value=Decimal("99.99"),
        decimal_places=2,
        min_value=0,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
        help_text="Like 12.5. An image then costs the list price less this, to the nearest millionth.",
    )
    effective_from = forms.SplitDateTimeField(
        required=False, widget=UnfoldAdminSplitDateTimeWidget(), help_text="Empty: from now on."
    )

    class Meta:
        model = AccountPrice
        fields = ("account", "model", "kind", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.pop("effective_from", None)

    def clean_effective_from(self) -> datetime | None:
        moment: datetime | None = self.cleaned_data["effective_from"]
        if moment is not None and moment < timezone.now():
            raise ValidationError("this is in the past: leave it empty for a price that holds from now on")
        return moment

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            discount = cleaned.get("discount")
            cleaned["terms"] = {
                "kind": cleaned["kind"],
                "amount_micros": cleaned.get("amount"),
                "discount_basis_points": None if discount is None else int(discount * 100),
            }
            try:
                check_terms(**cleaned["terms"])
            except PriceRefused as refused:
                raise ValidationError(str(refused)) from None
            for column, value in cleaned["terms"].items():
                setattr(self.instance, column, value)
        return cleaned
