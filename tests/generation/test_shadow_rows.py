"""The rows of copies: opened within their caps over all processes, ended once, also when their process is gone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from billing.models import Account
from crazyrouter.generation.journal.queue import Asking, place_asks
from crazyrouter.generation.journal.shadow_ends import FIND_LOST, AcceptedCopy, EndedCopy, accept_shadows, end_shadows
from crazyrouter.generation.journal.shadows import COUNT_COPIES, Copy, Opened, find_midnight, open_shadows
from crazyrouter.generation.models import Attempt, Generation, WaitingCall
from crazyrouter.generation.recovery import load_resumptions
from crazyrouter.generation.shadowing import end_lost_shadows, is_shared
from crazyrouter.sql import Statement, read_clock
from providers.models import Capacity, Channel, Offer
from tests.books import read_violations
from tests.generation.test_recovery import build_orders, make_ask, open_orders
from tests.generation.trial import MODEL, agree, limit, make_copies, open_shared_trial, open_trial, read_copies, write
from tests.race import race
from tests.shop import Customer
from tests.simulator.running import RunningSimulator


def test_a_day_begins_at_midnight_where_the_operators_are(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Shanghai"
    before = datetime(2026, 11, 22, 15, 59, 59, 999_000, tzinfo=UTC)
    assert find_midnight(round(before.timestamp() * 1000)) == datetime(2026, 11, 21, 16, tzinfo=UTC)
    after = before + timedelta(milliseconds=1)
    assert find_midnight(round(after.timestamp() * 1000)) == datetime(2026, 11, 22, 16, tzinfo=UTC)


def open_patiently(copies: Sequence[Copy]) -> list[Opened]:
    """As a process does that finds the offer's row held by another one."""
    opened: dict[tuple[str, int], Opened] = {}
    for _ in range(500):
        left = [copy for copy in copies if copy.name not in opened or opened[copy.name].busy]
        if not left:
            break
        opened |= {copy.name: one for copy, one in zip(left, write(open_shadows, left), strict=True)}
    return list(opened.values())


def test_processes_at_the_cap_open_exactly_so_many(customer: Customer, simulator: RunningSimulator) -> None:
    """Eight writers with forty copies, of which seventeen are paid for: seventeen rows, each granted once."""
    agree(customer)
    open_trial(simulator, per_day=17)
    capacity = limit("trial", max_running=1000)
    batches = [make_copies(customer, 5) for _ in range(8)]
    results = race(8, lambda number: [one for copy in batches[number] for one in open_patiently([copy])])
    opened = [one for batch in results for one in batch]  # type: ignore[attr-defined]
    assert [one.busy for one in opened] == [False] * 40
    calls = [one.call for one in opened if one.call is not None]
    assert len(calls) == 17 == Attempt.objects.filter(purpose="shadow").count()
    capacity.refresh_from_db()
    assert capacity.running == 17
    assert read_violations() == []


def test_a_process_does_not_wait_for_another_that_counts(customer: Customer, simulator: RunningSimulator) -> None:
    """PostgreSQL only: SQLite has one writer, which waits for none."""
    if connection.vendor != "postgresql":
        pytest.skip("one writer")
    agree(customer)
    open_trial(simulator)
    [first, second] = make_copies(customer, 2)
    with transaction.atomic():
        [granted] = open_shadows(connection, [first])
        [waited] = race(1, lambda _: write(open_shadows, [second])[0])
    assert granted.call is not None
    assert waited == Opened(None, busy=True)
    assert write(open_shadows, [second])[0].call is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda: Offer.objects.filter(shadow_percent__isnull=False).update(enabled=False),
        lambda: Offer.objects.filter(shadow_percent__isnull=False).update(shadow_per_day=0),
        lambda: Offer.objects.filter(shadow_percent__isnull=False).update(shadow_percent=None),
        lambda: Channel.objects.filter(name="trial").update(enabled=False),
        lambda: Channel.objects.filter(name="trial").update(draining_since=datetime(2026, 11, 22, tzinfo=UTC)),
        lambda: Account.objects.update(shadow_allowed=False),
        lambda: Generation.objects.update(state="running"),
    ],
)
def test_what_the_rows_say_now_counts(customer: Customer, simulator: RunningSimulator, change: Any) -> None:
    agree(customer)
    open_trial(simulator)
    copies = make_copies(customer, 1)
    change()
    assert write(open_shadows, copies) == [Opened()]
    assert read_copies() == []


