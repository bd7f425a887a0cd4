"""What an account used, by day, model and key: the read side of `UsageDay`, which the ledger moves with each charge.

Days are cut in the account's time zone. Charges only: an image that was used stays used when it is refunded, so a
refund changes no day here and is seen in the ledger's export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

from django.db import connection
from django.db.models import Q, QuerySet, Sum

from billing.models import Account, UsageDay
from crazyrouter.sql import open_read_only_snapshot

CURRENCY = "CNY"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose usage, from the first to the last day, both included; None stands for every model, for every key."""

    account_id: int
    first: date
    last: date
    model: str | None = None
    key_prefix: str | None = None


class Position(NamedTuple):
    """Where a row stands: newest day first, then by model and key."""

    day: date
    model: str
    key_prefix: str


class UsageRow(NamedTuple):
    """What one key was charged for one model on one day, as a positive amount."""

    day: date
    model: str
    key_prefix: str
    images: int
    amount_micros: int

    @property
    def position(self) -> Position:
        return Position(self.day, self.model, self.key_prefix)


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Some rows, whether more follow, and the sums of the whole scope as of the same moment."""

    rows: Sequence[UsageRow]
    has_more: bool
    images: int
    amount_micros: int


def find_account(account_id: int) -> Account:
    """The account as it is now, with its balance and its time zone."""
    return Account.objects.get(pk=account_id)


def read_page(scope: Scope, after: Position | None, limit: int) -> UsagePage:
    """One page and the sums, which agree with each other whatever is charged meanwhile."""
    with open_read_only_snapshot(connection):
        rows = read_rows(scope, after, limit + 1)
        images, amount_micros = add_up(scope)
    return UsagePage(rows[:limit], len(rows) > limit, images, amount_micros)


def read_rows(scope: Scope, after: Position | None, limit: int) -> list[UsageRow]:
    """The first rows, or the next behind a position, whose day is one of the scope's."""
    rows = select_days(scope)
    if after is not None:
        # One upper bound of the days, not two: SQLite would seek the wider one and pass all pages before this again.
        rows = select_days(replace(scope, last=after.day)).filter(
            Q(day__lt=after.day) | Q(model__gt=after.model) | Q(model=after.model, key_prefix__gt=after.key_prefix)
        )
    rows = rows.order_by("-day", "model", "key_prefix")
    return [UsageRow(*row) for row in rows.values_list(*UsageRow._fields)[:limit]]


def add_up(scope: Scope) -> tuple[int, int]:
    """Images and micro-units of the whole scope."""
    sums = select_days(scope).aggregate(images=Sum("images", default=0), amount=Sum("amount_micros", default=0))
    return sums["images"], sums["amount"]


def select_days(scope: Scope) -> QuerySet[UsageDay]:
    days = UsageDay.objects.filter(account_id=scope.account_id, day__gte=scope.first, day__lte=scope.last)
    if scope.model is not None:
        days = days.filter(model=scope.model)
    if scope.key_prefix is not None:
        days = days.filter(key_prefix=scope.key_prefix)
    return days
