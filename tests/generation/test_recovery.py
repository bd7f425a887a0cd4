"""What is taken over, by whom, and what a generation still needs: in one process, where every moment can be chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import time_machine
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from billing.keys import hash_key
from billing.models import Account
from crazyrouter.api.requests import build_order
from crazyrouter.files.models import StoredImage
from crazyrouter.files.store import StoredPicture
from crazyrouter.generation import driver as driver_module
from crazyrouter.generation import lane as lane_module
from crazyrouter.generation.driver import Driver
from crazyrouter.generation.ends import list_again
from crazyrouter.generation.journal.attempts import accept_attempts
from crazyrouter.generation.journal.finishing import finish_generations
from crazyrouter.generation.journal.leases import Lease, claim_expired, give_back_leases, refresh_leases
from crazyrouter.generation.journal.opening import Opening, open_generations
from crazyrouter.generation.journal.queue import Asking, place_asks
from crazyrouter.generation.journal.results import Ended, book_results
from crazyrouter.generation.lane import Operation
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.generation.order import Ask, Call, CallResult, Failure, Order
from crazyrouter.generation.outcomes import LeaseLost
from crazyrouter.generation.recovery import Resumption, load_expired, load_resumptions, resume
from crazyrouter.generation.runtime import get_runtime
from crazyrouter.generation.snapshot import View, load
from crazyrouter.sql import read_clock, tune_for_batches
from providers.contract import Billed, Code, Scope
from providers.models import Channel, Credential, add_credential
from providers.routing import choose, load_routes
from tests.books import count_rows_async, read_attempts_async, read_violations, read_violations_async
from tests.generation.test_lost_database import fail_first
from tests.race import race
from tests.shop import Customer, open_channel
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
PLUS = {"model": "qwen-image-plus", "prompt": "a cat"}
SMALL = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512x512"}
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def build_orders(customer: Customer, count: int, **values: Any) -> list[Order]:
    """Orders as the API makes them."""
    catalog, routes, identities = load(frozenset({hash_key(customer.secret)}))
    [identity] = identities.values()
    view = View(catalog, routes, dict(identities), 0.0)
    return [build_order(SMALL | values, identity, view, request_hash="") for _ in range(count)]


def open_orders(orders: Sequence[Order], owner: str = "gone") -> None:
    """As a process that has gone since: each with one attempt for all its slots."""
    with transaction.atomic():
        opened = open_generations(connection, [Opening(order, make_ask(order), owner) for order in orders])
    assert all(one is not None and one.verdict is not None and one.verdict.granted for one in opened)


def make_ask(order: Order, slots: tuple[int, ...] | None = None, *, number: int = 1) -> Ask:
    """Slots of the order, or all of them, over whoever serves its model now."""
    decision = choose(load_routes()[order.model_name], order.wish)
    return Ask(order, number, tuple(range(order.n)) if slots is None else slots, decision)


def shift_leases(seconds: float) -> None:
    """Let all leases end so many seconds from now, by the database's clock."""
    Generation.objects.filter(state="running").update(
        lease_expires_at=read_clock(connection) + timedelta(seconds=seconds)
    )


def claim(owner: str) -> list[str]:
    with transaction.atomic():
        return claim_expired(connection, [owner])[0]


