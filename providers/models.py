"""Channels, their credentials, and what each offers to serve."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from models_registry.models import ImageModel
from providers import credentials
from providers.adapters import get_adapter_class, kinds


def list_kinds() -> list[tuple[str, str]]:
    return [(kind, kind) for kind in kinds()]


class Channel(models.Model):
    """One upstream account at one carrier. Invisible to customers, whatever happens."""

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=32, choices=list_kinds, help_text="The carrier protocol: which adapter speaks.")
    base_url = models.URLField(max_length=300, help_text="Where the adapter's paths begin.")
    options = models.JSONField(default=dict, blank=True, help_text="Adapter options, such as a workspace id.")
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=300, blank=True)
    retry_billed = models.PositiveSmallIntegerField(
        default=0, help_text="How often a slot may be ordered again although this channel may charge for the first try."
    )
    simulated = models.BooleanField(default=False, help_text="Its pictures are drawn by the simulator; never for sale.")
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if not isinstance(self.options, dict):
            raise ValidationError({"options": "must be a JSON object"})


class Credential(models.Model):
    """A channel's secret, encrypted. Append-only: the newest is used, attempts keep the one they were sent with."""

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="credentials")
    ciphertext = models.TextField(editable=False)
    last4 = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"…{self.last4}"

    def reveal(self) -> str:
        """The plaintext, for an adapter only. Raises CredentialUnreadable."""
        return credentials.decrypt(self.ciphertext)


def add_credential(channel: Channel, secret: str) -> Credential:
    """Append a secret; it is used for everything that starts from now on."""
    return Credential.objects.create(channel=channel, ciphertext=credentials.encrypt(secret), last4=secret[-4:])


class Offer(models.Model):
    """A channel's promise to serve one model: under which name, in which shape, at what cost, with what limits."""

    class Shape(models.TextChoices):
        SYNC = "sync", "sync"
        ASYNC = "async", "async"

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="offers")
    model = models.ForeignKey(ImageModel, on_delete=models.PROTECT, related_name="offers")
    upstream_model = models.CharField(max_length=128, help_text="The carrier's own name for the model.")
    shape = models.CharField(max_length=5, choices=Shape.choices)
    priority = models.IntegerField(default=0, help_text="Lower is tried first.")
    weight = models.PositiveIntegerField(default=1, help_text="Share among offers of the same priority; 0 is never.")
    max_n = models.PositiveSmallIntegerField("images per call", default=1)
    cost_micros = models.BigIntegerField(null=True, blank=True, help_text="What one image costs us, in micro-units.")
    cost_currency = models.CharField(max_length=3, default="CNY")
    genuine = models.BooleanField(default=True, help_text="Serves the very model that its public name says.")
    enabled = models.BooleanField(default=True)
    history = HistoricalRecords()

    class Meta:
        ordering = ["model", "priority", "id"]
        constraints = [
            models.UniqueConstraint(fields=["channel", "model", "upstream_model"], name="one_offer_once"),
            models.CheckConstraint(condition=Q(max_n__gte=1), name="offer_max_n_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.model} via {self.channel}"

    def clean(self) -> None:
        """An adapter speaks one shape; an offer cannot promise the other."""
        channel: Any = getattr(self, "channel", None)
        if channel is None or channel.kind not in kinds() or not self.shape:
            return
        if get_adapter_class(channel.kind).shape != self.shape:
            raise ValidationError({"shape": f"{channel.kind} is {get_adapter_class(channel.kind).shape}"})
