"""Generations counted into hours: each once, whenever it ends and however often it is counted."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import ApiKey
from crazyrouter.generation.evidence import make_first_id
from crazyrouter.generation.latency import find_bucket
from crazyrouter.generation.models import Generation, ServiceHour
from crazyrouter.generation.service import read_service
from crazyrouter.generation.service_hours import count_hours
from crazyrouter.generation.tasks import count_service
from models_registry.models import ImageModel
from models_registry.seed import seed_models
from tests.race import race
from tests.shop import open_customer

#: The hour that is looked at, and a moment at which it has long been over.
HOUR = datetime(2026, 11, 30, 9, tzinfo=UTC)
LATER = HOUR + timedelta(hours=2)
MODEL, OTHER = "qwen-image-2.0", "qwen-image-max"
FAILED = ("upstream_failed", "no_channel_available", "rate_limit_exceeded", "storage_unavailable", "generation_timeout")
numbers = count(1)


@pytest.fixture
def key(database: None) -> ApiKey:
    seed_models()
    return ApiKey.objects.get(pk=open_customer().key_id)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def make_generation(
    key: ApiKey, at: datetime, *, took_ms: int = 4_000, failure: str = "", running: bool = False, model: str = MODEL
) -> Generation:
    product = ImageModel.objects.get(name=model)
    state = "running" if running else "failed" if failure else "succeeded"
    return Generation(
        id=f"{make_first_id(at)[:-6]}{next(numbers):06d}",
        account=key.account,
        api_key=key,
        model=product,
        price=product.prices.get(),
        unit_price_micros=200_000,
        prompt="a lighthouse",
        **dict.fromkeys(("width", "height", "render_width", "render_height"), 1024),
        n=2,
        response_format="url",
        state=state,
        failure=failure,
        delivered=1 if state == "succeeded" else 0,
        lease_expires_at=at,
        deadline_at=at,
        created_at=at,
        finished_at=None if running else at + timedelta(milliseconds=took_ms),
    )


def add(key: ApiKey, at: datetime, **facts: Any) -> Generation:
    made = make_generation(key, at, **facts)
    made.save(force_insert=True)
    return made


def end(generation: Generation, *, took_ms: int) -> None:
    at = generation.created_at + timedelta(milliseconds=took_ms)
    Generation.objects.filter(pk=generation.pk).update(state="succeeded", delivered=1, finished_at=at)


def read(hour: datetime = HOUR, model: str = MODEL) -> dict[str, Any]:
    """What the row says that is not nothing."""
    values = ServiceHour.objects.filter(hour=hour, model__name=model).values().get()
    return {name: value for name, value in values.items() if value and name not in ("id", "hour", "model_id")}


def list_hours() -> list[datetime]:
    return sorted(ServiceHour.objects.values_list("hour", flat=True))


def bucket(ms: int) -> str:
    return str(find_bucket(ms))


def test_nothing_is_nothing(database: None) -> None:
    assert count_service() == 0
    assert not ServiceHour.objects.exists()


def test_each_end_is_counted_as_what_it_is(key: ApiKey) -> None:
    for took_ms in (4_000, 4_000, 9_000):
        add(key, HOUR + minutes(5), took_ms=took_ms)
    for failure in FAILED:
        add(key, HOUR + minutes(10), failure=failure)
    for failure in ("moderation_blocked", "invalid_value"):
        add(key, HOUR + minutes(15), failure=failure)
    add(key, HOUR + minutes(20), running=True)
    add(key, HOUR + minutes(25), model=OTHER)
    assert count_hours(LATER) == 1
    latency = {bucket(4_000): 2, bucket(9_000): 1}
    assert read() == {"served": 3, "failed": 5, "unfit": 2, "running": 1, "latency": latency, "final": True}
    assert read(model=OTHER) == {"served": 1, "latency": {bucket(4_000): 1}, "final": True}


def test_an_hour_is_that_of_the_id(key: ApiKey) -> None:
    moment = timedelta(milliseconds=1)
    for at in (HOUR - moment, HOUR, HOUR + minutes(60) - moment, HOUR + minutes(60)):
        add(key, at, took_ms=3_600_000)
    assert count_hours(HOUR + minutes(180)) == 3
    assert [read(HOUR + minutes(60 * i))["served"] for i in (-1, 0, 1)] == [1, 2, 1]


def test_an_hour_stays_open_for_rows_that_are_written_late(key: ApiKey) -> None:
    add(key, HOUR + minutes(59))
    assert count_hours(HOUR + minutes(59)) == 1
    assert read() == {"served": 1, "latency": {bucket(4_000): 1}}
    add(key, HOUR + minutes(59))
    assert count_hours(HOUR + minutes(69)) == 1
    assert read() == {"served": 2, "latency": {bucket(4_000): 2}}
    assert count_hours(HOUR + minutes(70)) == 1
    assert read() == {"served": 2, "latency": {bucket(4_000): 2}, "final": True}
    assert count_hours(HOUR + minutes(71)) == 0


def test_one_that_ends_hours_later_is_not_missed(key: ApiKey) -> None:
    slow, slower = (add(key, HOUR + minutes(30), running=True) for _ in range(2))
    add(key, HOUR + minutes(40))
    add(key, HOUR + minutes(70))
    assert count_hours(HOUR + minutes(190)) == 2
    assert read() == {"served": 1, "running": 2, "latency": {bucket(4_000): 1}, "final": True}
    # Nothing has ended: nothing is counted.
    assert count_hours(HOUR + minutes(191)) == 0
    end(slow, took_ms=10_800_000)
    assert count_hours(HOUR + minutes(211)) == 1
    assert read()["running"] == 1
    # Not even after an outage for which nobody drove it on.
    end(slower, took_ms=86_400_000)
    assert count_hours(HOUR + timedelta(days=2)) == 1
    latency = {bucket(4_000): 1, bucket(10_800_000): 1, bucket(86_400_000): 1}
    assert read() == {"served": 3, "latency": latency, "final": True}
    assert count_hours(HOUR + timedelta(days=2)) == 0


def test_it_goes_on_where_it_stopped_and_makes_some_way_each_time(key: ApiKey) -> None:
    days = [HOUR - timedelta(days=ago) for ago in (20, 10, 5, 0)]
    for at in reversed(days):
        add(key, at)
    for done in range(1, 5):
        assert count_hours(LATER, patience_s=0) == 1
        assert list_hours() == days[:done]
    assert count_hours(LATER, patience_s=0) == 0


def test_a_month_is_caught_up_and_older_hours_are_forgotten(key: ApiKey) -> None:
    now = HOUR + minutes(30)
    for days in (32, 31, 0):
        add(key, HOUR - timedelta(days=days))
    model = ImageModel.objects.get(name=MODEL)
    for days in (36, 35, 34):
        ServiceHour.objects.create(model=model, hour=HOUR - timedelta(days=days), served=1, final=True)
    assert count_hours(now) == 2
    assert list_hours() == [HOUR - timedelta(days=days) for days in (34, 31, 0)]


def test_what_was_turned_away_is_left_alone(key: ApiKey) -> None:
    model = ImageModel.objects.get(name=MODEL)
    ServiceHour.objects.create(model=model, hour=HOUR, turned_away=7)
    add(key, HOUR)
    for _ in range(2):
        count_hours(LATER)
        assert read() == {"served": 1, "turned_away": 7, "latency": {bucket(4_000): 1}, "final": True}


def test_counted_at_once_and_again_it_is_the_same(key: ApiKey) -> None:
    for number in range(40):
        at = HOUR - timedelta(hours=number % 5)
        add(key, at, took_ms=1_000 * number, failure="upstream_failed" if number % 3 == 0 else "")
        add(key, at, model=OTHER, running=number % 7 == 0)
    assert [error for error in race(4, lambda _: count_hours(LATER)) if isinstance(error, Exception)] == []
    rows = list(ServiceHour.objects.values())
    assert sum(row["served"] + row["failed"] + row["running"] for row in rows) == 80
    count_hours(LATER)
    assert list(ServiceHour.objects.values()) == rows
    ServiceHour.objects.all().delete()
    count_hours(LATER)
    assert [{**row, "id": 0} for row in ServiceHour.objects.values()] == [{**row, "id": 0} for row in rows]


def test_the_database_finds_the_same_buckets(key: ApiKey) -> None:
    times = [0, 1, 99, 100, 103, 104, 199, 200, 399, 400, 799, 800, 1_234, 12_799, 12_800, 13_107_199, 13_107_200]
    times += [round(100 * 2 ** (edge / 16)) + near for edge in range(20, 272, 9) for near in (-1, 0, 1)] + [10**9]
    Generation.objects.bulk_create([make_generation(key, HOUR, took_ms=took_ms) for took_ms in times])
    count_hours(LATER)
    expected: dict[str, int] = {}
    for took_ms in times:
        expected[bucket(took_ms)] = expected.get(bucket(took_ms), 0) + 1
    assert read()["latency"] == expected


def test_one_that_ended_before_it_began_took_no_time(key: ApiKey) -> None:
    """The database's clock was set back."""
    add(key, HOUR, took_ms=-5_000)
    count_hours(LATER)
    assert read()["latency"] == {"0": 1}


