"""Who pays: accounts, their keys, what both may spend, and the prices agreed with one account."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from models_registry.models import ImageModel


class Limits(models.Model):
    """What an account or a key may do, and the counters that say how much of it is used. Empty means no limit.

    The counters are projections that the ledger moves with the money: `held_micros` and `in_flight` of open holds,
    `spent_micros` of everything charged, `month_spent_micros` of what was charged in `month`, which is cut in the
    account's time zone. A window of requests begins with its first request and lasts a minute.
    """

    spend_limit_micros = models.BigIntegerField(null=True, blank=True, help_text="Ever, in all.")
    monthly_spend_limit_micros = models.BigIntegerField(null=True, blank=True, help_text="Per month of the account.")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    max_in_flight = models.PositiveIntegerField("generations in flight", null=True, blank=True)
    allowed_models = models.JSONField(default=list, blank=True, help_text="Names of models; empty allows all.")
    allowed_networks = models.JSONField(default=list, blank=True, help_text="Networks like 203.0.113.0/24; empty: any.")
    held_micros = models.BigIntegerField(default=0, editable=False)
    in_flight = models.IntegerField(default=0, editable=False)
    spent_micros = models.BigIntegerField(default=0, editable=False)
    month = models.CharField(max_length=7, default="", editable=False, help_text="Like 2026-11.")
    month_spent_micros = models.BigIntegerField(default=0, editable=False)
    window_started_at = models.DateTimeField(null=True, editable=False)
    window_requests = models.IntegerField(default=0, editable=False)

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(held_micros__gte=0, in_flight__gte=0, spent_micros__gte=0, month_spent_micros__gte=0),
                name="%(class)s_counters_not_negative",
            ),
            models.CheckConstraint(
                condition=(Q(spend_limit_micros=None) | Q(spend_limit_micros__gte=0))
                & (Q(monthly_spend_limit_micros=None) | Q(monthly_spend_limit_micros__gte=0)),
                name="%(class)s_limits_not_negative",
            ),
        ]


class Account(Limits):
    """Who pays. The amounts are projections: balance = Σ entries, held = Σ open holds; `reconcile` proves both."""

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"

    name = models.CharField(max_length=100, unique=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    balance_micros = models.BigIntegerField(default=0, editable=False)
    credit_limit_micros = models.BigIntegerField(default=0, help_text="How far below zero the account may go.")
    sequence = models.BigIntegerField(default=0, editable=False, help_text="Number of the last ledger entry.")
    time_zone = models.CharField(max_length=64, default="Asia/Shanghai")
    closed_until = models.DateTimeField(null=True, blank=True, editable=False, help_text="End of the last closed month")
    shadow_allowed = models.BooleanField(
        "shadow copies allowed",
        default=False,
        help_text="The account agreed that copies of its requests are sent to carriers on trial.",
    )
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            *Limits.Meta.constraints,
            models.CheckConstraint(condition=Q(credit_limit_micros__gte=0), name="credit_limit_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def available_micros(self) -> int:
        """What new work may still reserve."""
        return self.balance_micros + self.credit_limit_micros - self.held_micros


class ApiKey(Limits):
    """A secret that orders for an account. Only its keyed hash is stored; the prefix is for people."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="keys")
    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=24, unique=True, editable=False)
    key_hash = models.CharField(max_length=64, unique=True, editable=False)
    enabled = models.BooleanField(default=True, help_text="A key that is not is refused until it is again.")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ["-id"]
        constraints = [*Limits.Meta.constraints]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    def is_usable(self) -> bool:
        return (
            self.enabled and self.revoked_at is None and (self.expires_at is None or self.expires_at > timezone.now())
        )


class AccountPrice(models.Model):
    """A price version agreed with one account: appended with a reason and a date, never edited.

    It holds from `effective_from` until the next version for the same model; one of kind `list` ends an agreement.
    """

    class Kind(models.TextChoices):
        FIXED = "fixed", "Fixed price"
        DISCOUNT = "discount", "Discount on the list price"
        LIST = "list", "List price again"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="prices", db_index=False)
    model = models.ForeignKey(ImageModel, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    amount_micros = models.BigIntegerField(null=True, blank=True, help_text="Per image, for a fixed price.")
    discount_basis_points = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Hundredths of a percent off the list price: 1250 is 12.5 %."
    )
    currency = models.CharField(max_length=3, default="CNY", editable=False)
    effective_from = models.DateTimeField(default=timezone.now)
    reason = models.CharField(max_length=200)
    actor = models.CharField(max_length=150, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "agreed price"
        verbose_name_plural = "agreed prices"
        ordering = ["-effective_from", "-id"]
        indexes = [models.Index(fields=["account", "model", "effective_from"], name="account_price_in_force")]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="fixed", amount_micros__gt=0, discount_basis_points=None)
                | Q(kind="discount", amount_micros=None, discount_basis_points__gt=0, discount_basis_points__lt=10_000)
                | Q(kind="list", amount_micros=None, discount_basis_points=None),
                name="account_price_fits_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account}: {self.model}"
