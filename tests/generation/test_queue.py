"""Room is shared exactly: whoever finds none waits in turn, and the rows say what runs; through the API and raced."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import time_machine
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.db.models.functions import Now

from crazyrouter.generation import lane as lane_module
from crazyrouter.generation import waiting as waiting_module
from crazyrouter.generation import wellbeing as wellbeing_module
from crazyrouter.generation.journal.opening import Opened, Opening, open_generations
from crazyrouter.generation.journal.queue import READ_CROWDS, Asking, place_asks
from crazyrouter.generation.journal.results import Ended, book_results
from crazyrouter.generation.journal.turns import READ_LINE, grant_turns
from crazyrouter.generation.lane import Entry, write_batch
from crazyrouter.generation.models import Attempt, Generation, Turn, WaitingCall
from crazyrouter.generation.order import CallResult, Failure, Order
from crazyrouter.generation.runtime import close_runtime, get_runtime
from providers.capacity import lock_capacities
from providers.contract import Billed, Code, Scope
from providers.health import reset_health
from providers.models import Capacity, Channel, Offer, OfferHealth, UpstreamAccount
from tests.books import count_rows_async, read_violations, read_violations_async
from tests.generation.test_lost_database import fail_first
from tests.generation.test_recovery import build_orders, make_ask, shift_leases, wait_for
from tests.race import race
from tests.shop import Customer, open_channel, open_customer
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
MODEL = "qwen-image-2.0"
SMALL = {"model": MODEL, "prompt": "a cat", "size": "512x512"}


@pytest.fixture(autouse=True)
def patience(settings: Any) -> None:
    """As in production."""
    settings.QUEUE_LIMIT_S = 120.0


def limit(model: str = MODEL, *, channel: str = "dashscope_sync-0", **values: Any) -> Capacity:
    """The channel belongs to an upstream account that can take so much of the model."""
    account, _ = UpstreamAccount.objects.get_or_create(name=f"account of {channel}")
    Channel.objects.filter(name=channel).update(account=account)
    return Capacity.objects.create(account=account, upstream_model=model, **values)


limit_async = sync_to_async(limit)


async def order(client: httpx.AsyncClient, count: int = 1, **changes: Any) -> list[httpx.Response]:
    return await asyncio.gather(*(client.post(URL, json=SMALL | changes) for _ in range(count)))


def read_capacity() -> tuple[int, int]:
    """Calls that run, and that wait."""
    return Capacity.objects.get().running, WaitingCall.objects.count()


async def test_what_finds_no_room_waits_and_is_served(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    capacity = await limit_async(max_running=1)
    responses = await order(gateway, 5)
    assert [response.status_code for response in responses] == [200] * 5
    assert await count_rows_async() == {"generations": 5, "attempts": 5, "images": 5, "charges": 5, "held": 0}
    assert await sync_to_async(read_capacity)() == (0, 0)
    waits = [row.routing.get("waited_s", 0) async for row in Attempt.objects.order_by("created_at")]
    assert [wait > 0 for wait in waits] == [False, True, True, True, True]
    assert {row async for row in Attempt.objects.values_list("capacity_id", flat=True)} == {capacity.pk}
    assert await Turn.objects.acount() == 1
    assert await read_violations_async() == []


async def test_no_more_run_than_the_account_takes(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    """While two run, nothing else is sent; what they give back is taken at once."""
    await limit_async(max_running=2)
    running = [asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": hold(0.4)})) for _ in range(6)]
    most = 0
    while not all(task.done() for task in running):
        open_now = await Attempt.objects.filter(state__in=["created", "accepted"]).acount()
        most = max(most, open_now)
        await asyncio.sleep(0.02)
    assert most == 2
    assert [task.result().status_code for task in running] == [200] * 6
    assert await read_violations_async() == []


def hold(seconds: float) -> str:
    return f"a cat [[sim: latency seconds={seconds}]]"


async def test_the_slots_of_one_order_wait_for_their_turns(gateway: httpx.AsyncClient) -> None:
    """Three calls over room for one: the order is whole in the end."""
    await limit_async("qwen-image-plus", channel="dashscope_async-0", max_running=1)
    [response] = await order(gateway, model="qwen-image-plus", size="1664x928", n=3)
    assert (response.status_code, len(response.json()["data"])) == (200, 3)
    numbers = [row async for row in Attempt.objects.order_by("number").values_list("number", "slots", "state")]
    assert numbers == [(1, [0], "succeeded"), (2, [1], "succeeded"), (3, [2], "succeeded")]
    assert await read_violations_async() == []


async def test_work_spreads_over_every_channel_with_room_before_anything_waits(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    second = await sync_to_async(open_channel)(
        f"{simulator.base_url}/api/v1", "dashscope_sync", {MODEL: 6}, name="second", priority=5
    )
    await limit_async(max_running=1)
    await limit_async(channel="second", max_running=1)
    responses = await order(gateway, 2, prompt=hold(0.5))
    assert [response.status_code for response in responses] == [200, 200]
    attempts = [row async for row in Attempt.objects.order_by("channel_id").values_list("channel_id", "routing")]
    assert [channel for channel, _ in attempts][1] == second.pk
    assert attempts[1][1]["busy"][0]["why"] == "1 calls run there"
    assert "waited_s" not in attempts[1][1]


# --- no room in time ---


async def test_what_cannot_start_in_time_is_refused_before_anything_is_written(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, settings: Any
) -> None:
    settings.QUEUE_LIMIT_S = 20.0
    await limit_async(submit_interval_ms=30_000)
    [first] = await order(gateway)
    [refused] = await order(gateway)
    assert first.status_code == 200
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 8 <= int(refused.headers["retry-after"]) <= 11
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert simulator.totals()["submissions"] == 1
    assert await read_violations_async() == []


async def test_its_idempotency_key_is_free_again(gateway: httpx.AsyncClient, settings: Any) -> None:
    settings.QUEUE_LIMIT_S = 1.0
    capacity = await limit_async(submit_interval_ms=30_000)
    await order(gateway)
    key = {"Idempotency-Key": "k1"}
    assert (await gateway.post(URL, json=SMALL, headers=key)).status_code == 429
    await Capacity.objects.filter(pk=capacity.pk).aupdate(submit_interval_ms=None)
    await asyncio.sleep(0)
    again = await gateway.post(URL, json=SMALL, headers=key)
    assert (again.status_code, again.headers.get("idempotent-replayed")) == (200, None)


async def test_who_waits_in_vain_is_told_when_it_would_have_been(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, settings: Any
) -> None:
    """The estimate was too hopeful: a call that runs takes much longer than those before it."""
    settings.QUEUE_LIMIT_S = 0.6
    capacity = await limit_async(max_running=1)
    await Capacity.objects.filter(pk=capacity.pk).aupdate(call_ms=200)
    slow = asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": hold(5)}))
    await wait_for(Attempt.objects.aexists)
    [vain] = await order(gateway)
    assert (vain.status_code, vain.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(vain.headers["retry-after"]) >= 1
    assert (await slow).status_code == 200
    assert await count_rows_async() == {"generations": 2, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert await sync_to_async(read_capacity)() == (0, 0)
    assert await read_violations_async() == []


async def test_nobody_waits_for_a_channel_that_is_taken_out_of_service(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await limit_async(max_running=1)
    slow = asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": hold(3)}))
    await wait_for(Attempt.objects.aexists)
    waiting = asyncio.create_task(gateway.post(URL, json=SMALL))
    await asyncio.sleep(0.1)
    await wait_for(sync_to_async(lambda: read_capacity() == (1, 1)))
    await Offer.objects.filter(model__name=MODEL).aupdate(enabled=False)
    refused = await waiting
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_channel_available")
    assert not slow.done()
    assert (await slow).status_code == 200
    assert simulator.totals()["submissions"] == 1


async def test_who_waits_follows_a_swap(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    """The other channel comes into service while the call waits for the first."""
    second = await sync_to_async(open_channel)(
        f"{simulator.base_url}/api/v1", "dashscope_sync", {MODEL: 6}, name="second", priority=5
    )
    await Offer.objects.filter(channel=second).aupdate(enabled=False)
    await limit_async(max_running=1)
    slow = asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": hold(4)}))
    await wait_for(Attempt.objects.aexists)
    waiting = asyncio.create_task(gateway.post(URL, json=SMALL))
    await wait_for(WaitingCall.objects.aexists)
    await Offer.objects.filter(channel=second).aupdate(enabled=True)
    assert (await waiting).status_code == 200
    assert not slow.done()
    assert (await slow).status_code == 200
    assert [row async for row in Attempt.objects.order_by("id").values_list("channel__name", flat=True)][1] == "second"


async def test_who_waits_for_a_cool_down_is_served_when_it_is_reset(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an operator, in whichever process: the one that met the throttle goes by the row, too."""
    monkeypatch.setattr(wellbeing_module, "BRIDGE_S", 0.5)
    simulator.add_rule("throttle", retry_after=100, times=1)
    waiting = asyncio.create_task(gateway.post(URL, json=SMALL))
    await wait_for(OfferHealth.objects.exclude(cooling_until=None).aexists)
    await wait_for(WaitingCall.objects.aexists)
    offer = await Offer.objects.aget(model__name=MODEL)
    assert await sync_to_async(reset_health)(offer, actor="olga")
    async with asyncio.timeout(20):
        assert (await waiting).status_code == 200
    assert simulator.totals()["submissions"] == 2


