"""What an export is asked to hold, and what that comes to: whose entries, from which to which.

The ledger only ever grows at its end, and its numbers have no gaps: once the last number of an account's entries is
known, the entries up to it are the same whenever they are read. A plan holds those numbers, so an export that takes
minutes is one moment of the books.

ExportError     an export that cannot be made; says why
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from django.db.models import Count, Exists, Max, Min, OuterRef, Q, QuerySet

from billing.models import Account, ClosedMonth, Export, LedgerEntry
from billing.periods import Period, PeriodError, cut_month, cut_period, find_zone, name_month, split_months

#: About as many lines has the statement of a month.
LINES_OF_STATEMENT = 10


class ExportError(Exception):
    """An export that cannot be made."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: a kind of `Export.Kind`, and days, both included; no account is all of them."""

    kind: str
    first_day: date
    last_day: date
    account_id: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in Export.Kind.values:
            raise ExportError(f"there is no kind of export {self.kind!r}")
        if self.last_day < self.first_day:
            raise ExportError(f"the last day, {self.last_day}, is before the first, {self.first_day}")


@dataclass(frozen=True, slots=True)
class Share:
    """One account's part: its entries with numbers from `first` to `last` that were booked in the period."""

    account_id: int
    account: str
    zone: ZoneInfo
    period: Period
    first: int
    last: int
    rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`rows` is exact for entries and an estimate for statements. `frozen` is the text of a closed month."""

    order: Order
    shares: tuple[Share, ...]
    rows: int
    frozen: str | None = None


def make_plan(order: Order) -> Plan:
    """Read what the export will hold. Of one moment only inside a snapshot."""
    try:
        return plan_statements(order) if order.kind == Export.Kind.STATEMENT else plan_entries(order)
    except (PeriodError, OverflowError) as error:
        raise ExportError(str(error)) from error


def find_accounts(order: Order) -> QuerySet[Account]:
    accounts = Account.objects.all() if order.account_id is None else Account.objects.filter(pk=order.account_id)
    return accounts.order_by("pk")


def cut_zones(order: Order) -> dict[str, tuple[ZoneInfo, Period]]:
    """The order's days in every time zone that an account of it has."""
    names = find_accounts(order).order_by("time_zone").values_list("time_zone", flat=True).distinct()
    zones = {name: find_zone(name) for name in names}
    return {name: (zone, cut_period(order.first_day, order.last_day, zone)) for name, zone in zones.items()}


def plan_entries(order: Order) -> Plan:
    """One pass over the ledger for each time zone; accounts with nothing to export have no share."""
    shares: list[Share] = []
    for name, (zone, period) in cut_zones(order).items():
        entries = LedgerEntry.objects.filter(booked_at__gte=period.starts_at, booked_at__lt=period.ends_at)
        if order.account_id is not None:
            entries = entries.filter(account_id=order.account_id)
        if order.kind == Export.Kind.CHARGES:
            entries = entries.filter(kind=LedgerEntry.Kind.CHARGE)
        found = (
            entries.filter(account__time_zone=name)
            .values_list("account_id", "account__name")
            .annotate(Min("sequence"), Max("sequence"), Count("id"))
        )
        shares += [Share(pk, account, zone, period, *facts) for pk, account, *facts in found.order_by("account_id")]
    shares.sort(key=lambda share: share.account_id)
    return Plan(order, tuple(shares), sum(share.rows for share in shares))


def plan_statements(order: Order) -> Plan:
    """Every account that was there in the period; one that is asked for by name always is."""
    shares: list[Share] = []
    for name, (zone, period) in cut_zones(order).items():
        months = sum(1 for _ in split_months(order.first_day, order.last_day, zone))
        accounts = find_accounts(order).filter(time_zone=name)
        if order.account_id is None:
            early = LedgerEntry.objects.filter(account=OuterRef("pk"), booked_at__lt=period.ends_at)
            accounts = accounts.filter(Q(created_at__lt=period.ends_at) | Exists(early))
        for pk, account, last in accounts.values_list("pk", "name", "sequence"):
            shares.append(Share(pk, account, zone, period, 1, last, months * LINES_OF_STATEMENT))
    shares.sort(key=lambda share: share.account_id)
    return Plan(order, tuple(shares), sum(share.rows for share in shares), find_frozen(shares))


def find_frozen(shares: list[Share]) -> str | None:
    """The text of the closed month that these shares are exactly, if they are."""
    if len(shares) != 1:
        return None
    (share,) = shares
    if share.period != cut_month(share.period.first_day.replace(day=1), share.zone):
        return None
    months = ClosedMonth.objects.filter(account_id=share.account_id, month=name_month(share.period.first_day))
    return months.values_list("csv", flat=True).first()
