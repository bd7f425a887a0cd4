"""How the offers of a model have done: figures by offer and role, over the rows of both databases."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from crazyrouter.generation import evidence as module
from crazyrouter.generation.copies import NEVER_SENT
from crazyrouter.generation.ends import make_withdrawn
from crazyrouter.generation.evidence import (
    DAYS,
    Comparison,
    Figures,
    gather_evidence,
    join_spans,
    make_first_id,
    open_window,
)
from crazyrouter.generation.ids import new_id, read_time
from crazyrouter.generation.models import Attempt, Generation
from models_registry.models import ImageModel
from providers.models import Offer
from tests.admin.world import World, add_channel, add_offer, build_world

GENUINE = "qwen-image-max"


@pytest.fixture
def world(db: None) -> World:
    """Without the attempts that it is built with."""
    world = build_world()
    Attempt.objects.all().delete()
    return world


def add_call(world: World, offer: Offer, *, age: timedelta = timedelta(), **values: Any) -> Attempt:
    """One call of a generation of its own, that long ago; `took_s` of a call that ended."""
    moment = timezone.now() - timedelta(minutes=5) - age
    generation = copy_generation(world.generation, moment, model=offer.model)
    took_s = values.pop("took_s", None)
    facts: dict[str, Any] = {
        "number": 1,
        "slots": [0],
        "state": "succeeded",
        "images": 1,
        "channel": offer.channel,
        "credential": offer.channel.credentials.get(),
        "base_url": offer.channel.base_url,
        "upstream_model": offer.upstream_model,
        "shape": offer.shape,
        "created_at": moment,
        "ended_at": None if took_s is None else moment + timedelta(seconds=took_s),
    }
    return Attempt.objects.create(generation=generation, offer=offer, **(facts | values))


def copy_generation(one: Generation, moment: datetime, *, model: ImageModel) -> Generation:
    values = {field.attname: getattr(one, field.attname) for field in Generation._meta.concrete_fields}
    first = make_first_id(moment)
    changed = {"id": first[:14] + new_id("gen")[14:], "created_at": moment, "model_id": model.pk}
    return Generation.objects.create(**(values | changed))


def fail(code: str, billed: str = "no", **values: Any) -> dict[str, Any]:
    return {"state": "failed", "images": 0, "code": code, "billed": billed, "took_s": 1, **values}


def read(world: World, days: int = 30) -> list[Figures]:
    return list(gather_evidence(world.max, days=days).figures)


def test_one_line_of_figures(world: World) -> None:
    for seconds in (1, 2, 3, 4):
        add_call(world, world.offer, took_s=seconds, slots=[0, 1], images=2)
    add_call(world, world.offer, **fail("timeout", "unknown", took_s=330, state="unknown"))
    add_call(world, world.offer, **fail("timeout", "unknown", took_s=330, state="unknown"))
    add_call(world, world.offer, **fail("bad_response", "yes", detail="too_small: 256x256 for 1328x1328"))
    add_call(world, world.offer, **fail("bad_response", "yes", detail="wrong_aspect: 9x1 for 1328x1328"))
    add_call(world, world.offer, **fail("bad_response", "yes", detail="damaged: too_small a file"))
    add_call(world, world.offer, **fail("content_policy"))
    add_call(world, world.offer, **fail("bad_request", state="rejected"))
    add_call(world, world.offer, state="created", images=0)
    add_call(world, world.offer, state="accepted", images=0)
    [one] = read(world)
    assert one == Figures(
        offer_id=world.offer.pk,
        channel="official",
        upstream_model=GENUINE,
        role="customer",
        calls=13,
        running=2,
        refused=2,
        succeeded=4,
        wanted=15,
        images=8,
        wrong_size=2,
        mean_ms=2_500,
        p95_ms=4_000,
        failures={"bad_response": 3, "timeout": 2, "bad_request": 1, "content_policy": 1},
    )
    assert (one.judged, one.success_rate) == (9, 4 / 9)


def test_what_never_left_says_nothing_of_a_carrier(world: World) -> None:
    """A channel that goes out of service between grant and submit, a copy that its process has no time for."""
    call = SimpleNamespace(number=1)
    [withdrawn] = make_withdrawn(call).failures  # type: ignore[arg-type]
    for failure in (withdrawn, NEVER_SENT):
        add_call(world, world.offer, **fail(failure.code, state="rejected", detail=failure.detail))
    add_call(world, world.offer, **fail("not_available", state="rejected", detail="404 never sent: no such model"))
    add_call(world, world.offer, took_s=2)
    [one] = read(world)
    assert (one.calls, one.succeeded, one.wanted, one.images) == (2, 1, 2, 1)
    assert one.failures == {"not_available": 1}
    assert one.success_rate == 0.5


def test_what_succeeded_in_part_is_a_success_with_a_failure(world: World) -> None:
    add_call(world, world.offer, took_s=2, slots=[0, 1], images=1, code="content_policy", billed="no")
    [one] = read(world)
    assert (one.calls, one.refused, one.succeeded, one.success_rate) == (1, 0, 1, 1.0)
    assert (one.images, one.wanted, one.failures) == (1, 2, {"content_policy": 1})


def test_where_nothing_can_be_said(world: World) -> None:
    add_call(world, world.offer, **fail("content_policy"))
    [one] = read(world)
    assert (one.judged, one.success_rate, one.mean_ms, one.p95_ms) == (0, None, None, None)
    assert gather_evidence(ImageModel.objects.get(name="qwen-image-plus")).figures == ()


@pytest.mark.parametrize(("calls", "rank"), [(1, 1), (2, 2), (19, 19), (20, 19), (21, 20), (40, 38), (41, 39)])
def test_p95_is_the_time_within_which_95_of_100_were(world: World, calls: int, rank: int) -> None:
    """The nearest rank, ceil(0.95 n); calls that failed have no part in it."""
    for second in range(calls, 0, -1):
        add_call(world, world.offer, took_s=second)
    add_call(world, world.offer, **fail("timeout", took_s=1000))
    [one] = read(world)
    assert one.p95_ms == rank * 1000
    assert one.mean_ms == (calls + 1) * 500


def test_several_calls_of_the_same_length(world: World) -> None:
    for _ in range(3):
        add_call(world, world.offer, took_s=2)
    [one] = read(world)
    assert (one.p95_ms, one.mean_ms) == (2_000, 2_000)


def test_channels_and_names_at_the_carrier_are_told_apart(world: World) -> None:
    other = add_offer(world.first, world.max, upstream_model="qwen-image-max-2025")
    for offer, seconds in ((world.offer, 1), (world.spare, 5), (other, 9)):
        add_call(world, offer, took_s=seconds)
        add_call(world, offer, took_s=seconds, age=timedelta(hours=1))
    figures = read(world)
    assert [(one.channel, one.upstream_model, one.calls, one.p95_ms) for one in figures] == [
        ("official", GENUINE, 2, 1_000),
        ("official", "qwen-image-max-2025", 2, 9_000),
        ("reseller", GENUINE, 2, 5_000),
    ]


def test_an_offer_that_was_deleted_keeps_its_line(world: World) -> None:
    add_call(world, world.spare, took_s=1)
    world.spare.delete()
    [one] = read(world)
    assert (one.offer_id, one.channel, one.calls) == (None, "reseller", 1)


# --- the time looked at ---


def test_only_generations_of_these_days_count(world: World) -> None:
    for days in (0, 2, 10, 40):
        add_call(world, world.offer, took_s=1, age=timedelta(days=days))
    assert [read(world, days)[0].calls for days in (1, 7, 30, 90)] == [1, 2, 3, 4]
    assert sorted(DAYS) == [1, 7, 30, 90]


def test_only_so_many_of_the_newest_generations_are_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all models: theirs is the index."""
    Generation.objects.filter(pk=world.generation.pk).update(created_at=timezone.now())
    for hours in range(5):
        add_call(world, world.offer, took_s=1, age=timedelta(hours=hours))
    assert (read(world)[0].calls, open_window(30).whole) == (5, True)
    monkeypatch.setattr(module, "NEWEST", 4)
    # One of the four is the world's own, which has no attempt any more.
    assert (read(world)[0].calls, open_window(30).whole) == (3, False)


