"""Forms of the channels' admin. A secret goes in and never comes out again."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget

from models_registry.amounts import AmountField
from providers.adapters import find_option_faults, kinds
from providers.models import Channel, Offer

#: What an HTTP header can carry; a pasted line break or space is a mistake.
SECRET = re.compile(r"[!-~]+", re.ASCII)


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


class OfferForm(forms.ModelForm):
    cost_micros = AmountField(
        required=False, min_value=0, label="Cost per image", help_text="A plain decimal in the cost's currency."
    )

    class Meta:
        model = Offer
        fields = ()  # the admin names them


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
