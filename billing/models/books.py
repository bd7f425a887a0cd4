"""The books: money held, the ledger, and what is derived from it."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from billing.models.accounts import Account, ApiKey


class Hold(models.Model):
    """Money reserved for one generation before an upstream is called. `reference` is the generation's id."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        SETTLED = "settled", "Settled"
        RELEASED = "released", "Released"

    reference = models.CharField(max_length=40)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="holds", db_index=False)
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.PROTECT, related_name="holds", db_index=False)
    amount_micros = models.BigIntegerField()
    captured_micros = models.BigIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    created_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["account"], condition=Q(state="open"), name="hold_open_of_account")]
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

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="entries", db_index=False)
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
    account_price_version = models.BigIntegerField(null=True, blank=True, help_text="Where a price was agreed.")
    key_prefix = models.CharField(max_length=24, blank=True)
    memo = models.CharField(max_length=200, blank=True)
    actor = models.CharField(max_length=150, blank=True)
    booked_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "ledger entries"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["account", "booked_at"], name="entries_of_account_by_time"),
            # By people, or rare: among millions of charges these few are looked for by kind.
            models.Index(fields=["kind", "-id"], condition=~Q(kind="charge"), name="entries_that_are_no_charge"),
        ]
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
        return f"{self.get_kind_display()} {self.reference}/{self.line}"


class UsageDay(models.Model):
    """What one key was charged for one model on one day of the account's time zone: a projection of the ledger.

    Moved by the transaction that books the charges, so that a month of a busy account is read in a few rows.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    key_prefix = models.CharField(max_length=24)
    model = models.CharField(max_length=64)
    images = models.BigIntegerField()
    amount_micros = models.BigIntegerField(help_text="What was charged, as a positive amount.")

    class Meta:
        ordering = ["-day", "model", "key_prefix"]
        constraints = [
            models.UniqueConstraint(fields=["account", "day", "model", "key_prefix"], name="usage_once_a_day"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.day} {self.model} {self.key_prefix}"


class RefundedCharge(models.Model):
    """How much of a charge was given back; made with its first refund. Refunds never exceed their charge."""

    charge = models.OneToOneField(LedgerEntry, on_delete=models.PROTECT, related_name="refunded")
    charged_micros = models.BigIntegerField()
    refunded_micros = models.BigIntegerField(default=0)
    refunds = models.PositiveIntegerField(default=0, help_text="Their number: the line of the next one.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(refunded_micros__gte=0, refunded_micros__lte=F("charged_micros")),
                name="refunded_within_charge",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.charge_id}: {self.refunded_micros} of {self.charged_micros}"