def test_ids_are_cut_at_a_moment() -> None:
    moment = timezone.now()
    first = make_first_id(moment)
    assert read_time(first) == int(moment.timestamp())
    assert make_first_id(moment - timedelta(milliseconds=2)) < first < make_first_id(moment + timedelta(milliseconds=2))
    assert first <= new_id("gen") < make_first_id(moment + timedelta(minutes=1))


# --- roles ---


def set_canary(offer: Offer, percent: int | None, at: datetime) -> None:
    """As an operator does, at that moment."""
    offer.canary_percent = percent
    offer._history_date = at  # type: ignore[attr-defined]
    offer.save(update_fields=["canary_percent"])


def test_calls_of_a_canary_are_told_from_those_after_its_promotion(world: World) -> None:
    """By what the offer was when they were made: the attempt itself does not say."""
    now = timezone.now()
    Offer.history.filter(id=world.offer.pk).update(history_date=now - timedelta(days=20))
    set_canary(world.offer, 5, now - timedelta(days=10))
    set_canary(world.offer, 20, now - timedelta(days=8))
    set_canary(world.offer, None, now - timedelta(days=4))
    for days in (12, 9, 7, 7, 2):
        add_call(world, world.offer, took_s=days, age=timedelta(days=days))
    assert [(one.role, one.calls, one.p95_ms) for one in read(world)] == [
        ("customer", 2, 12_000),
        ("canary", 3, 9_000),
    ]


