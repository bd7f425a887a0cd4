"""Forms of the registry's admin: what the database cannot check, said where it was typed."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextareaWidget

from models_registry.amounts import ONE_MICRO, AmountField
from models_registry.catalog import parse_stored_size, read_range
from models_registry.limits import fits_range
from models_registry.models import ImageModel, Price

SIZE = re.compile(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", re.ASCII)
RANGE = ("min_pixels", "max_pixels", "multiple", "min_side", "max_side")


class ImageModelForm(forms.ModelForm):
    class Meta:
        model = ImageModel
        fields = ()  # the admin names them

    def clean_default_size(self) -> str:
        text: str = self.cleaned_data["default_size"]
        if not SIZE.fullmatch(text):
            raise ValidationError("write WIDTHxHEIGHT, like 1664x928")
        return text

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        given = [name for name in RANGE if cleaned.get(name) is not None]
        if given and len(given) < len(RANGE):
            raise ValidationError("a size range is whole or absent: fill in all five of its fields or none")
        return cleaned


class SizeFormSet(PaginationInlineFormSet):
    """The default size must be sold: it is what a request without a size gets."""

    def clean(self) -> None:
        super().clean()
        default = self.instance.default_size
        if any(self.errors) or not SIZE.fullmatch(default or ""):
            return
        kept = [form.instance for form in self.forms if form not in self.deleted_forms and form.instance.width]
        allowed = read_range(self.instance)
        if default not in map(str, kept) and not (allowed and fits_range(parse_stored_size(default), allowed)):
            raise ValidationError(f"the default size {default} is not among these sizes")


class PriceForm(forms.ModelForm):
    """A new price version. What was sold keeps the price it was sold at, so none may begin in the past."""

    amount = AmountField(label="Price per image (¥)", min_value=ONE_MICRO, help_text="Plain CNY, like 0.20.")
    effective_from = forms.SplitDateTimeField(
        required=False, widget=UnfoldAdminSplitDateTimeWidget(), help_text="Empty: from now on."
    )

    class Meta:
        model = Price
        fields = ("model", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.pop("effective_from", None)

    def clean_effective_from(self) -> datetime:
        now = timezone.now()
        moment: datetime | None = self.cleaned_data["effective_from"]
        if moment is not None and moment < now:
            raise ValidationError("this is in the past: leave it empty for a price that holds from now on")
        return moment or now

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        self.instance.amount_micros = cleaned.get("amount")
        self.instance.effective_from = cleaned.get("effective_from") or timezone.now()
        return cleaned


class MoveForm(forms.Form):
    """Why a model moves between Beta and verified."""

    reason = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}), help_text="The evidence; it stays in the record."
    )