# --- after a crash, or a commit of which nobody heard ---


async def test_what_waited_when_its_process_died_is_asked_anew(
    gateway: httpx.AsyncClient, customer: Customer, simulator: RunningSimulator
) -> None:
    await limit_async(max_running=1)
    orders = await sync_to_async(build_orders)(customer, 3)
    opened = await sync_to_async(open_all)(orders, "gone")
    assert [len(one.placement.calls) for one in opened if one and one.placement] == [1, 0, 0]
    await sync_to_async(shift_leases)(-1)
    engine = get_runtime().engine
    assert await engine.take_over() == 3
    tasks = [task for one in orders if (task := engine.find(one.id))]
    outcomes = await asyncio.gather(*tasks)
    # The first may have been sent; the others never were.
    assert sorted((len(one.pictures), one.failure) for one in outcomes) == [(0, "upstream_failed"), (1, ""), (1, "")]
    assert await sync_to_async(read_capacity)() == (0, 0)
    assert simulator.totals()["submissions"] == 2
    assert await read_violations_async() == []


async def test_what_waited_and_nobody_can_serve_any_more_ends_as_that(
    gateway: httpx.AsyncClient, customer: Customer
) -> None:
    await limit_async(max_running=1)
    orders = await sync_to_async(build_orders)(customer, 2)
    await sync_to_async(open_all)(orders, "gone")
    await Channel.objects.aupdate(enabled=False)
    await asyncio.sleep(2)  # the snapshot of this process
    await sync_to_async(shift_leases)(-1)
    engine = get_runtime().engine
    assert await engine.take_over() == 2
    outcomes = await asyncio.gather(*[task for one in orders if (task := engine.find(one.id))])
    # The first may have been sent; the second never was.
    assert [one.failure for one in outcomes] == ["upstream_failed", "no_channel_available"]
    assert await read_violations_async() == []


