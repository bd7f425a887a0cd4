"""A half-open circuit lets one call through, whoever asks, and however many calls there are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from crazyrouter.generation import waiting
from crazyrouter.generation.journal import queue, turns
from crazyrouter.generation.journal.opening import Opening, open_generations
from crazyrouter.generation.models import Attempt
from crazyrouter.generation.order import Order
from providers.health import Trial, claim_trials
from providers.models import Offer, OfferHealth
from tests.generation.test_recovery import build_orders, make_ask
from tests.shop import Customer, open_channel
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
MODEL = "qwen-image-plus"
ONE_A_CALL = {"model": MODEL, "prompt": "a cat", "size": "1664x928"}


@pytest.fixture(autouse=True)
def patience(settings: Any) -> None:
    settings.QUEUE_LIMIT_S = 120.0


def half_open(model: str = MODEL) -> None:
    """Its free call went well: the next real one decides."""
    [offer] = Offer.objects.filter(model__name=model)
    OfferHealth.objects.create(offer=offer, circuit="half_open")


def place_all(orders: list[Order]) -> list[int]:
    """As one batch; how many calls each may make at once."""
    with transaction.atomic():
        opened = open_generations(connection, [Opening(one, make_ask(one), "process") for one in orders])
    return [len(one.placement.calls) for one in opened if one and one.placement]


def test_of_the_calls_of_one_order_one_is_the_trial(customer: Customer) -> None:
    half_open()
    orders = build_orders(customer, 2, model=MODEL, size="1664x928", n=3)
    assert place_all(orders) == [1, 0]
    # Any other process is told the same.
    assert place_all(build_orders(customer, 1, model=MODEL, size="1664x928")) == [0]


async def test_the_rest_of_the_order_follows_when_the_trial_went_well(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await sync_to_async(half_open)()
    simulator.add_rule("latency", seconds=1, match={"endpoint": "async"}, times=1)
    waiting = asyncio.create_task(gateway.post(URL, json=ONE_A_CALL | {"n": 3}))
    await asyncio.sleep(0.4)
    assert simulator.totals()["submissions"] <= 1
    assert len((await waiting).json()["data"]) == 3
    assert await Attempt.objects.filter(state="succeeded").acount() == 3


def test_a_trial_under_way_is_asked_for_once_a_batch(
    customer: Customer, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim is two statements under the locks of a group commit; a thousand calls may want it."""
    half_open()
    open_channel(f"{simulator.base_url}/api/v1", "dashscope_async", {MODEL: 1}, name="second", priority=5)
    assert place_all(build_orders(customer, 1, model=MODEL, size="1664x928")) == [1]
    claims: list[str] = []

    def count(connection: Any, items: Sequence[Trial]) -> list[bool]:
        claims.extend(item.owner for item in items)
        return claim_trials(connection, items)

    monkeypatch.setattr(queue, "claim_trials", count)
    assert place_all(build_orders(customer, 40, model=MODEL, size="1664x928")) == [1] * 40
    assert len(claims) == 1
    assert Attempt.objects.filter(channel__name="second").count() == 40


async def test_who_waits_for_a_trial_to_end_does_not_ask_all_the_time(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is there, and nobody may have it."""
    await sync_to_async(half_open)()
    looks: list[int] = []

    def count(connection: Any, items: Sequence[turns.Tick]) -> list[turns.Turns]:
        looks.append(len(items))
        return turns.grant_turns(connection, items)

    monkeypatch.setattr(waiting, "grant_turns", count)
    simulator.add_rule("latency", seconds=3, match={"endpoint": "async"}, times=1)
    response = await gateway.post(URL, json=ONE_A_CALL | {"n": 2})
    assert len(response.json()["data"]) == 2
    assert 5 <= len(looks) <= 40
