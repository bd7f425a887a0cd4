"""Money moved by people: what one asked for, and a second approved where it is much."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.models.accounts import Account
from billing.models.books import LedgerEntry


class Booking(models.Model):
    """One top-up, refund or adjustment that a person asked for. `token` is the form or command that was sent:
    sent twice, it is one booking. Above APPROVAL_THRESHOLD it waits for a second person."""

    class Kind(models.TextChoices):
        TOP_UP = "top_up", "Top-up"
        REFUND = "refund", "Refund"
        ADJUSTMENT = "adjustment", "Adjustment"

    class State(models.TextChoices):
        WAITING = "waiting", "Waits for approval"
        BOOKED = "booked", "Booked"
        REJECTED = "rejected", "Rejected"

    #: state -> the states it may move to
    TRANSITIONS = {State.WAITING: (State.BOOKED, State.REJECTED), State.BOOKED: (), State.REJECTED: ()}

    token = models.CharField(max_length=64, unique=True, editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="bookings")
    charge = models.ForeignKey(LedgerEntry, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    amount_micros = models.BigIntegerField(help_text="Signed, as it will stand in the ledger.")
    reference = models.CharField(max_length=64, help_text="The entry's reference; for a refund the charge's id.")
    memo = models.CharField(max_length=200)
    book_at = models.DateTimeField(null=True, blank=True, help_text="A date that a person named; empty is now.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField(default=timezone.now)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True, help_text="Why it was rejected.")
    entry = models.OneToOneField(
        LedgerEntry, null=True, blank=True, on_delete=models.PROTECT, related_name="booking", editable=False
    )

    class Meta:
        ordering = ["-id"]
        permissions = [("approve_booking", "Can approve a booking that somebody else asked for")]
        constraints = [
            models.CheckConstraint(condition=~Q(amount_micros=0), name="booking_moves_money"),
            models.CheckConstraint(
                condition=Q(kind="refund", charge__isnull=False) | ~Q(kind="refund") & Q(charge=None),
                name="refund_names_its_charge",
            ),
            models.CheckConstraint(
                condition=Q(state="booked", entry__isnull=False) | ~Q(state="booked") & Q(entry=None),
                name="booked_has_its_entry",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.reference}"