def test_a_canary_is_one_whatever_its_history_has_missed(world: World) -> None:
    add_call(world, world.offer, took_s=1)
    Offer.objects.filter(pk=world.offer.pk).update(canary_percent=10)
    Offer.history.all().delete()
    assert [(one.role, one.calls) for one in read(world)] == [("canary", 1)]
    Offer.objects.filter(pk=world.offer.pk).update(canary_percent=None)
    assert [(one.role, one.calls) for one in read(world)] == [("customer", 1)]


def test_spans_of_one_run_are_one() -> None:
    first, second, third = (datetime(2026, 11, day, tzinfo=timezone.get_current_timezone()) for day in (1, 2, 3))
    assert list(join_spans([(None, None), (first, None)])) == []
    assert list(join_spans([(None, None), (first, 5), (second, 7)])) == [module.select_since(first)]
    [span] = join_spans([(None, None), (first, 5), (second, 7), (third, None)])
    assert span == module.select_since(first) & Q(created_at__lt=third)


COMPARED = {
    "latency_ms": 4_000,
    "sizes": [[1328, 1328]],
    "asked": [1328, 1328],
    "images": 1,
    "wanted": 1,
    "failure": "",
    "customer": {"latency_ms": 6_000, "images": 1, "failure": ""},
}


def add_copy(world: World, offer: Offer, **changes: Any) -> None:
    comparison = COMPARED | changes
    state = "succeeded" if comparison["images"] else "failed"
    values: dict[str, Any] = {
        "state": state,
        "images": comparison["images"],
        "code": comparison["failure"],
        "took_s": 4,
    }
    add_call(world, offer, number=1001, purpose="shadow", comparison=comparison, **values)


def test_copies_are_no_calls_of_customers_and_stand_beside_them(world: World) -> None:
    trial = add_offer(add_channel("trial"), world.max, shadow_percent=10, shadow_per_day=5)
    add_call(world, world.offer, took_s=8)
    served = {"customer": COMPARED["customer"]}
    add_copy(world, trial)
    add_copy(world, trial, latency_ms=2_000, sizes=[[1024, 1024]], customer={"latency_ms": 9_000, "images": 2})
    add_copy(world, trial, images=0, sizes=[], failure="timeout", latency_ms=90_000, **served)
    add_copy(world, trial, customer={"latency_ms": 1_000, "images": 0, "failure": "upstream_failed"})
    add_copy(world, trial, images=0, sizes=[], failure="timeout", customer={"latency_ms": 1, "images": 0})
    add_call(world, trial, number=1001, purpose="shadow", state="unknown", images=0, code="connection_lost", took_s=9)
    found = gather_evidence(world.max)
    assert [(one.role, one.channel, one.calls, one.succeeded, one.failures) for one in found.figures] == [
        ("customer", "official", 1, 1, {}),
        ("shadow", "trial", 6, 3, {"timeout": 2, "connection_lost": 1}),
    ]
    assert found.comparisons == (
        Comparison(
            offer_id=trial.pk,
            channel="trial",
            upstream_model=GENUINE,
            copies=5,
            both=2,
            customer_only=1,
            copy_only=1,
            neither=1,
            pictures=3,
            as_asked=2,
            customer_total_ms=15_000,
            copy_total_ms=6_000,
        ),
    )
    [beside] = found.comparisons
    assert (beside.customer_ms, beside.copy_ms) == (7_500, 3_000)


def test_the_newest_copies_are_compared(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COMPARED", 2)
    trial = add_offer(add_channel("trial"), world.max, shadow_percent=10, shadow_per_day=5)
    for _ in range(3):
        add_copy(world, trial)
    [beside] = gather_evidence(world.max).comparisons
    assert beside.copies == 2


# --- what it costs ---


def test_it_asks_as_often_for_many_calls_as_for_few(world: World) -> None:
    add_call(world, world.offer, took_s=1)
    with CaptureQueriesContext(connection) as few:
        gather_evidence(world.max)
    for number in range(10):
        offer = add_offer(add_channel(f"channel-{number}"), world.max)
        add_call(world, offer, took_s=1)
        add_call(world, offer, **fail("timeout"))
    with CaptureQueriesContext(connection) as many:
        assert len(gather_evidence(world.max).figures) == 11
    assert len(few) == len(many) == 7


def test_no_table_is_walked(world: World) -> None:
    """SQLite's plans, which it makes without knowing how many rows there are."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's plans go by the number of rows")
    with CaptureQueriesContext(connection) as queries:
        gather_evidence(world.max)
    large = [query["sql"] for query in queries if "generation_" in query["sql"]]
    assert len(large) == 5
    for sql in large:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}".replace("%", "%%"), ())
            plan = [line for *_, line in cursor.fetchall()]
        walked = [line for line in plan if line.startswith("SCAN generation_")]
        # The newest so many ids, in their order.
        assert all("COVERING INDEX" in line and " LIMIT 1 OFFSET " in sql for line in walked), (sql, plan)
