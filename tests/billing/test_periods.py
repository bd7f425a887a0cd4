"""Days and months in zones whose clocks do what they like."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from billing.periods import (
    PeriodError,
    cut_month,
    cut_period,
    find_zone,
    parse_day,
    parse_month,
    read_clock,
    split_months,
)

SHANGHAI, BERLIN, NEW_YORK = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
#: Besides: midnight comes twice, is jumped over, is jumped over at a half hour, a whole day is missing.
ODD_ZONES = ["America/Havana", "Africa/Cairo", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_month_is_cut_where_its_zone_begins_it() -> None:
    november = cut_month(date(2026, 11, 1), SHANGHAI)
    assert (november.starts_at, november.ends_at) == (at("2026-10-31 16:00"), at("2026-11-30 16:00"))
    assert (november.month, november.last_day) == ("2026-11", date(2026, 11, 30))
    assert cut_month(date(2028, 2, 1), SHANGHAI).last_day == date(2028, 2, 29)


@pytest.mark.parametrize(
    ("zone", "day", "starts_at", "hours"),
    [
        (BERLIN, date(2026, 3, 29), "2026-03-28 23:00", 23),
        (BERLIN, date(2026, 10, 25), "2026-10-24 22:00", 25),
        (NEW_YORK, date(2026, 3, 8), "2026-03-08 05:00", 23),
        (NEW_YORK, date(2026, 11, 1), "2026-11-01 04:00", 25),
        (ZoneInfo("Africa/Cairo"), date(2026, 4, 24), "2026-04-23 22:00", 23),  # from midnight to one
        (ZoneInfo("America/Havana"), date(2026, 11, 1), "2026-11-01 04:00", 25),  # from one back to midnight
        (ZoneInfo("Pacific/Apia"), date(2011, 12, 30), "2011-12-30 10:00", 0),
    ],
)
def test_days_are_as_long_as_their_zone_has_them(zone: ZoneInfo, day: date, starts_at: str, hours: int) -> None:
    period = cut_period(day, day, zone)
    assert period.starts_at == at(starts_at)
    assert period.ends_at - period.starts_at == timedelta(hours=hours)


@given(
    st.dates(date(2005, 1, 1), date(2035, 12, 31)),
    st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/New_York", *ODD_ZONES]),
)
def test_days_make_their_month_without_a_gap(day: date, name: str) -> None:
    zone = ZoneInfo(name)
    month = cut_month(day.replace(day=1), zone)
    reached = month.starts_at
    for number in range(1, month.last_day.day + 1):
        one = cut_period(day.replace(day=number), day.replace(day=number), zone)
        assert one.starts_at == reached
        assert one.ends_at >= one.starts_at
        reached = one.ends_at
    assert reached == month.ends_at


def test_months_are_split_and_the_ends_are_parts() -> None:
    months = list(split_months(date(2026, 11, 20), date(2027, 2, 3), BERLIN))
    assert [(m.month, m.first_day.day, m.last_day.day) for m in months] == [
        ("2026-11", 20, 30),
        ("2026-12", 1, 31),
        ("2027-01", 1, 31),
        ("2027-02", 1, 3),
    ]
    assert all(one.ends_at == other.starts_at for one, other in pairwise(months))


def test_days_and_months_are_read_in_one_form() -> None:
    assert parse_day("2026-11-30") == date(2026, 11, 30)
    assert parse_month("2026-02") == date(2026, 2, 1)


@pytest.mark.parametrize(
    "text", ["", "2026-11-31", "2026-11", "20261122", "2026-W47-7", "2026-1-5", "٢٠٢٦-١١-٢٢", "today"]
)
def test_what_is_no_day(text: str) -> None:
    with pytest.raises(PeriodError, match="is not a day: write one like 2026-11-22"):
        parse_day(text)


@pytest.mark.parametrize("text", ["", "2026-13", "2026-00", "2026-11-01", "202611", "2026-1", "11-2026"])
def test_what_is_no_month(text: str) -> None:
    with pytest.raises(PeriodError, match="is not a month: write one like 2026-11"):
        parse_month(text)


def test_days_are_in_order() -> None:
    with pytest.raises(PeriodError, match="the last day, 2026-11-01, is before the first, 2026-11-02"):
        cut_period(date(2026, 11, 2), date(2026, 11, 1), SHANGHAI)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Asia"])
def test_what_is_no_time_zone(name: str) -> None:
    with pytest.raises(PeriodError, match="there is no time zone"):
        find_zone(name)


def test_the_clock_is_the_databases_and_in_utc(db: None) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    now = read_clock(connection)
    assert now.tzinfo is UTC
    assert before < now < datetime.now(UTC) + timedelta(seconds=2)
