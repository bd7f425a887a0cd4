"""Forms of the billing admin: people write plain CNY, the columns hold micro-units."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from billing.models import Account, ApiKey
from models_registry.amounts import AmountField


class AccountForm(forms.ModelForm):
    credit_limit_micros = AmountField(
        label="Credit limit (¥)", min_value=0, initial=0, help_text="How far below zero the account may go."
    )

    class Meta:
        model = Account
        fields = ()  # the admin names them

    def clean_time_zone(self) -> str:
        name: str = self.cleaned_data["time_zone"]
        try:
            ZoneInfo(name)
        except (ValueError, ZoneInfoNotFoundError, OSError):
            raise ValidationError("no such time zone: write one like Asia/Shanghai") from None
        return name


class ApiKeyForm(forms.ModelForm):
    class Meta:
        model = ApiKey
        fields = ("account", "name", "expires_at")

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment is not None and "expires_at" in self.changed_data and moment <= timezone.now():
            raise ValidationError("this is in the past: revoke the key instead")
        return moment
