"""Closing a month of an account: its statement is frozen, and nothing is booked into it any more.

The statement is drawn before anything is locked. Then the account's row is taken, by a conditional UPDATE that also
moves the end of the closed books: what is being booked has committed by then, and what comes later reads that end and
is booked behind it. Numbers tell whether anything was booked into the month in between; if so, it is drawn again.

ClosingError    a month that cannot be closed; nothing was changed
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import connection, transaction

from billing.csvtext import render_lines
from billing.exports.plans import ExportError, Order, Share, make_plan
from billing.exports.statements import STATEMENT_HEADER, Statement, draw_statement, find_opening, render_statement
from billing.models import Account, ClosedMonth, Export, LedgerEntry
from billing.periods import Period, PeriodError, cut_month, find_last_day, find_zone, name_month, read_clock

#: How long after its end, by the database's clock, a month may be closed.
GRACE = timedelta(hours=1)


class ClosingError(Exception):
    """A month that cannot be closed."""


@dataclass(frozen=True, slots=True)
class Closing:
    """A month that is closed, and whether it was so before."""

    row: ClosedMonth
    known: bool


def close_month(account_id: int, month: date, *, closed_by: str) -> Closing:
    """Close the account's month that begins with this day. Closed already is success, with the same row.

    The account's first closed month may be any: all that is before its end is closed with it.
    """
    account = Account.objects.get(pk=account_id)
    if known := find_closed(account_id, month):
        return Closing(known, known=True)
    try:
        zone = find_zone(account.time_zone)
        period = cut_month(month, zone)
    except (PeriodError, OverflowError) as error:
        raise ClosingError(f"{account.name}: {error}") from error
    check_order(account, period)
    return freeze(account, period, draw(account, period, zone), closed_by=closed_by)


def find_closed(account_id: int, month: date) -> ClosedMonth | None:
    return ClosedMonth.objects.filter(account_id=account_id, month=name_month(month)).first()


def close_everywhere(month: date, *, closed_by: str) -> Iterator[Closing | ClosingError]:
    """Close the month of every account that was there in it; what cannot be closed stops no other."""
    try:
        plan = make_plan(Order(Export.Kind.STATEMENT, month, find_last_day(month)))
    except ExportError as error:
        raise ClosingError(str(error)) from error
    for share in plan.shares:
        try:
            yield close_month(share.account_id, month, closed_by=closed_by)
        except ClosingError as error:
            yield error


def check_order(account: Account, period: Period) -> None:
    """Raises ClosingError where the month is too young, or the months before it are not closed."""
    now = read_clock(connection)
    if now < period.ends_at + GRACE:
        raise ClosingError(
            f"{account.name}: {period.month} ends at {show(period.ends_at, account)} "
            f"and can be closed an hour later; it is {show(now, account)}"
        )
    if account.closed_until is None:
        return
    if period.ends_at <= account.closed_until:
        until = show(account.closed_until, account)
        raise ClosingError(f"{account.name}: {period.month} is within the books closed until {until}")
    if between := find_open_entry(account, account.closed_until, period.starts_at):
        earlier = name_month(between.astimezone(find_zone(account.time_zone)))
        raise ClosingError(f"{account.name}: {earlier} has entries and is to be closed first")


def find_open_entry(account: Account, since: datetime, until: datetime) -> datetime | None:
    entries = LedgerEntry.objects.filter(account=account, booked_at__gte=since, booked_at__lt=until)
    return entries.order_by("booked_at").values_list("booked_at", flat=True).first()


def show(moment: datetime, account: Account) -> str:
    return moment.astimezone(find_zone(account.time_zone)).isoformat(sep=" ", timespec="seconds")


def draw(account: Account, period: Period, zone: ZoneInfo) -> Statement:
    """The month as the entries up to the account's last number have it."""
    share = Share(account.pk, account.name, zone, period, 1, account.sequence, 0)
    opening = find_opening(account.pk, period.starts_at, last=account.sequence)
    return draw_statement(share, period, opening)


def freeze(account: Account, period: Period, statement: Statement, *, closed_by: str) -> Closing:
    zone = statement.share.zone
    with transaction.atomic():
        if not take_account(account, period):
            if known := find_closed(account.pk, period.first_day):
                return Closing(known, known=True)
            raise ClosingError(f"{account.name}: it was changed meanwhile; close {period.month} again")
        account = Account.objects.get(pk=account.pk)
        if was_booked_into(statement):
            statement = draw(account, period, zone)
        return Closing(write_month(statement, closed_by=closed_by), known=False)


def take_account(account: Account, period: Period) -> bool:
    """Holds the account's row until the transaction ends, if it is still as it was read.

    The zone is part of the condition: a month is cut in the zone that the account has when its books close.
    """
    rows = Account.objects.filter(pk=account.pk, time_zone=account.time_zone, closed_until=account.closed_until)
    return rows.update(closed_until=period.ends_at) == 1


def was_booked_into(statement: Statement) -> bool:
    """Whether entries with numbers behind the statement's last are booked before its end."""
    # Compared here: in the query the date would tempt a planner to read all that was ever booked before it.
    later = LedgerEntry.objects.filter(account_id=statement.share.account_id, sequence__gt=statement.share.last)
    return any(moment < statement.period.ends_at for moment in later.values_list("booked_at", flat=True).iterator())


def write_month(statement: Statement, *, closed_by: str) -> ClosedMonth:
    text = "".join(render_lines([STATEMENT_HEADER, *render_statement(statement)]))
    return ClosedMonth.objects.create(
        account_id=statement.share.account_id,
        month=statement.period.month,
        time_zone=statement.share.zone.key,
        starts_at=statement.period.starts_at,
        ends_at=statement.period.ends_at,
        opening_balance_micros=statement.opening_micros,
        closing_balance_micros=statement.closing_micros,
        entries=statement.entries,
        csv=text,
        sha256=hash_text(text),
        closed_by=closed_by[:150],
        closed_at=read_clock(connection),
    )


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
