"""Copies for carriers on trial, through the API: what becomes of them, of whom, how many, with what room."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from crazyrouter.generation import shadowing
from crazyrouter.generation.journal.shadows import find_midnight
from crazyrouter.generation.models import Attempt, Generation, WaitingCall
from crazyrouter.generation.order import Order, Outcome
from crazyrouter.generation.runtime import get_runtime
from crazyrouter.sql import read_clock
from providers.models import Capacity, Offer, OfferHealth
from tests.books import count_rows_async, read_violations_async
from tests.generation.test_recovery import wait_for
from tests.generation.trial import (
    MODEL,
    PLUS,
    SMALL,
    TRIAL,
    URL,
    agree_async,
    await_copies,
    count_trials,
    limit_async,
    open_shared_trial,
    open_trial_async,
    order,
    order_and_copy,
    read_copies_async,
    read_customer_side_async,
    read_orders,
)
from tests.shop import Customer
from tests.simulator.running import RunningSimulator


async def test_a_copy_is_measured_and_reaches_nobody(willing: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    offer = await open_trial_async(simulator)
    response = await order_and_copy(willing, n=2)
    assert (response.status_code, len(response.json()["data"])) == (200, 2)
    [copy] = await read_copies_async()
    assert (copy.number, copy.slots, copy.offer_id, copy.state) == (1001, [0, 1], offer.pk, "succeeded")
    assert (copy.images, copy.code, copy.billed, copy.detail) == (2, "", "", "")
    assert copy.routing["chosen"] == offer.pk
    assert copy.routing["reason"] == "to compare it with what the customer got"
    comparison = copy.comparison or {}
    latencies = [comparison.pop("latency_ms"), comparison["customer"].pop("latency_ms")]
    assert all(isinstance(one, int) and one > 0 for one in latencies)
    assert comparison == {
        "sizes": [[512, 512], [512, 512]],
        "asked": [512, 512],
        "images": 2,
        "wanted": 2,
        "failure": "",
        "customer": {"images": 2, "failure": ""},
    }
    assert await read_customer_side_async() == {
        "generations": [("succeeded", "", 2, 2, 0)],
        "attempts": [(1, "succeeded", "", 2)],
        "images": [(0, 512, 512), (1, 512, 512)],
        "entries": [("top_up", 100_000_000, 0), ("charge", -200_000, 0), ("charge", -200_000, 1)],
        "account": (99_600_000, 0, 3),
    }
    orders = [(entry["key_last4"], entry["prompt"]) for entry in read_orders(simulator)]
    assert orders == [("tial", "a cat"), ("rial", "a cat")]
    assert await read_violations_async() == []


async def test_a_task_is_polled_to_its_end(willing: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    """What it renders is what every carrier is asked to: 1664x928 stays, 1024x1024 is rendered larger."""
    await open_trial_async(simulator, "dashscope_async", PLUS, max_n=1)
    assert (await order_and_copy(willing, model=PLUS, size="1024x1024")).status_code == 200
    [copy] = await read_copies_async()
    assert (copy.state, copy.shape, copy.images) == ("succeeded", "async", 1)
    assert copy.task_id
    assert copy.created_at < copy.accepted_at < copy.ended_at  # type: ignore[operator]
    comparison = copy.comparison or {}
    assert (comparison["asked"], comparison["sizes"]) == ([1328, 1328], [[1328, 1328]])
    assert await read_violations_async() == []


async def test_no_more_is_ordered_than_one_call_of_the_offer_takes(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await open_trial_async(simulator, max_n=2)
    assert (await order_and_copy(willing, n=4)).status_code == 200
    [copy] = await read_copies_async()
    assert (copy.slots, copy.images, (copy.comparison or {})["wanted"]) == ([0, 1], 2, 2)


async def test_every_shadow_of_the_model_gets_a_copy_of_its_own(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    first, second = await open_trial_async(simulator), await open_trial_async(simulator, name="other")
    await open_trial_async(simulator, "dashscope_async", PLUS, name="another model", max_n=1)
    await order_and_copy(willing)
    copies = await read_copies_async()
    assert sorted((copy.number, copy.offer_id) for copy in copies) == [(1001, first.pk), (1002, second.pk)]
    assert [copy.state for copy in copies] == ["succeeded"] * 2


async def test_the_health_of_the_offer_knows_of_it(willing: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    offer = await open_trial_async(simulator)
    simulator.add_rule("error", status=500, code="InternalError", times=1, match=TRIAL)
    await order_and_copy(willing)
    await order_and_copy(willing)

    async def is_known() -> bool:
        row = await OfferHealth.objects.filter(pk=offer.pk).afirst()
        return row is not None and [bool(ok) for _, ok, _, _ in row.recent] == [False, True]

    await wait_for(is_known)


async def test_it_is_considered_after_the_end_only(willing: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    """When the copy is opened the customer's pictures are booked, charged and ready."""
    await open_trial_async(simulator)
    seen: list[tuple[Outcome, str]] = []
    shadows = get_runtime().engine._shadows
    consider = shadows.consider

    def note(order: Order, outcome: Outcome, *, took_s: float) -> None:
        assert took_s > 0
        seen.append((outcome, order.id))
        consider(order, outcome, took_s=took_s)

    shadows.consider = note  # type: ignore[method-assign]
    await order_and_copy(willing)
    [(outcome, generation_id)] = seen
    row = await Generation.objects.aget(pk=generation_id)
    [copy] = await read_copies_async()
    assert (row.state, len(outcome.pictures)) == ("succeeded", 1)
    assert row.finished_at is not None
    assert copy.created_at >= row.finished_at


