"""The figures that everybody may read: of which orders, over which days, rounded how."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from crazyrouter.generation.latency import find_bucket
from crazyrouter.generation.models import ServiceHour
from crazyrouter.generation.service import Day, Service, read_service, round_time
from models_registry.models import ImageModel
from models_registry.seed import seed_models

#: 17:30 in Shanghai.
NOW = datetime(2026, 11, 30, 9, 30, tzinfo=UTC)
THIS_HOUR = NOW.replace(minute=0)
TODAY, YESTERDAY = date(2026, 11, 30), date(2026, 11, 29)


@pytest.fixture
def model(db: None) -> ImageModel:
    seed_models()
    return ImageModel.objects.get(name="qwen-image-2.0")


def write(model: ImageModel, hours_ago: float, *, took_ms: int = 4_000, **counts: int) -> None:
    latency = {str(find_bucket(took_ms)): counts["served"]} if counts.get("served") else {}
    ServiceHour.objects.create(
        model=model, hour=THIS_HOUR - timedelta(hours=hours_ago), latency=latency, final=True, **counts
    )


def read(model: ImageModel, now: datetime = NOW) -> Service:
    return read_service(now)[model.pk]


def read_strip(model: ImageModel) -> dict[date, float]:
    """The days of which something is said."""
    return {day.date: day.availability for day in read(model).days if day.availability is not None}


def test_a_model_that_nobody_orders_has_figures_that_say_nothing(model: ImageModel) -> None:
    service = read(model)
    assert (service.timed, service.p50_s, service.p95_s) == (0, None, None)
    assert (service.judged, service.availability) == (0, None)
    assert service.days[0] == Day(date(2026, 11, 1), None)
    assert service.days[-1] == Day(TODAY, None)
    assert len(service.days) == 30


def test_availability_is_of_orders_that_could_have_been_served(model: ImageModel) -> None:
    write(model, 1, served=90, failed=5, turned_away=5, unfit=300, running=7)
    service = read(model)
    assert (service.timed, service.judged, service.availability) == (90, 100, 90.0)
    assert read_strip(model) == {TODAY: 90.0}


def test_one_failure_in_many_is_never_rounded_away(model: ImageModel) -> None:
    write(model, 1, served=99_999, failed=1)
    assert read(model).availability == 99.9


def test_all_served_is_all(model: ImageModel) -> None:
    write(model, 1, served=20)
    assert read(model).availability == 100.0


def test_nothing_served_is_nothing(model: ImageModel) -> None:
    write(model, 1, turned_away=20)
    assert (read(model).availability, read(model).p50_s) == (0.0, None)


@pytest.mark.parametrize(("served", "failed", "p50_s", "availability"), [(19, 0, None, None), (19, 1, None, 95.0)])
def test_of_few_nothing_is_said(
    model: ImageModel, served: int, failed: int, p50_s: float | None, availability: float | None
) -> None:
    write(model, 1, served=served, failed=failed)
    service = read(model)
    assert (service.p50_s, service.p95_s, service.availability) == (p50_s, p50_s, availability)


def test_times_are_of_a_week_and_availability_of_thirty_days(model: ImageModel) -> None:
    write(model, 1, served=95, took_ms=4_000)
    write(model, 7 * 24, served=5, took_ms=20_000)
    write(model, 7 * 24 + 1, served=1_000, took_ms=60_000)
    # 17:30 here: today and 29 days before it began so many hours ago.
    write(model, 17 + 29 * 24, served=50, failed=50)
    write(model, 18 + 29 * 24, failed=1_000_000)
    service = read(model)
    assert (service.timed, service.p50_s, service.p95_s) == (100, 4.0, 4.0)
    assert (service.judged, service.availability) == (1_200, 95.8)
    assert [service.days[i].availability for i in (0, -8, -1)] == [50.0, 100.0, 100.0]


def test_a_slow_tail_shows_in_the_p95_alone(model: ImageModel) -> None:
    write(model, 1, served=94, took_ms=4_000)
    write(model, 2, served=6, took_ms=75_000)
    assert (read(model).p50_s, read(model).p95_s) == (4.0, 75.0)


def test_days_are_those_of_the_time_zone(model: ImageModel, settings: Any) -> None:
    write(model, 17, served=20)  # 16:00 UTC: midnight in Shanghai
    write(model, 18, served=10, failed=10)
    assert read_strip(model) == {TODAY: 100.0, YESTERDAY: 50.0}


def test_each_model_has_its_own(model: ImageModel) -> None:
    other = ImageModel.objects.get(name="qwen-image-max")
    write(model, 1, served=20)
    write(other, 1, served=20, failed=20, took_ms=30_000)
    assert (read(model).availability, read(model).p50_s) == (100.0, 4.0)
    assert (read(other).availability, read(other).p50_s) == (50.0, 30.0)
    assert set(read_service(NOW)) == {model.pk, other.pk}


def test_an_hour_that_has_not_begun_is_not_read(model: ImageModel) -> None:
    write(model, -1, served=100)
    assert read(model).judged == 0


def test_one_query_over_a_range_of_hours(model: ImageModel) -> None:
    for hours_ago in range(48):
        write(model, hours_ago, served=20)
    with CaptureQueriesContext(connection) as queries:
        read_service(NOW)
    [query] = [one["sql"] for one in queries]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {query}".replace("%", "%%"), ())
            [(*_, plan)] = cursor.fetchall()
        assert plan == (
            "SEARCH generation_servicehour USING INDEX sqlite_autoindex_generation_servicehour_1 (hour>? AND hour<?)"
        )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *((0.1, 0.5), (0.7, 0.5), (0.75, 1.0), (4.3, 4.5), (9.74, 9.5), (9.76, 10.0), (10.4, 10.0), (10.5, 11.0)),
        *((59.4, 59.0), (59.6, 60.0), (62.4, 60.0), (62.5, 65.0), (301.0, 300.0)),
    ],
)
def test_times_are_rounded_to_what_can_be_promised(seconds: float, told: float) -> None:
    assert round_time(seconds) == told
