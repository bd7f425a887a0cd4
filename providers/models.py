"""Channels, their credentials, and what each offers to serve."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from models_registry.catalog import publish
from models_registry.models import ImageModel
from providers import credentials
from providers.adapters import get_adapter_class, kinds
from providers.sizes import find_size_faults


def list_kinds() -> list[tuple[str, str]]:
    return [(kind, kind) for kind in kinds()]


class UpstreamAccount(models.Model):
    """An account at a carrier: its limits are shared by all of its keys, and so by all channels on it."""

    name = models.CharField(max_length=100, unique=True)
    polls_per_s = models.PositiveSmallIntegerField(
        "task queries per second", null=True, blank=True, help_text="Over all models and processes; empty: no limit."
    )
    note = models.TextField(blank=True)
    polls_reserved_until_ms = models.BigIntegerField(default=0, editable=False, help_text="Epoch milliseconds.")
    history = HistoricalRecords(excluded_fields=["polls_reserved_until_ms"])

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(polls_per_s=None) | Q(polls_per_s__gte=1), name="account_polls_positive")
        ]

    def __str__(self) -> str:
        return self.name


class Capacity(models.Model):
    """What an upstream account can take of one model. Every process asks this row before it submits.

    At most `submit_burst` submits start within any `submit_burst * submit_interval_ms` milliseconds, and at most
    `max_running` calls run at a time. `running` is the number of attempts that name this row and have not ended.
    """

    account = models.ForeignKey(UpstreamAccount, on_delete=models.CASCADE, related_name="capacities")
    upstream_model = models.CharField(
        max_length=128, blank=True, help_text="The carrier's name for it; empty: all that have no line of their own."
    )
    submit_interval_ms = models.PositiveIntegerField(
        "submit interval (ms)", null=True, blank=True, help_text="2 a minute is 30000; empty: no limit."
    )
    submit_burst = models.PositiveSmallIntegerField(
        default=1, help_text="How many submits of a longer window may start at once: 2 for a limit of 2 a minute."
    )
    max_running = models.PositiveIntegerField(
        "calls at a time", null=True, blank=True, help_text="Submitted and not ended; empty: no limit."
    )
    starts = models.JSONField(default=list, editable=False, help_text="The latest submits, epoch milliseconds.")
    running = models.PositiveIntegerField(default=0, editable=False)
    call_ms = models.PositiveIntegerField(default=0, editable=False, help_text="How long a call takes, lately.")
    history = HistoricalRecords(excluded_fields=["starts", "running", "call_ms"])

    class Meta:
        verbose_name_plural = "capacities"
        ordering = ["account", "upstream_model"]
        constraints = [
            models.UniqueConstraint(fields=["account", "upstream_model"], name="one_capacity_per_model"),
            models.CheckConstraint(condition=Q(submit_burst__gte=1, submit_burst__lte=100), name="capacity_burst_sane"),
            models.CheckConstraint(
                condition=Q(submit_interval_ms=None) | Q(submit_interval_ms__gte=1), name="capacity_interval_positive"
            ),
            models.CheckConstraint(condition=Q(max_running=None) | Q(max_running__gte=1), name="capacity_some_running"),
        ]

    def __str__(self) -> str:
        return f"{self.account}: {self.upstream_model or 'all other models'}"


class Channel(models.Model):
    """One way into an upstream account at one carrier. Invisible to customers, whatever happens."""

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=32, choices=list_kinds, help_text="The carrier protocol: which adapter speaks.")
    base_url = models.URLField(max_length=300, help_text="Where the adapter's paths begin.")
    options = models.JSONField(default=dict, blank=True, help_text="Adapter options, such as a workspace id.")
    account = models.ForeignKey(
        UpstreamAccount,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="channels",
        verbose_name="upstream account",
        help_text="Whose limits hold; empty: none are known.",
    )
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=300, blank=True)
    draining_since = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="It takes nothing new, and is disabled when its calls have ended.",
    )
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
    sizes = models.JSONField(
        default=list, blank=True, help_text='Sizes that it renders, such as ["1328x1328"]; empty: every size.'
    )
    enabled = models.BooleanField(default=True)
    canary_percent = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Takes this share of the model's requests, and no others; empty: no canary."
    )
    canary_min_success = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Percent of its recent calls; below it the canary falls back."
    )
    canary_max_latency_s = models.PositiveIntegerField(
        null=True, blank=True, help_text="Mean of its recent calls, in seconds; above it the canary falls back."
    )
    canary_fallen_at = models.DateTimeField(null=True, blank=True, editable=False)
    canary_fallen_reason = models.CharField(max_length=300, blank=True, editable=False)
    shadow_percent = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="Gets copies of this share of the requests of accounts that agreed; their results reach no customer. "
        "An offer with a share serves no customer. Empty: no shadow.",
    )
    shadow_per_day = models.PositiveIntegerField(
        default=0, help_text="At most this many copies a day; we pay for them."
    )
    history = HistoricalRecords(excluded_fields=["canary_fallen_at", "canary_fallen_reason"])

    class Meta:
        ordering = ["model", "priority", "id"]
        constraints = [
            models.UniqueConstraint(fields=["channel", "model", "upstream_model"], name="one_offer_once"),
            models.CheckConstraint(condition=Q(max_n__gte=1), name="offer_max_n_positive"),
            models.CheckConstraint(
                condition=(Q(canary_percent=None) | Q(canary_percent__gte=1, canary_percent__lte=100))
                & (Q(shadow_percent=None) | Q(shadow_percent__gte=1, shadow_percent__lte=100))
                & (Q(canary_min_success=None) | Q(canary_min_success__lte=100)),
                name="offer_percents_sane",
            ),
            models.CheckConstraint(
                condition=Q(canary_percent=None) | Q(shadow_percent=None), name="offer_canary_or_shadow"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} via {self.channel}"

    def clean(self) -> None:
        """An offer promises what its adapter speaks, and no more than the model is."""
        channel: Any = getattr(self, "channel", None)
        faults: dict[str, str | list[str]] = {}
        if channel is not None and channel.kind in kinds() and self.shape:
            adapter = get_adapter_class(channel.kind)
            if adapter.shape != self.shape:
                faults["shape"] = f"{channel.kind} is {adapter.shape}"
            if self.genuine and self.upstream_model.lower() in adapter.open_weights:
                faults["genuine"] = f"{self.upstream_model} has open weights at {channel.kind}: it is another model"
        if self.sizes and self.model_id and (wrong := find_size_faults(self.sizes, publish(self.model, None))):
            faults["sizes"] = wrong
        if faults:
            raise ValidationError(faults)


class OfferHealth(models.Model):
    """What recent calls say of an offer. Without a row nothing is known, and its circuit is closed."""

    class Circuit(models.TextChoices):
        CLOSED = "closed", "closed"
        OPEN = "open", "open"
        HALF_OPEN = "half_open", "half-open"

    offer = models.OneToOneField(Offer, primary_key=True, on_delete=models.CASCADE, related_name="health")
    circuit = models.CharField(max_length=9, choices=Circuit.choices, default=Circuit.CLOSED)
    reason = models.CharField(max_length=300, blank=True)
    changed_at = models.DateTimeField(null=True, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True, help_text="When an open circuit is probed next.")
    pause_s = models.PositiveIntegerField(
        default=0, help_text="How long it stays open; doubles with each failed probe."
    )
    probe_owner = models.CharField(max_length=60, blank=True, help_text="Who has the one probe of a half-open circuit.")
    probe_until = models.DateTimeField(null=True, blank=True, help_text="When that probe is given up.")
    cooling_until = models.DateTimeField(null=True, blank=True)
    cooling_reason = models.CharField(max_length=300, blank=True)
    recent = models.JSONField(
        default=list, help_text="The latest calls, newest last: [epoch seconds, 1 or 0, milliseconds, code]."
    )
    latency_ms = models.PositiveIntegerField(default=0, help_text="How long a call that succeeds takes, lately.")

    class Meta:
        verbose_name_plural = "health of offers"

    def __str__(self) -> str:
        return f"{self.offer}: {self.get_circuit_display()}"


class Alert(models.Model):
    """Something that needs a person. The same trouble again raises the count of the one that is open."""

    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=150, help_text="What it is about: `channel 3`, `offer 7`.")
    channel = models.ForeignKey(Channel, null=True, blank=True, on_delete=models.CASCADE, related_name="alerts")
    text = models.CharField(max_length=500)
    times = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"], condition=Q(resolved_at=None), name="one_open_alert_per_subject"
            )
        ]

    def __str__(self) -> str:
        return self.text


class Swap(models.Model):
    """One model moved from one channel to another, and what it takes to move it back."""

    model = models.ForeignKey(ImageModel, on_delete=models.PROTECT, related_name="+")
    from_channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="+")
    to_channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="+")
    before = models.JSONField(help_text="The offers as they were: [{offer, enabled, priority, weight}].")
    after = models.JSONField(help_text="The same as the swap left them.")
    actor = models.CharField(max_length=150, blank=True)
    at = models.DateTimeField(default=timezone.now)
    undone_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.model}: {self.from_channel} -> {self.to_channel}"