# --- of whom ---


async def test_nobody_is_copied_who_has_not_agreed(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await open_trial_async(simulator)
    assert (await order_and_copy(gateway)).status_code == 200
    assert await read_copies_async() == []
    assert count_trials(simulator) == 0


async def test_who_agreed_no_longer_is_not_copied_however_late_it_is_known(
    willing: httpx.AsyncClient, customer: Customer, simulator: RunningSimulator
) -> None:
    """The request came while the account agreed, and is still in flight when it does not any more."""
    await open_trial_async(simulator)
    simulator.add_rule("latency", seconds=0.5, match={"endpoint": "sync"})
    running = asyncio.create_task(order(willing))
    await wait_for(Attempt.objects.aexists)
    await agree_async(customer, allowed=False)
    assert (await running).status_code == 200
    await await_copies()
    assert (await read_copies_async(), count_trials(simulator)) == ([], 0)


@pytest.mark.parametrize("fault", ["moderation_input", "moderation_output"])
async def test_what_moderation_refused_is_shown_to_no_second_carrier(
    willing: httpx.AsyncClient, simulator: RunningSimulator, fault: str
) -> None:
    await open_trial_async(simulator)
    response = await order_and_copy(willing, prompt=f"a cat [[sim: {fault}]]")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "moderation_blocked")
    assert await read_copies_async() == []


