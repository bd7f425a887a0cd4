"""Accounts, keys, holds and ledger entries. Only `billing.ledger` writes an amount."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone


class Account(models.Model):
    """Who pays. The amounts are projections: balance = Σ entries, held = Σ open holds; `reconcile` proves both."""

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"

    name = models.CharField(max_length=100, unique=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    balance_micros = models.BigIntegerField(default=0, editable=False)
    held_micros = models.BigIntegerField(default=0, editable=False)
    credit_limit_micros = models.BigIntegerField(default=0, help_text="How far below zero the account may go.")
    sequence = models.BigIntegerField(default=0, editable=False, help_text="Number of the last ledger entry.")
    time_zone = models.CharField(max_length=64, default="Asia/Shanghai")
    closed_until = models.DateTimeField(null=True, blank=True, editable=False, help_text="End of the last closed month")
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(held_micros__gte=0), name="held_not_negative"),
            models.CheckConstraint(condition=Q(credit_limit_micros__gte=0), name="credit_limit_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def available_micros(self) -> int:
        """What new work may still reserve."""
        return self.balance_micros + self.credit_limit_micros - self.held_micros


class ApiKey(models.Model):
    """A secret that orders for an account. Only its keyed hash is stored; the prefix is for people."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="keys")
    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=24, unique=True, editable=False)
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    spent_micros = models.BigIntegerField(default=0, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=Q(spent_micros__gte=0), name="spent_not_negative")]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    def is_usable(self) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())


class Hold(models.Model):
    """Money reserved for one generation before an upstream is called. `reference` is the generation's id."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        SETTLED = "settled", "Settled"
        RELEASED = "released", "Released"

    reference = models.CharField(max_length=40)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="holds")
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.PROTECT, related_name="holds", db_index=False)
    amount_micros = models.BigIntegerField()
    captured_micros = models.BigIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    created_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            # Not `unique=True`: that would add an index for LIKE, which nobody asks and every insert pays.
            models.UniqueConstraint(fields=["reference"], name="one_hold_per_reference"),
            models.CheckConstraint(condition=Q(amount_micros__gt=0), name="hold_positive"),
            models.CheckConstraint(
                condition=Q(captured_micros__gte=0, captured_micros__lte=F("amount_micros")),
                name="captured_within_hold",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reference} {self.state}"


class LedgerEntry(models.Model):
    """One movement of money; append-only, enforced by database triggers. `sequence` is the order of the books.

    It carries what is needed to read it years later. Charges are negative, top-ups and refunds positive.
    A charge's reference is the generation's id and its line the slot: one charge per delivered image.
    """

    class Kind(models.TextChoices):
        TOP_UP = "top_up", "Top-up"
        CHARGE = "charge", "Charge"
        REFUND = "refund", "Refund"
        ADJUSTMENT = "adjustment", "Adjustment"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="entries")
    sequence = models.BigIntegerField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    amount_micros = models.BigIntegerField()
    balance_after_micros = models.BigIntegerField()
    currency = models.CharField(max_length=3, default="CNY")
    reference = models.CharField(max_length=64)
    line = models.PositiveIntegerField(default=0)
    model = models.CharField(max_length=64, blank=True)
    size = models.CharField(max_length=11, blank=True)
    unit_price_micros = models.BigIntegerField(null=True, blank=True)
    price_version = models.BigIntegerField(null=True, blank=True)
    key_prefix = models.CharField(max_length=24, blank=True)
    memo = models.CharField(max_length=200, blank=True)
    actor = models.CharField(max_length=150, blank=True)
    booked_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "ledger entries"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "reference", "line"], name="one_entry_per_reference_line"),
            models.UniqueConstraint(fields=["account", "sequence"], name="one_entry_per_sequence"),
            models.CheckConstraint(
                condition=Q(kind="charge", amount_micros__lt=0)
                | Q(kind__in=["top_up", "refund"], amount_micros__gt=0)
                | Q(kind="adjustment") & ~Q(amount_micros=0),
                name="sign_fits_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}/{self.line}"