async def wait_for(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(15):
        while not await condition():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


# --- what a generation still needs, from its rows ---


def make_attempt(number: int, slots: list[int], state: str, **fields: Any) -> Attempt:
    channel = Channel(pk=1, name="one", kind="dashscope_sync", options={})
    return Attempt(
        number=number,
        slots=slots,
        state=state,
        channel=channel,
        credential=Credential(pk=1, channel=channel, ciphertext="", created_at=NOW),
        shape="sync",
        offer_id=number,
        created_at=NOW,
        accepted_at=NOW,
        **fields,
    )


def read_rows(customer: Customer, attempts: Sequence[Attempt], *, pictures: Sequence[int] = ()) -> Resumption:
    [order] = build_orders(customer, 1, n=2)
    stored = {slot: StoredPicture(f"{slot}.png", slot, 512, 512, 100, "") for slot in pictures}
    return resume(order, attempts, stored, now=NOW, deadline_at=NOW + timedelta(seconds=100))


def test_a_picture_counts_for_the_attempt_that_brought_it(customer: Customer) -> None:
    """The first attempt failed for both slots; of the two that followed, one is booked."""
    found = read_rows(
        customer,
        [
            make_attempt(1, [0, 1], "rejected", code="rate_limited", billed="no"),
            make_attempt(2, [0], "succeeded", images=1),
            make_attempt(3, [1], "accepted", task_id="t"),
        ],
        pictures=[0],
    )
    assert [(end.number, [picture.slot for picture in end.pictures]) for end in found.ended] == [(1, []), (2, [0])]
    assert [(call.number, call.slots) for call in found.accepted] == [(3, (1,))]
    assert (found.broken, found.unsent, found.next_number) == ((), (), 4)


def test_a_slot_that_was_ordered_again_already_is_not_ordered_once_more(customer: Customer) -> None:
    """The first attempt failed for both slots; its process stopped when one of the two that follow was granted."""
    found = read_rows(
        customer,
        [
            make_attempt(1, [0, 1], "rejected", code="rate_limited", billed="no"),
            make_attempt(2, [0], "accepted", task_id="t"),
        ],
    )
    assert [(call.number, call.slots, result.number) for call, result in found.broken] == [(1, (1,), 1)]
    assert [(call.number, call.slots) for call in found.accepted] == [(2, (0,))]
    assert (found.ended, found.unsent, found.next_number) == ((), (), 3)


def test_what_may_be_charged_is_not_ordered_again_beside_what_is_not(customer: Customer) -> None:
    """Of one call for three, one came, one was refused for nothing, and of one the carrier says nothing."""
    [order] = build_orders(customer, 1, n=3)
    open_orders([order])
    failures = (
        Failure(Code.BAD_RESPONSE, Billed.NO, Scope.OFFER, "an item without a picture", slots=(1,)),
        Failure(Code.BAD_RESPONSE, Billed.UNKNOWN, Scope.OFFER, "fewer pictures came back than asked", slots=(2,)),
    )
    picture = StoredPicture("0.png", 0, 512, 512, 100, "")
    result = CallResult(1, Attempt.State.SUCCEEDED, (picture,), failures)
    with transaction.atomic():
        assert book_results(connection, [Ended(order.id, "gone", result)]) == [True]
    [resumption] = load_resumptions([order.id])
    [(call, seen)] = resumption.broken
    assert call.slots == (1, 2)
    assert [again.slots for again in list_again(call, seen)] == []
    # As the process that made it would have gone on: the slot that cost nothing, and no other.
    assert [again.slots for again in list_again(replace(call, slots=(0, 1, 2)), result)] == [(1,)]


def test_slots_without_an_attempt_were_never_sent(customer: Customer) -> None:
    found = read_rows(customer, [make_attempt(1, [0], "created")])
    [(call, result)] = found.broken
    assert (call.slots, result.state, [failure.billed for failure in result.failures]) == ((0,), "unknown", ["unknown"])
    assert (found.unsent, found.left_s, found.next_number) == ((1,), 100.0, 2)


# --- leases ---


def test_of_many_who_claim_at_once_each_generation_has_one(customer: Customer) -> None:
    orders = build_orders(customer, 40)
    open_orders(orders)
    shift_leases(-0.001)
    claimed = race(8, lambda number: claim(f"taker-{number}"))
    assert all(isinstance(ids, list) for ids in claimed)
    assert sorted(pk for ids in claimed for pk in ids) == sorted(order.id for order in orders)  # type: ignore[attr-defined]
    assert set(Generation.objects.values_list("takeovers", flat=True)) == {1}
    assert read_violations() == []


def test_leases_go_by_the_clock_of_the_database(customer: Customer) -> None:
    open_orders(build_orders(customer, 1))
    with time_machine.travel(datetime.now(UTC) + timedelta(days=2), tick=True):
        assert (load_expired(), claim("early")) == (False, [])
    shift_leases(-0.001)
    with time_machine.travel(datetime.now(UTC) - timedelta(days=2), tick=True):
        assert load_expired()
        assert len(claim("late")) == 1
    assert not load_expired()


def test_a_lease_is_kept_by_its_owner_only(customer: Customer) -> None:
    orders = build_orders(customer, 3)
    open_orders(orders, "process")
    shift_leases(-0.001)
    wanted = frozenset(
        Lease(order.id, owner) for order, owner in zip(orders, ["process", "other", "process"], strict=True)
    )
    first = frozenset({Lease(orders[0].id, "process")})
    with transaction.atomic():
        kept = refresh_leases(connection, [wanted, first])
    assert kept == [wanted - {Lease(orders[1].id, "other")}, first]
    assert claim("taker") == [orders[1].id]


def test_a_process_gives_back_its_own_and_what_it_has_taken_over(customer: Customer) -> None:
    orders = build_orders(customer, 3)
    for order, owner in zip(orders, ["abc", "abc.7", "abcd"], strict=True):
        open_orders([order], owner)
    with transaction.atomic():
        give_back_leases(connection, ["abc"])
    assert set(claim("taker")) == {orders[0].id, orders[1].id}


def test_a_grant_that_is_written_again_is_the_same(customer: Customer) -> None:
    """After a lost connection nobody knows whether its commit happened."""
    [order] = build_orders(customer, 1)
    open_orders([order], "process")
    further = make_ask(order, (0,), number=2)
    for _ in range(2):
        with transaction.atomic():
            [placed] = place_asks(connection, [Asking(further, "process", 1.0)])
        assert placed is not None
        assert [(call.number, call.slots) for call in placed.calls] == [(2, (0,))]
    with transaction.atomic():
        assert place_asks(connection, [Asking(further, "stranger", 1.0)]) == [None]
    assert list(Attempt.objects.values_list("number", "state")) == [(1, "created"), (2, "created")]


# --- the engine ---


@pytest.fixture
def quick(settings: Any) -> None:
    settings.LEASE_S, settings.LEASE_REFRESH_S, settings.RECOVERY_S = 0.5, 0.1, 0.1


async def test_what_broke_down_is_taken_over_although_its_process_is_busy(
    gateway: httpx.AsyncClient, quick: None, monkeypatch: pytest.MonkeyPatch, simulator: RunningSimulator
) -> None:
    monkeypatch.setattr(driver_module, "WRITE_PATIENCE_S", 0.0)
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", ())
    busy = asyncio.create_task(gateway.post(URL, json=PLUS | {"prompt": "busy [[sim: latency seconds=600]]"}))
    # A batch and its item alone: two breaks are one failed write.
    monkeypatch.setattr(driver_module, "finish_generations", fail_first(finish_generations, 2))
    assert (await gateway.post(URL, json=PLUS)).status_code == 503
    await wait_for(sync_to_async(lambda: Generation.objects.filter(state="succeeded").exists()))
    assert sorted(await read_attempts_async()) == [("accepted", "", ""), ("succeeded", "", "")]
    simulator.advance(600)
    assert (await busy).status_code == 200
    assert await count_rows_async() == {"generations": 2, "attempts": 2, "images": 2, "charges": 2, "held": 0}
    assert simulator.totals()["submissions"] == 2
    assert await read_violations_async() == []


async def test_a_claim_that_could_not_be_read_is_claimed_again(
    gateway: httpx.AsyncClient, customer: Customer, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are nobody's until then, however busy this process is."""
    from crazyrouter.generation import engine as engine_module

    busy = asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": "busy [[sim: latency seconds=2.5]]"}))
    failures = [KeyError("a row that cannot be read")]

    def break_once(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return load_resumptions(*args)

    monkeypatch.setattr(engine_module, "load_resumptions", break_once)
    [order] = await sync_to_async(build_orders)(customer, 1)
    await sync_to_async(open_orders)([order])
    await wait_for(sync_to_async(lambda: Generation.objects.filter(pk=order.id, state="failed").exists()))
    assert (await sync_to_async(Generation.objects.get)(pk=order.id)).takeovers == 2
    assert not busy.done()
    assert (await busy).status_code == 200
    assert await read_violations_async() == []


async def test_a_task_whose_generation_came_back_by_another_process_does_not_go_on(
    gateway: httpx.AsyncClient, settings: Any, monkeypatch: pytest.MonkeyPatch, simulator: RunningSimulator
) -> None:
    """It slept; another process took its generation and stopped, too; now its own process takes it from there."""
    settings.LEASE_REFRESH_S = settings.RECOVERY_S = 3600
    awake = asyncio.Event()
    original = Driver._serve

    async def sleep_first(driver: Driver, call: Call) -> None:
        await awake.wait()
        driver.leased_until = 0.0
        await original(driver, call)

    monkeypatch.setattr(Driver, "_serve", sleep_first)
    client = asyncio.create_task(gateway.post(URL, json=SMALL))
    await wait_for(sync_to_async(Generation.objects.exists))
    await sync_to_async(shift_leases)(-0.001)
    assert len(await sync_to_async(claim)("other")) == 1
    await sync_to_async(shift_leases)(-0.001)
    engine = get_runtime().engine
    assert await engine.take_over() == 1
    awake.set()
    answer = await client
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
    assert simulator.totals()["submissions"] == 0
    assert await read_attempts_async() == [("unknown", "connection_lost", "unknown")]
    assert await read_violations_async() == []


async def test_a_task_whose_lease_merely_ran_out_goes_on(
    gateway: httpx.AsyncClient, settings: Any, simulator: RunningSimulator
) -> None:
    """The process stalled, but nobody else was there."""
    settings.LEASE_REFRESH_S = settings.RECOVERY_S = 3600
    client = asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": "a cat [[sim: latency seconds=1]]"}))
    await wait_for(sync_to_async(lambda: simulator.totals()["submissions"] == 1))
    await sync_to_async(shift_leases)(-0.001)
    assert await get_runtime().engine.take_over() == 0
    assert (await client).status_code == 200
    assert await sync_to_async(lambda: Generation.objects.get().takeovers)() == 0
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}


async def test_a_clock_that_jumps_changes_nothing(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    client = asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": "a cat [[sim: latency seconds=1]]"}))
    await wait_for(sync_to_async(lambda: simulator.totals()["submissions"] == 1))
    with time_machine.travel(datetime.now(UTC) + timedelta(days=2), tick=True):
        assert (await client).status_code == 200
        assert (await gateway.post(URL, json=SMALL)).status_code == 200
    assert await sync_to_async(lambda: list(Generation.objects.values_list("takeovers", flat=True)))() == [0, 0]
    assert await count_rows_async() == {"generations": 2, "attempts": 2, "images": 2, "charges": 2, "held": 0}
    ages = await sync_to_async(measure_ages)()
    assert all(abs(age) < 60 for age in ages)
    assert await read_violations_async() == []


def measure_ages() -> list[float]:
    """Seconds since whatever was written, by the database's clock."""
    now = read_clock(connection)
    rows = Generation.objects.values_list("created_at", "finished_at")
    moments = [moment for row in rows for moment in row if moment is not None]
    moments += StoredImage.objects.values_list("created_at", flat=True)
    return [(now - moment).total_seconds() for moment in moments]


@pytest.mark.parametrize("unsent", [(0,), (0, 1)])
async def test_what_was_never_sent_is_ordered_while_its_deadline_lasts(
    gateway: object, customer: Customer, simulator: RunningSimulator, unsent: tuple[int, ...]
) -> None:
    [order] = await sync_to_async(build_orders)(customer, 1, n=2)
    await sync_to_async(open_unsent)(order, unsent)
    get_runtime()  # whose engine looks at once
    await wait_for(sync_to_async(lambda: Generation.objects.filter(state="succeeded").exists()))
    orders = [entry["n"] for entry in simulator.bill()["entries"] if entry["kind"] == "submission"]
    assert orders == [len(unsent)]
    assert await sync_to_async(lambda: set(StoredImage.objects.values_list("slot", flat=True)))() == set(unsent)
    assert (await count_rows_async())["held"] == 0
    assert await read_violations_async() == []


async def test_what_was_never_sent_is_released_after_its_deadline(
    gateway: object, customer: Customer, simulator: RunningSimulator
) -> None:
    [order] = await sync_to_async(build_orders)(customer, 1, n=2)
    await sync_to_async(open_unsent)(order, (0, 1))
    past = await sync_to_async(read_clock)(connection) - timedelta(seconds=1)
    await Generation.objects.aupdate(deadline_at=past)
    get_runtime()  # whose engine looks at once
    await wait_for(sync_to_async(lambda: Generation.objects.filter(state="failed").exists()))
    assert simulator.totals()["submissions"] == 0
    assert await count_rows_async() == {"generations": 1, "attempts": 0, "images": 0, "charges": 0, "held": 0}
    assert await read_violations_async() == []


@pytest.mark.parametrize("refused", ["sk-sim-acme.old", "sk-sim-acme.new"])
async def test_a_task_is_polled_with_its_own_credential_or_else_the_newest(
    gateway: object, customer: Customer, simulator: RunningSimulator, refused: str
) -> None:
    """Its channel is disabled by now, and its key was rotated."""
    channel = await Channel.objects.aget(kind="dashscope_async")
    await sync_to_async(add_credential)(channel, "sk-sim-acme.old")
    [order] = await sync_to_async(build_orders)(customer, 1, model="qwen-image-plus", size="1664*928")
    engine = get_runtime().engine
    run = engine.start(replace(order, prompt="a cat [[sim: latency seconds=600]]"))
    await wait_for(sync_to_async(lambda: Attempt.objects.filter(state="accepted").exists()))
    await sync_to_async(shift_leases)(-0.001)
    assert await sync_to_async(claim)("other") == [order.id]
    await sync_to_async(shift_leases)(-0.001)
    await sync_to_async(add_credential)(channel, "sk-sim-acme.new")
    await Channel.objects.filter(pk=channel.pk).aupdate(enabled=False)
    simulator.add_rule("error", status=401, code="InvalidApiKey", match={"endpoint": "tasks", "key": refused})
    assert await engine.take_over() == 1
    simulator.advance(600)
    taken = engine.find(order.id)
    assert taken is not None
    assert (len((await taken).pictures), (await taken).failure) == (1, "")
    with pytest.raises(LeaseLost):
        await run.task
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert simulator.totals()["submissions"] == 1
    assert await read_violations_async() == []


def open_unsent(order: Order, unsent: tuple[int, ...]) -> None:
    """Opened by a process that has gone since, which had no room for these slots."""
    sent = tuple(slot for slot in range(order.n) if slot not in unsent)
    with transaction.atomic():
        open_generations(connection, [Opening(order, make_ask(order, sent), "gone")])
    shift_leases(-0.001)


# --- a database that says no ---


@pytest.mark.parametrize("step", [accept_attempts, book_results, place_asks])
async def test_a_step_is_tried_until_the_database_is_back(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch, step: Operation
) -> None:
    """A task id that is not stored is a picture that nobody gets, and that the upstream charges for."""
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", ())
    monkeypatch.setattr(driver_module, "WRITE_PAUSE_S", 0.01)
    monkeypatch.setattr(driver_module, step.__name__, fail_first(step, 2))
    await sync_to_async(open_channel)(
        f"{simulator.base_url}/api/v1", "dashscope_async", {"qwen-image-plus": 1}, name="second", priority=1
    )
    simulator.add_rule("error", status=503, times=1)
    assert (await gateway.post(URL, json=PLUS | {"n": 2})).status_code == 200
    # The refused one is asked of the second channel.
    assert await count_rows_async() == {"generations": 1, "attempts": 3, "images": 2, "charges": 2, "held": 0}
    assert simulator.totals()["accepted"] == 2
    assert await read_violations_async() == []


@pytest.mark.parametrize("fault", ["deadlock detected", "could not serialize access"])
async def test_a_finish_that_the_database_refuses_is_written_again(
    gateway: httpx.AsyncClient,
    simulator: RunningSimulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer, who can neither deadlock nor meet another")

    def isolate(connection: Any) -> None:
        tune_for_batches(connection)
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_isolation = 'repeatable read'")

    if fault.startswith("could not"):
        monkeypatch.setattr(lane_module, "tune_for_batches", isolate)
    client = asyncio.create_task(gateway.post(URL, json=SMALL | {"prompt": "a cat [[sim: latency seconds=0.5]]"}))
    await wait_for(sync_to_async(lambda: simulator.totals()["submissions"] == 1))
    await asyncio.to_thread(stand_in_the_way, fault)
    assert (await client).status_code == 200
    assert fault in caplog.text
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert await read_violations_async() == []


def stand_in_the_way(fault: str) -> None:
    """Hold a row until the finish waits for it: the account, which a stricter transaction then refuses to write; or the
    generation, and go on to the account, which the finish holds."""
    deadlock = fault.startswith("deadlock")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # Of two in a deadlock the one is refused whose patience ends first.
            cursor.execute("SET LOCAL deadlock_timeout = '60s'")
            if deadlock:
                cursor.execute("SELECT id FROM generation_generation FOR UPDATE")
            else:
                cursor.execute("UPDATE billing_account SET note = 'seen'")
            while not is_somebody_waiting(cursor):
                pass
            if deadlock:
                cursor.execute("UPDATE billing_account SET note = 'seen'")
    finally:
        connection.close()
    assert Account.objects.get().note == "seen"
    connection.close()


def is_somebody_waiting(cursor: Any) -> bool:
    cursor.execute("SELECT pg_sleep(0.02)")
    cursor.execute("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    return cursor.fetchone() is not None
