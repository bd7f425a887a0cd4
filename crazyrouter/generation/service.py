"""How well each model is served, as everybody may know it: typical times, and how often it could be had.

Read from the hours of `ServiceHour`, so that it costs the same however much was sold, and rounded so that it says
nothing about who makes the pictures. Days are those of TIME_ZONE; an hour belongs to the day in which it begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Case, F, JSONField, Value, When
from django.utils import timezone

from crazyrouter.generation.latency import read_percentile_s
from crazyrouter.generation.models import ServiceHour

#: Times are of the generations that began within so long.
TIMED = timedelta(days=7)
#: Availability is over so many days, today being the last.
DAYS = 30
#: Of fewer than these nothing is said.
FEWEST = 20
#: Steps to which times are rounded, in seconds, by where they begin.
STEPS_S = ((60.0, 5.0), (10.0, 1.0), (0.0, 0.5))


@dataclass(frozen=True, slots=True)
class Day:
    """`availability` in percent, rounded down to a tenth; None where too few orders say nothing."""

    date: date
    availability: float | None


@dataclass(frozen=True, slots=True)
class Service:
    """The figures of one model; None is a figure that too little is known for.

    `p50_s` and `p95_s` are seconds from an order to its finished generation, of the `timed` ones that delivered within
    the last 7 days: half of them, and 95 of 100, took no longer. `availability` is how many percent of the `judged`
    orders of the last 30 days were served, rounded down to a tenth: one that failed for no fault of its own counts
    against it, and so does one that nobody could take. `days` are those 30, the oldest first and today last.
    """

    timed: int
    p50_s: float | None
    p95_s: float | None
    judged: int
    availability: float | None
    days: tuple[Day, ...]


class Services(dict[int, Service]):
    """By id of the model. One that nobody has ordered has a service as well, of which nothing is known."""

    def __init__(self, found: Mapping[int, Service], unknown: Service) -> None:
        super().__init__(found)
        self._unknown = unknown

    def __missing__(self, model_id: int) -> Service:
        return self._unknown


@dataclass(slots=True)
class Tally:
    """What the hours of one model add up to: orders served and judged by day, times by bucket."""

    served: dict[date, int] = field(default_factory=dict)
    judged: dict[date, int] = field(default_factory=dict)
    latency: dict[int, int] = field(default_factory=dict)

    def add(self, day: date, *, served: int, lost: int, latency: Mapping[str, int]) -> None:
        self.served[day] = self.served.get(day, 0) + served
        self.judged[day] = self.judged.get(day, 0) + served + lost
        for bucket, count in latency.items():
            self.latency[int(bucket)] = self.latency.get(int(bucket), 0) + count


def read_service(now: datetime | None = None) -> Services:
    """The figures of each model by its id; `read_service()[model.pk]` never fails. One query, over a month of hours."""
    now = now or timezone.now()
    days = list_days(now)
    tallies: dict[int, Tally] = {}
    for model_id, hour, served, lost, latency in read_hours(find_start(days[0]), now):
        day = timezone.localtime(hour).date()
        tallies.setdefault(model_id, Tally()).add(day, served=served, lost=lost, latency=latency or {})
    found = {model_id: make_service(tally, days) for model_id, tally in tallies.items()}
    return Services(found, make_service(Tally(), days))


def list_days(now: datetime) -> list[date]:
    today = timezone.localtime(now).date()
    return [today - timedelta(days=ago) for ago in reversed(range(DAYS))]


def find_start(day: date) -> datetime:
    """When the day begins in TIME_ZONE; said in UTC, since SQLite is asked with text."""
    return datetime.combine(day, time.min, timezone.get_default_timezone()).astimezone(UTC)


def read_hours(since: datetime, now: datetime) -> Iterable[tuple[int, datetime, int, int, dict[str, int] | None]]:
    """Model, hour, orders served, orders lost, and the times if the hour is among those that are timed."""
    timed = When(hour__gt=now - TIMED - timedelta(hours=1), then=F("latency"))
    hours: Any = ServiceHour.objects.filter(hour__gte=since, hour__lte=now).order_by()
    return hours.values_list(
        "model_id",
        "hour",
        "served",
        F("failed") + F("turned_away"),
        Case(timed, default=Value(None, JSONField()), output_field=JSONField()),
    ).iterator()


def make_service(tally: Tally, days: Iterable[date]) -> Service:
    timed = sum(tally.latency.values())
    served, judged = sum(tally.served.values()), sum(tally.judged.values())
    return Service(
        timed=timed,
        p50_s=round_time(read_percentile_s(tally.latency, 0.5)) if timed >= FEWEST else None,
        p95_s=round_time(read_percentile_s(tally.latency, 0.95)) if timed >= FEWEST else None,
        judged=judged,
        availability=rate(served, judged),
        days=tuple(Day(day, rate(tally.served.get(day, 0), tally.judged.get(day, 0))) for day in days),
    )


def rate(served: int, judged: int) -> float | None:
    """Percent, rounded down to a tenth: 100 only where nothing was lost."""
    return served * 1000 // judged / 10 if judged >= FEWEST else None


def round_time(seconds: float | None) -> float | None:
    """To half seconds, from 10 s on to seconds, from 60 s on to five of them; never to nothing."""
    if seconds is None:
        return None
    step = next(step for start, step in STEPS_S if seconds >= start)
    return max(math.floor(seconds / step + 0.5), 1) * step
