"""Generations counted into the hours of `ServiceHour`, by a clock that may ring twice, late, or not for days.

A generation belongs to the hour of its id, which is when it was ordered, however long it runs: a range of ids is an
hour, and the primary key answers for it. Its time goes from `created_at` to `finished_at`.

An hour is counted anew at each ring until ten minutes after its end, when no row can be added to it any more: from then
on its count is `final`, and changes only as those end that were still running. Generations may run for hours (3 h
10 min at a slow upstream, longer if nothing drives them on), so the count says how many there were, and the hour is
counted again when there are fewer: one that is waited for costs nothing meanwhile, and none is missed for being late.

Hours are counted in their order and the last final one says how far it got. After a pause it goes on there, 31 days
back at most, for so long at a ring as it is given. Counting twice at once, or again, gives the same rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import Case, Count, Func, Sum, When
from django.utils import timezone

from crazyrouter.generation.evidence import make_first_id
from crazyrouter.generation.ids import read_time
from crazyrouter.generation.latency import LAST, PER_OCTAVE, SHORTEST_MS
from crazyrouter.generation.models import Generation, ServiceHour
from crazyrouter.generation.outcomes import INVALID_UPSTREAM, MODERATION

HOUR = timedelta(hours=1)
#: How long after its id was drawn the row of a generation may be written.
ARRIVING = timedelta(minutes=10)
#: Older hours are not counted any more.
REACH = timedelta(days=31)
#: Older hours are deleted.
KEPT = timedelta(days=35)
#: So long new hours are begun at one ring, in seconds.
PATIENCE_S = 10.0
#: Failures for the request's own sake.
UNFIT = frozenset({MODERATION.code, INVALID_UPSTREAM.code})
#: What is counted here; the others of a row are not touched.
COUNTED = ("served", "failed", "unfit", "running", "latency", "final")

State = Generation.State


class Bucket(Func):
    """`latency.find_bucket` of the milliseconds between two moments, as the database computes it."""

    output_field = models.IntegerField()
    arity = 2

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        ms = "round(extract(epoch FROM %(expressions)s)::float8 * 1000)"
        position = f"ln(greatest({ms} + 0.5, {SHORTEST_MS}) / {SHORTEST_MS}) * {PER_OCTAVE} / ln(2::float8)"
        return self.as_sql(
            compiler, connection, template=f"least(trunc({position}), {LAST})::integer", arg_joiner=" - ", **context
        )

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        ms = "round((julianday(%(expressions)s)) * 86400000)"
        position = f"ln(max({ms} + 0.5, {SHORTEST_MS}) / {SHORTEST_MS}.0) * {PER_OCTAVE} / ln(2)"
        return self.as_sql(
            compiler,
            connection,
            template=f"min(CAST({position} AS INTEGER), {LAST})",
            arg_joiner=") - julianday(",
            **context,
        )


def count_hours(now: datetime | None = None, *, patience_s: float = PATIENCE_S) -> int:
    """Count what has changed, at least one hour of it, and forget the oldest; how many hours were counted."""
    now = now or timezone.now()
    until = time.monotonic() + patience_s
    ServiceHour.objects.filter(hour__lt=now - KEPT).delete()
    counted = 0
    for hour in list_hours(now):
        count_hour(hour, final=now >= hour + HOUR + ARRIVING)
        counted += 1
        if time.monotonic() >= until:
            break
    return counted


# --- which hours ---


def list_hours(now: datetime) -> Iterator[datetime]:
    """Those of which something has ended since they were final, and then those that are not, the oldest first."""
    oldest = cut_hour(now - REACH)
    final = ServiceHour.objects.filter(hour__gte=oldest, hour__lte=now, final=True).order_by("-hour")
    yield from list_changed(final)
    newest = final.values_list("hour", flat=True).first()
    yield from walk_hours(newest + HOUR if newest else oldest, now)


def list_changed(final: models.QuerySet[ServiceHour]) -> list[datetime]:
    """Hours of which fewer generations run than when they were counted."""
    waited_for = dict(final.filter(running__gt=0).values_list("hour").annotate(Sum("running")).order_by("hour"))
    if not waited_for:
        return []
    ids = Generation.objects.filter(state=State.RUNNING).order_by().values_list("id", flat=True)
    running = Counter(find_hour(generation_id) for generation_id in ids)
    return [hour for hour, count in waited_for.items() if running[hour] != count]


def walk_hours(since: datetime, now: datetime) -> Iterator[datetime]:
    """The hours that have generations: each is looked for behind the last, so that none without costs anything."""
    while True:
        ids = Generation.objects.filter(id__gte=make_first_id(since)).order_by("id").values_list("id", flat=True)
        first = ids.first()
        if first is None or (hour := find_hour(first)) > now:
            return
        yield hour
        since = hour + HOUR


def find_hour(generation_id: str) -> datetime:
    return cut_hour(datetime.fromtimestamp(read_time(generation_id), UTC))


def cut_hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


# --- one hour ---


def count_hour(hour: datetime, *, final: bool) -> None:
    """Read first and write then, so that nobody waits for the reading."""
    found: dict[int, ServiceHour] = {}
    for model_id, state, failure, bucket, count in group_generations(hour):
        row = found.setdefault(model_id, ServiceHour(model_id=model_id, hour=hour, final=final))
        if state == State.SUCCEEDED:
            row.served += count
            row.latency[str(bucket)] = count
        elif state == State.RUNNING:
            row.running += count
        elif failure in UNFIT:
            row.unfit += count
        else:
            row.failed += count
    # In one order everywhere, so that two that write the same rows cannot deadlock.
    ServiceHour.objects.bulk_create(
        [found[model_id] for model_id in sorted(found)],
        update_conflicts=True,
        unique_fields=["hour", "model"],
        update_fields=COUNTED,
    )


def group_generations(hour: datetime) -> Iterable[tuple[int, str, str, int | None, int]]:
    """Model, state, failure and bucket of the hour's generations, with how many there are of each."""
    rows: Any = Generation.objects.filter(id__gte=make_first_id(hour), id__lt=make_first_id(hour + HOUR)).order_by()
    bucket = Case(When(state=State.SUCCEEDED, then=Bucket("finished_at", "created_at")))
    return rows.annotate(bucket=bucket).values_list("model_id", "state", "failure", "bucket").annotate(Count("pk"))