def test_a_lost_commit_is_found_again(customer: Customer, simulator: RunningSimulator) -> None:
    """The same transaction twice: one attempt, one place, and the call to make."""
    agree(customer)
    open_trial(simulator, per_day=1)
    capacity = limit("trial", max_running=5)
    copies = make_copies(customer, 1)
    [first] = write(open_shadows, copies)
    [again] = write(open_shadows, copies)
    assert first.call is not None
    assert again.call is not None
    assert (again.call.number, again.call.slots, again.call.route) == (1001, (0,), first.call.route)
    capacity.refresh_from_db()
    assert (capacity.running, len(read_copies())) == (1, 1)


def test_nobody_who_waits_is_overtaken(customer: Customer, simulator: RunningSimulator) -> None:
    """One place is free, and a customer's call is in the queue for it."""
    agree(customer)
    open_shared_trial(simulator, max_running=10)
    copies = make_copies(customer, 1)
    [waiting] = build_orders(customer, 1)
    open_orders([waiting])
    Capacity.objects.update(max_running=1)
    [placement] = write(place_asks, [Asking(make_ask(waiting, number=5), "gone", limit_s=3600.0)])
    assert len(placement.waiting) == 1
    Capacity.objects.update(max_running=10)
    assert write(open_shadows, copies) == [Opened()]
    WaitingCall.objects.all().delete()
    assert write(open_shadows, copies)[0].call is not None


def test_what_shares_a_capacity_with_customers(customer: Customer, simulator: RunningSimulator) -> None:
    from crazyrouter.generation.snapshot import View, load

    def is_shared_now() -> bool:
        catalog, routes, _ = load(frozenset())
        return is_shared(routes[MODEL].shadows[0], View(catalog, routes, {}, 0.0))

    open_trial(simulator, "dashscope_sync")
    assert not is_shared_now()
    capacity = limit("trial")
    assert not is_shared_now()
    Channel.objects.filter(name="dashscope_sync-0").update(account=capacity.account)
    assert is_shared_now()
    Capacity.objects.create(account=capacity.account, upstream_model="qwen-image-max")
    assert is_shared_now()
    Offer.objects.filter(channel__name="dashscope_sync-0").exclude(model__name="qwen-image-max").update(enabled=False)
    assert not is_shared_now()


# --- a process that is gone ---


def lose_copies(customer: Customer, simulator: RunningSimulator, count: int = 3) -> Capacity:
    """Copies as a killed process leaves them."""
    agree(customer)
    open_trial(simulator)
    capacity = limit("trial", max_running=1000)
    Capacity.objects.update(call_ms=4_000)
    assert all(one.call is not None for one in write(open_shadows, make_copies(customer, count)))
    return capacity


def age_copies(seconds: float, *, shape: str = "sync") -> None:
    moment = read_clock(connection) - timedelta(seconds=seconds)
    Attempt.objects.filter(purpose="shadow").update(created_at=moment, shape=shape)


def test_a_copy_without_a_process_is_ended_past_its_horizon(
    customer: Customer, simulator: RunningSimulator, settings: Any
) -> None:
    capacity = lose_copies(customer, simulator)
    for shape, horizon in (("sync", settings.SYNC_HORIZON_S), ("async", settings.ASYNC_HORIZON_S)):
        age_copies(horizon - 5, shape=shape)
        assert end_lost_shadows(days=2) == 0
    accept = AcceptedCopy(read_copies()[0].generation_id, 1001, "task", "")
    assert write(accept_shadows, [accept]) == [True]
    age_copies(settings.ASYNC_HORIZON_S + 1, shape="async")
    assert read_violations() == []
    assert end_lost_shadows(days=2) == 3
    capacity.refresh_from_db()
    assert (capacity.running, capacity.call_ms) == (0, 4_000)
    assert {(one.state, one.code, one.billed, one.comparison) for one in read_copies()} == {
        ("unknown", "connection_lost", "unknown", None)
    }
    assert end_lost_shadows(days=2) == 0
    capacity.refresh_from_db()
    assert capacity.running == 0
    assert read_violations() == []


