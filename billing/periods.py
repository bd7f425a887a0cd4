"""Days and months as a time zone cuts them, and the database's clock.

A period holds what was booked from its start until before its end, so that days add up to their month whatever the
zone's clocks do: a day of 23 hours, one of 25, one that has no midnight.

PeriodError     text that is no day or month, or a time zone that nobody knows
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import render_now

DAY = re.compile(r"[12][0-9]{3}-[01][0-9]-[0-3][0-9]", re.ASCII)
MONTH = re.compile(r"[12][0-9]{3}-[01][0-9]", re.ASCII)


class PeriodError(ValueError):
    """Not a period: says what to write instead."""


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days of one time zone, both included, and the moments (UTC) from which and before which they are."""

    first_day: date
    last_day: date
    starts_at: datetime
    ends_at: datetime

    @property
    def month(self) -> str:
        """Of the first day, like 2026-11."""
        return name_month(self.first_day)


def parse_day(text: str) -> date:
    """`2026-11-22`, and nothing else."""
    try:
        return date.fromisoformat(check_form(DAY, text))
    except ValueError:
        raise PeriodError(f"{text!r} is not a day: write one like 2026-11-22") from None


def parse_month(text: str) -> date:
    """`2026-11` -> its first day."""
    try:
        return date.fromisoformat(f"{check_form(MONTH, text)}-01")
    except ValueError:
        raise PeriodError(f"{text!r} is not a month: write one like 2026-11") from None


def check_form(form: re.Pattern[str], text: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(text)
    return text


def name_month(day: date) -> str:
    return f"{day.year:04}-{day.month:02}"


def find_last_day(first: date) -> date:
    """Of the month that this day is in."""
    return first.replace(day=monthrange(first.year, first.month)[1])


def find_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, ZoneInfoNotFoundError, OSError):
        raise PeriodError(f"there is no time zone {name!r}") from None


def cut_period(first: date, last: date, zone: ZoneInfo) -> Period:
    if last < first:
        raise PeriodError(f"the last day, {last}, is before the first, {first}")
    return Period(first, last, find_start(first, zone), find_start(last + timedelta(days=1), zone))


def cut_month(first: date, zone: ZoneInfo) -> Period:
    return cut_period(first, find_last_day(first), zone)


def find_start(day: date, zone: ZoneInfo) -> datetime:
    """The moment, in UTC, in which the zone's day begins.

    Where midnight comes twice the first counts; where the clocks jump over it, Python reads it by the offset before
    the jump, which is the moment of the jump.
    """
    return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)


def split_months(first: date, last: date, zone: ZoneInfo) -> Iterator[Period]:
    """The months from one day to another; the first and the last may be parts of theirs."""
    while first <= last:
        end = min(find_last_day(first), last)
        yield cut_period(first, end, zone)
        first = end + timedelta(days=1)


def read_clock(connection: BaseDatabaseWrapper) -> datetime:
    """The database's own clock, in UTC: the one by which entries are booked."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {render_now(connection.vendor)}", ())
        (now,) = cursor.fetchone()
    if isinstance(now, str):
        return datetime.fromisoformat(now).replace(tzinfo=UTC)
    moment: datetime = now.astimezone(UTC)
    return moment