def open_all(orders: Sequence[Order], owner: str) -> list[Opened | None]:
    """As one batch of the writer."""
    with transaction.atomic():
        return open_generations(connection, [Opening(one, make_ask(one), owner) for one in orders])


async def test_nobody_waits_for_those_of_a_process_that_does_not_come_for_their_turns(
    gateway: httpx.AsyncClient,
) -> None:
    """It died a moment ago: its lease holds for long, and there is room for those that it had wait."""
    capacity = await limit_async(max_running=1)
    other = await sync_to_async(open_customer)("bob")
    orders = await sync_to_async(build_orders)(other, 6)
    await sync_to_async(open_all)(orders, "gone")
    await sync_to_async(shift_leases)(600)
    await Attempt.objects.aupdate(state="failed", ended_at=Now())
    await Capacity.objects.filter(pk=capacity.pk).aupdate(running=0)
    async with asyncio.timeout(20):
        assert [response.status_code for response in await order(gateway, 2)] == [200, 200]
    assert await sync_to_async(read_capacity)() == (0, 5)


@pytest.mark.parametrize("step", ["open_generations", "grant_turns"])
async def test_a_commit_of_which_nobody_heard_is_found_again(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The transaction was committed, the connection broke, and it is run again."""
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", (0.01,))
    monkeypatch.setattr(waiting_module, "LOOK_FOR_LOST_S", 0.2)
    await limit_async(max_running=1)
    slow = asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": hold(0.5)}))
    await wait_for(Attempt.objects.aexists)
    lose_answers(monkeypatch, step)
    [response] = await order(gateway, n=2)
    assert (response.status_code, len(response.json()["data"])) == (200, 2)
    assert (await slow).status_code == 200
    assert await count_rows_async() == {"generations": 2, "attempts": 2, "images": 3, "charges": 3, "held": 0}
    assert simulator.totals()["submissions"] == 2
    assert await sync_to_async(read_capacity)() == (0, 0)
    assert await read_violations_async() == []


def lose_answers(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The first commit that holds this step succeeds, and its caller is told that the connection broke."""
    from django.db import OperationalError

    commit = lane_module.commit
    lost: list[str] = []

    def commit_and_lose(batch: list[Entry]) -> None:
        commit(batch)
        names = [entry.operation.__name__ for entry in batch]
        granted = step != "grant_turns" or any(getattr(entry.result, "granted", ()) for entry in batch)
        if step in names and granted and not lost:
            lost.append(step)
            raise OperationalError("the connection broke")

    monkeypatch.setattr(lane_module, "commit", commit_and_lose)


def test_a_place_that_is_written_again_is_the_same(customer: Customer) -> None:
    """It does not stand behind itself; and each call has the place that it got."""
    limit(max_running=2)
    Offer.objects.update(max_n=2)
    [order] = build_orders(customer, 1, n=6)
    open_all(build_orders(customer, 1), "process")
    open_all([order], "process")
    WaitingCall.objects.all().delete()
    Capacity.objects.update(running=1)
    # The first of them starts now, and the others wait.
    further, alone = make_ask(order, number=10), make_ask(order, (0,), number=20)
    for _ in range(2):
        placed = place_again([Asking(further, "process", 25.0)])
        assert [(call.number, call.slots) for call in placed.calls] == [(10, (0, 1))]
        assert [(one.number, one.slots) for one in placed.waiting] == [(11, (2, 3)), (13, (4, 5))]
    assert sorted(WaitingCall.objects.values_list("number", flat=True)) == [11, 13]
    WaitingCall.objects.all().delete()
    for _ in range(2):
        placed = place_again([Asking(alone, "process", 12.0)])
        assert (placed.retry_after_s, [one.number for one in placed.waiting]) == (None, [20])


def place_again(items: Sequence[Asking]) -> Any:
    with transaction.atomic():
        return place_asks(connection, items)[0]


async def test_who_comes_while_the_rows_are_looked_at_is_not_missed(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stand behind its own place, and be refused for that."""
    find_waiting = waiting_module.find_waiting

    looking = threading.Event()

    def find_slowly(generation_ids: list[str]) -> set[Any]:
        found = find_waiting(generation_ids)
        looking.set()
        time.sleep(0.5)
        looking.clear()
        return found

    monkeypatch.setattr(waiting_module, "LOOK_FOR_LOST_S", 0.1)
    monkeypatch.setattr(waiting_module, "find_waiting", find_slowly)
    capacity = await limit_async(max_running=1)
    await Capacity.objects.filter(pk=capacity.pk).aupdate(call_ms=50_000)
    running = [asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": hold(3)}))]
    await asyncio.sleep(0.3)
    running += [asyncio.create_task(gateway.post(URL, json=SMALL))]
    assert await asyncio.to_thread(looking.wait, 10)
    running += [asyncio.create_task(gateway.post(URL, json=SMALL))]
    assert [(await task).status_code for task in running] == [200] * 3
    assert await sync_to_async(read_capacity)() == (0, 0)


async def test_a_database_that_is_away_for_a_moment_loses_no_turn(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", ())
    monkeypatch.setattr(waiting_module, "RETRY_S", 0.05)
    monkeypatch.setattr(waiting_module, "grant_turns", fail_first(grant_turns, 3))
    await limit_async(max_running=1)
    assert [response.status_code for response in await order(gateway, 3)] == [200] * 3


@pytest.mark.parametrize(("state", "took_ms"), [("rejected", 3), ("unknown", 3 * 3600 * 1000)])
def test_only_calls_that_brought_pictures_say_how_long_one_takes(customer: Customer, state: str, took_ms: int) -> None:
    """By that mean newcomers are refused: one lost task must not close a capacity for hours."""
    capacity = limit(max_running=1, call_ms=8_000)
    [order] = build_orders(customer, 1)
    open_all([order], "process")
    failure = Failure(Code.TIMEOUT, Billed.UNKNOWN, Scope.OFFER)
    result = CallResult(1, state, failures=(failure,), capacity_id=capacity.pk, took_ms=took_ms)
    with transaction.atomic():
        assert book_results(connection, [Ended(order.id, "process", result)]) == [True]
    assert Capacity.objects.values_list("running", "call_ms").get() == (0, 8_000)


# --- several processes ---


def test_processes_that_open_at_once_share_the_room_exactly(customer: Customer) -> None:
    """Eight writers with forty orders over room for seven: seven attempts, the rest waits; none is lost."""
    limit(max_running=7)
    batches = [build_orders(customer, 5) for _ in range(8)]
    results = race(8, lambda number: write_orders(batches[number], f"process-{number}"))
    opened = [one for batch in results for one in batch]  # type: ignore[attr-defined]
    assert all(one.verdict.granted for one in opened)
    assert sum(len(one.placement.calls) for one in opened) == 7 == Attempt.objects.count()
    assert read_capacity() == (7, 33)
    assert read_violations() == []


def write_orders(orders: Sequence[Order], owner: str) -> list[Any]:
    batch = [Entry(open_generations, Opening(one, make_ask(one), owner), None) for one in orders]
    write_batch(batch)
    assert [entry.error for entry in batch] == [None] * len(batch)
    return [entry.result for entry in batch]


async def test_two_processes_take_turns_as_one(
    gateway: httpx.AsyncClient, customer: Customer, simulator: RunningSimulator
) -> None:
    """A backlog in one process does not delay the single request of another account in a second one."""
    other = await sync_to_async(open_customer)("bob")
    capacity = await limit_async(max_running=1)
    await Capacity.objects.filter(pk=capacity.pk).aupdate(call_ms=300)
    started: list[str] = []

    def run_second_process() -> None:
        asyncio.run(order_elsewhere(other, started))

    backlog = [asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": hold(0.3)})) for _ in range(8)]
    await asyncio.sleep(0.2)
    await sync_to_async(run_second_process, thread_sensitive=False)()
    assert started == ["200"]
    assert [(await task).status_code for task in backlog] == [200] * 8
    rows = [
        row async for row in Attempt.objects.order_by("created_at").values_list("generation__account__name", flat=True)
    ]
    assert rows.index("bob") <= 3
    assert await read_violations_async() == []


async def order_elsewhere(customer: Customer, started: list[str]) -> None:
    """With an engine, a writer and a queue of its own."""
    from typing import cast

    from crazyrouter.asgi import application

    transport = httpx.ASGITransport(app=cast("Any", application), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=customer.headers) as client:
        response = await client.post(URL, json=SMALL)
        started.append(str(response.status_code))
    await close_runtime()


async def test_a_late_submit_moves_the_window(gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upstream counts from when a call arrives; one that left late may not let the next leave early."""
    capacity = await limit_async(submit_interval_ms=60_000)
    runtime = get_runtime()
    router = runtime.engine._router
    in_service = router.is_in_service

    async def dawdle(*args: Any) -> bool:
        await asyncio.sleep(0.3)
        return await in_service(*args)

    monkeypatch.setattr(router, "is_in_service", dawdle)
    before = time.time() * 1000
    await order(gateway)
    await asyncio.sleep(0.3)
    await capacity.arefresh_from_db()
    [start] = capacity.starts
    assert start - before >= 250
    assert await Generation.objects.filter(state="succeeded").acount() == 1


def test_an_order_and_a_further_call_of_its_account_do_not_deadlock(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One holds the account and wants the capacity; the other holds the capacity and names the account in its row."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    limit(max_running=1)
    [running, new] = build_orders(customer, 2)
    open_all([running], "process-1")
    asking = Asking(replace(make_ask(running), number=2), "process-1", 120.0)
    written, locked = threading.Event(), threading.Event()

    def lock_late(one: Any, ids: Any) -> None:
        if threading.current_thread().name == "opening":
            locked.set()
            assert written.wait(10)
        lock_capacities(one, ids)

    def place_slowly(one: Any, items: Sequence[Asking]) -> list[Any]:
        assert locked.wait(10)
        placed = place_asks(one, items)
        written.set()
        # Until the other one stands before the capacity.
        time.sleep(0.5)
        return list(placed)

    def write(number: int) -> Any:
        if number:
            entry = Entry(place_slowly, asking, None)
        else:
            threading.current_thread().name = "opening"
            entry = Entry(open_generations, Opening(new, make_ask(new), "process-2"), None)
        lane_module.commit([entry])
        return entry.result

    monkeypatch.setattr(lane_module, "lock_capacities", lock_late)
    results: list[Any] = race(2, write)
    assert [type(one).__name__ for one in results] == ["Opened", "Placement"]
    assert [len(one.waiting) for one in (results[0].placement, results[1])] == [1, 1]


async def test_a_clock_that_differs_from_the_databases_moves_no_window(gateway: httpx.AsyncClient) -> None:
    """Four seconds ahead it would hold up every submit by four seconds."""
    capacity = await limit_async(submit_interval_ms=60_000)
    before = time.time() * 1000
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=4), tick=True):
        await order(gateway)
        await asyncio.sleep(0.3)
    took = time.time() * 1000 - before
    await capacity.arefresh_from_db()
    [start] = capacity.starts
    assert 0 <= start - before <= took


async def test_a_submit_that_left_much_later_moves_the_window_as_far(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process stood still between grant and submit."""
    capacity = await limit_async(submit_interval_ms=60_000)
    router = get_runtime().engine._router
    in_service = router.is_in_service

    async def dawdle(*args: Any) -> bool:
        await asyncio.sleep(6)
        return await in_service(*args)

    monkeypatch.setattr(router, "is_in_service", dawdle)
    before = time.time() * 1000
    await order(gateway)
    await asyncio.sleep(0.3)
    await capacity.arefresh_from_db()
    [start] = capacity.starts
    assert start - before >= 5_900


@pytest.mark.parametrize("statement", [READ_CROWDS, READ_LINE])
def test_the_queue_is_read_without_a_walk_over_all_generations(customer: Customer, statement: Any) -> None:
    """As the database plans it where a long queue stands before very many generations."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no statistics to be led astray by")
    limit(max_running=1)
    open_all(build_orders(customer, 3), "process")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off")
        cursor.execute("SET LOCAL enable_mergejoin = off; SET LOCAL max_parallel_workers_per_gather = 0")
        cursor.execute(
            "INSERT INTO generation_waitingcall (generation_id, number, account_id, model_id, wants, since)"
            " SELECT generation_id, 1000 + i, account_id, model_id, wants, since"
            " FROM generation_waitingcall, generate_series(1, 5000) i"
        )
        cursor.execute("ANALYZE generation_generation, generation_waitingcall")
        cursor.execute("EXPLAIN (FORMAT JSON) " + statement.render("postgresql"))
        [[[plan]]] = cursor.fetchall()
        transaction.set_rollback(True)
    scans = [node for node in walk(plan["Plan"]) if node.get("Relation Name") == "generation_generation"]
    # Each of them by its id.
    assert ["(id)" in node.get("Index Cond", "") for node in scans] == [True]


def walk(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The node of a plan and all below it."""
    return [node, *(one for child in node.get("Plans", ()) for one in walk(child))]


async def test_what_is_granted_while_the_process_stops_was_never_sent(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is there any more to send it: the next process does, as if it had waited on."""
    await limit_async(max_running=1)
    granting = threading.Event()

    def grant_slowly(connection: Any, items: Sequence[Any]) -> list[Any]:
        turns = grant_turns(connection, items)
        if any(one.granted for one in turns):
            granting.set()
            time.sleep(0.5)
        return turns

    monkeypatch.setattr(waiting_module, "grant_turns", grant_slowly)
    slow = asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": hold(0.5)}))
    await asyncio.sleep(0.2)
    waiting = asyncio.create_task(gateway.post(URL, json=SMALL))
    assert await asyncio.to_thread(granting.wait, 10)
    await close_runtime(patience_s=0)
    await asyncio.gather(slow, waiting, return_exceptions=True)
    monkeypatch.setattr(waiting_module, "grant_turns", grant_turns)
    assert await get_runtime().engine.take_over() == 1
    engine = get_runtime().engine
    await asyncio.gather(*engine._work)
    states = [row async for row in Generation.objects.order_by("id").values_list("state", "takeovers")]
    assert states == [("succeeded", 0), ("succeeded", 1)]
    assert simulator.totals()["submissions"] == 2
    assert await sync_to_async(read_capacity)() == (0, 0)
    assert await read_violations_async() == []
