"""Closed months, and exports that are made in the background."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.models.accounts import Account


class ClosedMonth(models.Model):
    """A month of an account that nothing is booked into any more, with its statement as it was then. Append-only."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="closed_months", db_index=False)
    month = models.CharField(max_length=7, help_text="Like 2026-11, cut in `time_zone`.")
    time_zone = models.CharField(max_length=64)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    opening_balance_micros = models.BigIntegerField()
    closing_balance_micros = models.BigIntegerField()
    entries = models.BigIntegerField()
    csv = models.TextField(editable=False)
    sha256 = models.CharField(max_length=64, help_text="Of the CSV's bytes in UTF-8.")
    closed_by = models.CharField(max_length=150)
    closed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-month", "account"]
        constraints = [
            models.UniqueConstraint(fields=["account", "month"], name="month_closed_once"),
            models.CheckConstraint(condition=Q(ends_at__gt=models.F("starts_at")), name="month_ends_after_start"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.month}"


class Export(models.Model):
    """A CSV made in the background: who asked, how far it is, and its bytes in parts until it expires."""

    class Kind(models.TextChoices):
        CHARGES = "charges", "Charges: one line per image"
        LEDGER = "ledger", "Ledger: every entry with the balance after it"
        STATEMENT = "statement", "Statement: per account and month"

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    first_day = models.DateField()
    last_day = models.DateField(help_text="Included.")
    account = models.ForeignKey(Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    with_bom = models.BooleanField("byte order mark", default=False, help_text="For spreadsheets that need it.")
    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    rows = models.BigIntegerField(default=0, help_text="Written so far.")
    rows_expected = models.BigIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    error = models.CharField(max_length=300, blank=True)
    requested_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    touched_at = models.DateTimeField(null=True, blank=True, help_text="Progress was last written then.")
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.first_day} to {self.last_day}"


class ExportPart(models.Model):
    """Some compressed bytes of an export: in the database, so that any web process can hand them out."""

    export = models.ForeignKey(Export, on_delete=models.CASCADE, related_name="parts", db_index=False)
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        ordering = ["export", "number"]
        constraints = [models.UniqueConstraint(fields=["export", "number"], name="export_part_once")]

    def __str__(self) -> str:
        return f"{self.export_id}/{self.number}"