def test_the_frequent_look_leaves_very_old_ones_to_the_nightly(customer: Customer, simulator: RunningSimulator) -> None:
    lose_copies(customer, simulator, 1)
    age_copies(3 * 86_400)
    assert [end_lost_shadows(days=days) for days in (2, 3650)] == [0, 1]


def test_of_many_who_end_a_copy_one_gives_its_room_back(
    customer: Customer, simulator: RunningSimulator, settings: Any
) -> None:
    """Two sweeps and the process itself, which comes late, at once."""
    capacity = lose_copies(customer, simulator, 12)
    Capacity.objects.update(running=20)
    age_copies(settings.SYNC_HORIZON_S + 1)
    ends = [
        EndedCopy(copy.generation_id, 1001, "succeeded", images=1, capacity_id=capacity.pk, took_ms=4_000)
        for copy in read_copies()
    ]

    def work(number: int) -> int:
        return end_lost_shadows(days=2) if number % 2 else sum(write(end_shadows, ends))

    assert sum(race(4, work)) == 12  # type: ignore[arg-type]
    capacity.refresh_from_db()
    assert capacity.running == 8


def test_nothing_is_written_for_a_copy_that_was_given_up(
    customer: Customer, simulator: RunningSimulator, settings: Any
) -> None:
    lose_copies(customer, simulator, 1)
    age_copies(settings.SYNC_HORIZON_S + 1)
    assert end_lost_shadows(days=2) == 1
    [copy] = read_copies()
    assert write(accept_shadows, [AcceptedCopy(copy.generation_id, 1001, "late", "")]) == [False]
    assert write(end_shadows, [EndedCopy(copy.generation_id, 1001, "succeeded", images=1)]) == [False]
    [copy] = read_copies()
    assert (copy.state, copy.task_id, copy.images) == ("unknown", "", 0)


def test_no_end_of_a_customers_call_is_one_of_a_copy(customer: Customer, simulator: RunningSimulator) -> None:
    """Their numbers differ, and so do the conditions of what is written."""
    lose_copies(customer, simulator, 1)
    [mine] = Attempt.objects.filter(purpose="customer")
    assert write(end_shadows, [EndedCopy(mine.generation_id, mine.number, "failed")]) == [False]
    assert write(accept_shadows, [AcceptedCopy(mine.generation_id, mine.number, "t", "")]) == [False]
    mine.refresh_from_db()
    assert (mine.state, mine.task_id) == ("failed", "")


def test_recovery_goes_on_from_the_customers_attempts_alone(customer: Customer, simulator: RunningSimulator) -> None:
    lose_copies(customer, simulator, 1)
    [copy] = read_copies()
    [found] = load_resumptions([copy.generation_id])
    assert (found.next_number, found.accepted, found.unsent) == (2, (), ())
    assert [call.number for call, _ in found.broken] == [1]


def test_what_takes_or_gives_back_room_names_it(customer: Customer, simulator: RunningSimulator) -> None:
    """So that the lane locks it before anything is written."""
    agree(customer)
    open_trial(simulator)
    capacity = limit("trial")
    [copy] = make_copies(customer, 1)
    assert copy.capacity_ids == (capacity.pk,)
    assert EndedCopy("g", 1001, "failed", capacity_id=capacity.pk).capacity_ids == (capacity.pk,)
    assert EndedCopy("g", 1001, "failed").capacity_ids == ()


@pytest.mark.parametrize(
    ("statement", "moments", "used"),
    [
        (COUNT_COPIES, 1, "USING INDEX attempt_shadow (created_at>?)"),
        (FIND_LOST, 3, "USING INDEX attempt_shadow (created_at>? AND created_at<?)"),
    ],
)
def test_only_copies_of_the_time_in_question_are_read(
    database: None, statement: Statement, moments: int, used: str
) -> None:
    """SQLite's plan; PostgreSQL's goes by the number of rows."""
    if connection.vendor != "sqlite":
        pytest.skip("another planner")
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement.render('sqlite')}", ["2026-11-22 16:00:00"] * moments)
        assert used in cursor.fetchall()[0][3]
