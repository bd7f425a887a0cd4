"""Forms of the channels' admin. A secret goes in and never comes out again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from models_registry.amounts import AmountField
from providers.adapters import find_option_faults, kinds
from providers.models import Capacity, Channel, Offer, UpstreamAccount
from providers.sizes import split_sizes

#: What an HTTP header can carry; a pasted line break or space is a mistake.
SECRET = re.compile(r"[!-~]+", re.ASCII)
CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
LEAST_LIMIT = "at least 1; empty for no limit"


class UpstreamAccountForm(forms.ModelForm):
    class Meta:
        model = UpstreamAccount
        fields = ()  # the admin names them

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("polls_per_s") == 0:
            self.add_error("polls_per_s", LEAST_LIMIT)
        return cleaned


class CapacityForm(forms.ModelForm):
    class Meta:
        model = Capacity
        fields = ()  # the admin names them

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in ("submit_interval_ms", "max_running"):
            if cleaned.get(name) == 0:
                self.add_error(name, LEAST_LIMIT)
        burst = cleaned.get("submit_burst")
        if burst is not None and not 1 <= burst <= 100:
            self.add_error("submit_burst", "from 1 to 100")
        return cleaned


class ChannelForm(forms.ModelForm):
    secret = forms.CharField(
        required=False,
        min_length=8,
        max_length=500,
        label="New credential",
        help_text="The carrier's API key. Stored encrypted, never shown again; empty keeps the one in use.",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = Channel
        fields = ()  # the admin names them

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        newest = self.instance.credentials.first() if self.instance.pk else None
        if "secret" in self.fields:
            self.fields["secret"].widget.attrs["placeholder"] = str(newest) if newest else "none yet"

    def clean_secret(self) -> str:
        secret: str = self.cleaned_data["secret"]
        if secret and not SECRET.fullmatch(secret):
            raise ValidationError("a key consists of printable ASCII characters without spaces")
        return secret

    def clean_base_url(self) -> str:
        url: str = self.cleaned_data["base_url"]
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ValidationError("the address begins with https:// (or http:// for a carrier on this machine)")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValidationError("only scheme, host, port and path: a key belongs in the credential")
        return url

    def clean_options(self) -> dict[str, Any]:
        options = self.cleaned_data["options"]
        return {} if options is None else options

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        kind, options = cleaned.get("kind") or self.instance.kind, cleaned.get("options")
        if kind in kinds() and isinstance(options, dict):
            faults = find_option_faults(kind, options)
            if faults:
                self.add_error("options", faults)
        return cleaned


class SizesField(forms.CharField):
    """A list of sizes as people write it, `1328x1328, 1664x928`; cleans to a list of strings."""

    widget = UnfoldAdminTextInputWidget

    def clean(self, value: Any) -> Any:
        return split_sizes(super().clean(value))

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return split_sizes(data or "") != list(initial or ())


class OfferListForm(forms.ModelForm):
    """Some columns of an offer, wherever they are edited."""

    class Meta:
        model = Offer
        fields = ()  # the admin names them

    def add_error(self, field: str | None, error: Any) -> None:
        """What the model says of a column that this form leaves out stands above it."""
        if not hasattr(error, "error_dict"):
            super().add_error(field, error)
            return
        for name, found in error.error_dict.items():
            super().add_error(name if name in self.fields else None, found)


class OfferRowForm(OfferListForm):
    cost_micros = AmountField(
        required=False, min_value=0, label="Cost per image", help_text="A plain decimal in the cost's currency."
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("max_n") == 0:
            self.add_error("max_n", "at least 1")
        return cleaned


class OfferForm(OfferRowForm):
    sizes = SizesField(
        required=False,
        help_text="Those that it renders, like 1328x1328, 1664x928; other requests go round it. Empty: every size.",
    )

    class Meta(OfferListForm.Meta):
        labels = {
            "canary_percent": "Share (%)",
            "canary_min_success": "Least success (%)",
            "canary_max_latency_s": "Longest mean (s)",
            "shadow_percent": "Share (%)",
            "shadow_per_day": "Copies a day",
        }

    def clean_cost_currency(self) -> str:
        currency: str = self.cleaned_data["cost_currency"]
        if not CURRENCY.fullmatch(currency):
            raise ValidationError("three capital letters, like CNY")
        return currency

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name, fault in find_trial_faults(cleaned):
            self.add_error(name, fault)
        return cleaned


def find_trial_faults(cleaned: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What does not fit together in an offer's canary and shadow: (field, what is wrong)."""
    canary, shadow = cleaned.get("canary_percent"), cleaned.get("shadow_percent")
    for name, share in (("canary_percent", canary), ("shadow_percent", shadow)):
        if share is not None and not 1 <= share <= 100:
            yield name, "from 1 to 100; empty for none"
    if canary is not None and shadow is not None:
        yield "shadow_percent", "an offer on trial is either a canary or a shadow"
    elif shadow is not None and not cleaned.get("shadow_per_day"):
        yield "shadow_per_day", "say how many copies a day we pay for: 0 would send none"
    if (cleaned.get("canary_min_success") or 0) > 100:
        yield "canary_min_success", "from 0 to 100"
    if cleaned.get("canary_max_latency_s") == 0:
        yield "canary_max_latency_s", LEAST_LIMIT
    if canary is None:
        for name in ("canary_min_success", "canary_max_latency_s"):
            if cleaned.get(name) is not None:
                yield name, "this belongs to a canary: give it a share, or leave this empty"


class SwapForm(forms.Form):
    """Which channel takes over: any other that has an offer for the model."""

    to_channel = forms.ModelChoiceField(
        Channel.objects.none(), label="Serve it by", empty_label="Select a channel", widget=UnfoldAdminSelectWidget()
    )

    def __init__(self, data: Any, *, offer: Offer) -> None:
        super().__init__(data)
        field: Any = self.fields["to_channel"]
        others = Channel.objects.filter(offers__model=offer.model_id).exclude(pk=offer.channel_id)
        field.queryset = others.distinct().order_by("name")