def test_what_is_counted_can_be_read(key: ApiKey) -> None:
    for number in range(30):
        add(key, HOUR + minutes(number), took_ms=6_000 if number < 28 else 40_000)
        if number % 10 == 0:
            add(key, HOUR + minutes(number), failure="upstream_failed")
            add(key, HOUR + minutes(number), failure="moderation_blocked")
    count_hours(LATER)
    service = read_service(LATER)[ImageModel.objects.get(name=MODEL).pk]
    assert (service.timed, service.p50_s, service.p95_s) == (30, 6.0, 40.0)
    assert (service.judged, service.availability, service.days[-1].availability) == (33, 90.9, 90.9)


def test_no_table_is_walked(key: ApiKey) -> None:
    """However many generations there are: ranges of ids, and the index of those that run."""
    add(key, HOUR, running=True)
    add(key, HOUR + minutes(60))
    count_hours(LATER + minutes(30))
    Generation.objects.filter(state="running").update(state="failed", failure="upstream_failed")
    add(key, HOUR + minutes(120))
    with CaptureQueriesContext(connection) as queries:
        assert count_hours(LATER + minutes(30)) == 2
    asked = [one["sql"] for one in queries if "generation_generation" in one["sql"]]
    assert len(asked) == 5
    plans = [line for sql in asked for line in explain(sql) if "generation_generation" in line]
    if connection.vendor == "sqlite":
        by_id = "SEARCH generation_generation USING INDEX sqlite_autoindex_generation_generation_1 (id>? AND id<?)"
        from_id = by_id.replace("INDEX", "COVERING INDEX").replace(" AND id<?", "")
        running = "SCAN generation_generation USING INDEX generation_running"
        assert plans == [running, by_id, from_id, by_id, from_id]
    else:
        assert [line for line in plans if "Seq Scan" in line] == []
        found = [re.search(r"using (\w+) on", line) for line in plans]
        assert {match[1] for match in found if match} == {"generation_generation_pkey", "generation_running"}


def explain(sql: str) -> list[str]:
    """Small tables are scanned by PostgreSQL, so it is told not to."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}".replace("%", "%%"), ())
            return [line for *_, line in cursor.fetchall()]
        cursor.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN {sql}".replace("%", "%%"), ())
        lines = [line for (line,) in cursor.fetchall()]
        cursor.execute("RESET enable_seqscan; RESET enable_bitmapscan")
        return lines