async def test_what_failed_upstream_is_copied(willing: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await open_trial_async(simulator)
    simulator.add_rule("reset", match={"endpoint": "sync"})
    response = await order_and_copy(willing)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_failed")
    [copy] = await read_copies_async()
    assert copy.state == "succeeded"
    customer = (copy.comparison or {})["customer"]
    assert (customer["failure"], customer["images"]) == ("upstream_failed", 0)
    assert (await count_rows_async())["images"] == 0
    assert await read_violations_async() == []


async def test_a_replay_is_not_copied_again(willing: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await open_trial_async(simulator)
    key = {"Idempotency-Key": "k1"}
    first = await willing.post(URL, json=SMALL, headers=key)
    await await_copies()
    again = await willing.post(URL, json=SMALL, headers=key)
    await await_copies()
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert (len(await read_copies_async()), count_trials(simulator)) == (1, 1)


# --- how many ---


async def test_the_share_is_drawn_for_each_request_and_offer(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    first = await open_trial_async(simulator, percent=25)
    second = await open_trial_async(simulator, name="other", percent=60)
    shadows = get_runtime().engine._shadows
    draws = iter([0.2499, 0.6, 0.25, 0.5999, 0.9, 0.9])
    shadows._draw = lambda: next(draws)
    for _ in range(3):
        await order_and_copy(willing)
    copies = await read_copies_async()
    assert [(copy.number, copy.offer_id) for copy in copies] == [(1001, first.pk), (1001, second.pk)]


async def test_there_are_no_more_a_day_than_are_paid_for(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await open_trial_async(simulator, per_day=2)
    for _ in range(4):
        assert (await order_and_copy(willing)).status_code == 200
    assert (len(await read_copies_async()), count_trials(simulator)) == (2, 2)
    today = await sync_to_async(lambda: find_midnight(round(read_clock(connection).timestamp() * 1000)))()
    await Attempt.objects.filter(purpose="shadow").aupdate(created_at=today - timedelta(seconds=1))
    await order_and_copy(willing)
    assert len(await read_copies_async()) == 3


async def test_a_process_makes_so_many_at_a_time(
    willing: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadowing, "MOST_AT_A_TIME", 2)
    await open_trial_async(simulator)
    simulator.add_rule("latency", seconds=1.5, match=TRIAL)
    responses = await asyncio.gather(*(order(willing) for _ in range(5)))
    assert [response.status_code for response in responses] == [200] * 5
    await await_copies()
    assert [copy.state for copy in await read_copies_async()] == ["succeeded"] * 2


async def test_a_stopping_process_begins_no_copy(willing: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await open_trial_async(simulator)
    get_runtime().engine._shadows.refuse()
    await order_and_copy(willing)
    assert await read_copies_async() == []


# --- room ---


async def test_a_copy_takes_room_and_gives_it_back(willing: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await open_trial_async(simulator)
    capacity = await limit_async("trial", upstream_model=MODEL, max_running=1, submit_interval_ms=60_000)
    await order_and_copy(willing)
    await capacity.arefresh_from_db()
    assert (capacity.running, len(capacity.starts)) == (0, 1)
    assert capacity.call_ms > 0
    [copy] = await read_copies_async()
    assert copy.capacity_id == capacity.pk
    # The submit rate is used up for a minute: the next request is not copied, and nothing waits.
    await order_and_copy(willing)
    assert (len(await read_copies_async()), await WaitingCall.objects.acount()) == (1, 0)
    assert await read_violations_async() == []


async def test_a_failed_copy_teaches_nothing_of_how_long_calls_take(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await open_trial_async(simulator)
    capacity = await limit_async("trial", upstream_model=MODEL, max_running=1)
    await Capacity.objects.aupdate(call_ms=7_777)
    simulator.add_rule("throttle", match=TRIAL)
    await order_and_copy(willing)
    await capacity.arefresh_from_db()
    assert (capacity.running, capacity.call_ms) == (0, 7_777)


@pytest.mark.parametrize(("places", "copies"), [(1, 0), (2, 1), (None, 1)])
async def test_customers_of_the_same_account_keep_a_place(
    willing: httpx.AsyncClient, simulator: RunningSimulator, places: int | None, copies: int
) -> None:
    await sync_to_async(open_shared_trial)(simulator, max_running=places)
    assert (await order_and_copy(willing)).status_code == 200
    assert len(await read_copies_async()) == copies
    assert await read_violations_async() == []


async def test_an_offer_that_cools_down_gets_none(willing: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await open_trial_async(simulator)
    simulator.add_rule("throttle", retry_after=600, times=1, match=TRIAL)
    await order_and_copy(willing)
    await order_and_copy(willing)
    assert [copy.code for copy in await read_copies_async()] == ["rate_limited"]


async def test_what_an_offer_cannot_do_is_not_asked_of_it(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    offer = await open_trial_async(simulator)
    await Offer.objects.filter(pk=offer.pk).aupdate(sizes=["1024x1024"])
    await order_and_copy(willing)
    assert await read_copies_async() == []


async def test_a_half_open_circuit_lets_one_copy_through_and_closes(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    offer = await open_trial_async(simulator)
    later = await sync_to_async(read_clock)(connection) + timedelta(minutes=1)
    health = await OfferHealth.objects.acreate(
        offer=offer, circuit="half_open", probe_owner="another call", probe_until=later
    )
    await order_and_copy(willing)
    assert await read_copies_async() == []
    await OfferHealth.objects.aupdate(probe_owner="", probe_until=None)
    await order_and_copy(willing)
    assert [copy.state for copy in await read_copies_async()] == ["succeeded"]

    async def is_closed() -> bool:
        await health.arefresh_from_db()
        return health.circuit == "closed"

    await wait_for(is_closed)
