"""The statement of an account's month: what it began with, what moved, what it ended with, and how to check it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db.models import Count, Max, Min, QuerySet, Sum

from billing.csvtext import Cell, write_amount
from billing.exports.entries import NOTHING, PAGE, find_corrected, write_price, write_time
from billing.exports.plans import Plan, Share
from billing.models import ClosedMonth, LedgerEntry
from billing.periods import Period, split_months

CURRENCY = "CNY"

STATEMENT_HEADER = (
    "account_id",
    "account",
    "time_zone",
    "month",
    "first_day",
    "last_day",
    "section",
    "kind",
    "model",
    "unit_price",
    "price_version",
    "account_price_version",
    "entries",
    "amount",
    "currency",
    "first_sequence",
    "last_sequence",
    "booked_at",
    "reference",
    "line",
    "memo",
    "corrects_generation_id",
    "corrects_slot",
    "corrects_month",
)

#: What people book to put right what was booked before.
CORRECTIONS = (LedgerEntry.Kind.REFUND, LedgerEntry.Kind.ADJUSTMENT)


class Group(NamedTuple):
    """Entries of one kind, model and price."""

    kind: str
    model: str
    unit_price_micros: int | None
    price_version: int | None
    account_price_version: int | None
    entries: int
    amount_micros: int
    first_sequence: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One account and one month, or the part of it that was asked for. Amounts in micro-units, signed as booked."""

    share: Share
    period: Period
    opening_micros: int
    groups: tuple[Group, ...]

    @property
    def closing_micros(self) -> int:
        return self.opening_micros + self.moved_micros

    @property
    def moved_micros(self) -> int:
        return sum(group.amount_micros for group in self.groups)

    @property
    def entries(self) -> int:
        return sum(group.entries for group in self.groups)


def write_statements(plan: Plan) -> Iterator[Sequence[Cell]]:
    for share in plan.shares:
        opening = find_opening(share.account_id, share.period.starts_at, last=share.last)
        for period in split_months(share.period.first_day, share.period.last_day, share.zone):
            statement = draw_statement(share, period, opening)
            yield from render_statement(statement)
            opening = statement.closing_micros


def find_opening(account_id: int, moment: datetime, *, last: int) -> int:
    """The sum of what was booked before the moment, of the entries up to number `last`.

    Not the balance that stands at some entry: a person may book today for a day that other entries came after.
    The end of a closed month is a start that saves reading what is before it.
    """
    closed = ClosedMonth.objects.filter(account_id=account_id, ends_at__lte=moment).order_by("-ends_at")
    ends_at, balance = closed.values_list("ends_at", "closing_balance_micros").first() or (None, 0)
    entries = LedgerEntry.objects.filter(account_id=account_id, booked_at__lt=moment, sequence__lte=last)
    if ends_at is not None:
        entries = entries.filter(booked_at__gte=ends_at)
    return balance + (entries.aggregate(total=Sum("amount_micros"))["total"] or 0)


def draw_statement(share: Share, period: Period, opening_micros: int) -> Statement:
    keys = ("kind", "model", "unit_price_micros", "price_version", "account_price_version")
    found = (
        list_entries(share, period)
        .order_by()
        .values_list(*keys)
        .annotate(Count("id"), Sum("amount_micros"), Min("sequence"), Max("sequence"))
    )
    # Sorted here: databases differ in where they put what is absent, and in the order of letters.
    groups = sorted((Group(*row) for row in found), key=lambda group: [(each is not None, each) for each in group])
    return Statement(share, period, opening_micros, tuple(groups))


def list_entries(share: Share, period: Period) -> QuerySet[LedgerEntry]:
    return LedgerEntry.objects.filter(
        account_id=share.account_id,
        booked_at__gte=period.starts_at,
        booked_at__lt=period.ends_at,
        sequence__lte=share.last,
    )


def render_statement(statement: Statement) -> Iterator[Sequence[Cell]]:
    yield render_line(statement, "opening_balance", amount=statement.opening_micros)
    for kind in LedgerEntry.Kind.values:
        own = [group for group in statement.groups if group.kind == kind]
        yield render_sum(statement, "movement", own, kind=kind)
    for group in statement.groups:
        if group.model:
            yield render_sum(statement, "model", [group], kind=group.kind, group=group)
    if any(group.kind in CORRECTIONS for group in statement.groups):
        yield from render_corrections(statement)
    yield render_line(statement, "closing_balance", amount=statement.closing_micros)
    yield render_sum(statement, "control", statement.groups)


def render_sum(
    statement: Statement, section: str, groups: Sequence[Group], *, kind: str = "", group: Group | None = None
) -> Sequence[Cell]:
    """What these groups come to: entries, amount, the first and the last number."""
    return render_line(
        statement,
        section,
        kind=kind,
        group=group,
        entries=sum(each.entries for each in groups),
        amount=sum(each.amount_micros for each in groups),
        first=min((each.first_sequence for each in groups), default=""),
        last=max((each.last_sequence for each in groups), default=""),
    )


def render_corrections(statement: Statement) -> Iterator[Sequence[Cell]]:
    """Each refund and adjustment by itself: a month that is closed is put right in a later one, which says so."""
    zone, after = statement.share.zone, 0
    entries = list_entries(statement.share, statement.period).filter(kind__in=CORRECTIONS).order_by("sequence")
    columns = ("sequence", "kind", "amount_micros", "booked_at", "reference", "line", "memo")
    while page := list(entries.filter(sequence__gt=after).values_list(*columns)[:PAGE]):
        after = page[-1][0]
        corrected = find_corrected((row[4] for row in page if row[1] == LedgerEntry.Kind.REFUND), zone)
        for sequence, kind, amount, booked_at, reference, line, memo in page:
            names = corrected.get(reference, NOTHING) if kind == LedgerEntry.Kind.REFUND else NOTHING
            yield render_line(
                statement,
                "correction",
                kind=kind,
                entries=1,
                amount=amount,
                first=sequence,
                last=sequence,
                source=(write_time(booked_at, zone), reference, line, memo, *names),
            )


def render_line(
    statement: Statement,
    section: str,
    *,
    amount: int,
    kind: str = "",
    group: Group | None = None,
    entries: Cell = "",
    first: Cell = "",
    last: Cell = "",
    source: Sequence[Cell] = ("",) * 7,
) -> Sequence[Cell]:
    share, period = statement.share, statement.period
    return (
        share.account_id,
        share.account,
        share.zone.key,
        period.month,
        period.first_day.isoformat(),
        period.last_day.isoformat(),
        section,
        kind,
        *render_price(group),
        entries,
        write_amount(amount),
        CURRENCY,
        first,
        last,
        *source,
    )


def render_price(group: Group | None) -> Sequence[Cell]:
    if group is None:
        return ("",) * 4
    versions = ("" if version is None else version for version in (group.price_version, group.account_price_version))
    return (group.model, write_price(group.unit_price_micros), *versions)
