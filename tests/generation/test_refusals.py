"""Orders that nobody could take are counted, whichever process refused them; the customer's own affairs are not."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import time_machine
from asgiref.sync import sync_to_async

from billing.models import Account
from crazyrouter.generation import lane as lane_module
from crazyrouter.generation import refusals as refusals_module
from crazyrouter.generation.journal.refusals import Refused, add_turned_away
from crazyrouter.generation.lane import Entry, write_batch
from crazyrouter.generation.models import ServiceHour
from crazyrouter.generation.runtime import close_runtime, get_runtime
from models_registry.models import ImageModel
from models_registry.seed import seed_models
from providers.models import Channel
from tests.generation.test_lost_database import fail_first
from tests.generation.test_queue import SMALL, URL, limit_async, order
from tests.generation.test_recovery import wait_for
from tests.race import race
from tests.shop import Customer, open_customer

NOW = datetime(2026, 11, 30, 9, 30, tzinfo=UTC)
HOUR = int(NOW.timestamp()) // 3600
MODEL, PLUS = "qwen-image-2.0", "qwen-image-plus"

Turned = dict[tuple[str, datetime], int]


@sync_to_async
def read_turned_away() -> Turned:
    rows = ServiceHour.objects.values_list("model__name", "hour", "turned_away")
    return {(name, hour): count for name, hour, count in rows}


async def flush() -> Turned:
    await get_runtime().engine._refusals.flush()
    return await read_turned_away()


async def sum_up() -> int:
    return sum((await flush()).values())


async def close_all() -> None:
    await sync_to_async(Channel.objects.update)(enabled=False)


async def test_orders_for_which_there_is_no_channel_are_counted(gateway: httpx.AsyncClient) -> None:
    await close_all()
    with time_machine.travel(NOW, tick=False):
        refused = [*await order(gateway, 3), *await order(gateway, model=PLUS, size="1328x1328")]
    assert [one.json()["error"]["code"] for one in refused] == ["no_channel_available"] * 4
    hour = NOW.replace(minute=0)
    assert await flush() == {(MODEL, hour): 3, (PLUS, hour): 1}
    assert await flush() == {(MODEL, hour): 3, (PLUS, hour): 1}


async def test_orders_for_which_there_is_no_room_in_time_are_counted(gateway: httpx.AsyncClient, settings: Any) -> None:
    settings.QUEUE_LIMIT_S = 20.0
    await limit_async(submit_interval_ms=30_000)
    assert [one.status_code for one in await order(gateway)] == [200]
    assert [one.json()["error"]["code"] for one in await order(gateway)] == ["rate_limit_exceeded"]
    assert await sum_up() == 1


async def test_money_and_limits_of_the_customer_are_not(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await Account.objects.filter(pk=customer.account.pk).aupdate(requests_per_minute=1)
    poor = await sync_to_async(open_customer)("bob", micros=0)
    refused = [*await order(gateway, 2), await gateway.post(URL, json=SMALL, headers=poor.headers)]
    assert sorted(one.json().get("error", {"code": ""})["code"] for one in refused) == [
        "",
        "insufficient_quota",
        "rate_limit_exceeded",
    ]
    assert await flush() == {}


async def test_what_is_served_is_not(gateway: httpx.AsyncClient) -> None:
    assert [one.status_code for one in await order(gateway)] == [200]
    assert await flush() == {}


async def test_they_are_written_every_few_seconds(gateway: httpx.AsyncClient, settings: Any) -> None:
    settings.LEASE_REFRESH_S = 0.05
    await close_all()
    await order(gateway, 2)
    await wait_for(ServiceHour.objects.aexists)
    assert sum((await read_turned_away()).values()) == 2


async def test_they_are_written_when_the_process_stops(gateway: httpx.AsyncClient, settings: Any) -> None:
    settings.LEASE_REFRESH_S = 600.0
    await close_all()
    await order(gateway, 2)
    await close_runtime()
    assert sum((await read_turned_away()).values()) == 2


async def test_what_could_not_be_written_is_kept(gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await close_all()
    await order(gateway, 2)
    # A batch and its item alone: two breaks are one failed write.
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", ())
    monkeypatch.setattr(refusals_module, "add_turned_away", fail_first(add_turned_away, 2))
    assert await sum_up() == 0
    await order(gateway)
    assert await sum_up() == 3


async def test_a_flush_that_is_cancelled_is_counted_once(gateway: httpx.AsyncClient) -> None:
    await close_all()
    await order(gateway, 2)
    flushing = asyncio.create_task(get_runtime().engine._refusals.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    await close_runtime()
    assert sum((await read_turned_away()).values()) == 2


def write(refused: Refused) -> None:
    """As the lane of a process does."""
    entry = Entry(add_turned_away, refused, None)
    write_batch([entry])
    assert entry.error is None


def test_processes_that_write_at_once_add_up(database: None) -> None:
    seed_models()
    first, second = (ImageModel.objects.get(name=name).pk for name in (MODEL, PLUS))
    forth = Refused({(HOUR - 1, first): 1, (HOUR, first): 2, (HOUR, second): 3})
    back = Refused(dict(reversed(forth.items())))

    def flush_often(number: int) -> None:
        for _ in range(25):
            write(forth if number % 2 else back)

    assert race(4, flush_often) == [None] * 4
    found: Counter[tuple[int, int]] = Counter()
    for model_id, hour, turned_away in ServiceHour.objects.values_list("model_id", "hour", "turned_away"):
        found[int(hour.timestamp()) // 3600, model_id] += turned_away
    assert found == {(HOUR - 1, first): 100, (HOUR, first): 200, (HOUR, second): 300}


def test_a_row_that_was_counted_keeps_its_counts(database: None) -> None:
    seed_models()
    model = ImageModel.objects.get(name=MODEL)
    row = ServiceHour.objects.create(
        model=model, hour=NOW.replace(minute=0), served=5, failed=1, unfit=2, latency={"70": 5}, final=True
    )
    write(Refused({(HOUR, model.pk): 4}))
    before = ServiceHour.objects.values().get(pk=row.pk)
    write(Refused({(HOUR, model.pk): 2}))
    assert (before["served"], before["latency"], before["turned_away"]) == (5, {"70": 5}, 4)
    assert ServiceHour.objects.values().get() == before | {"turned_away": 6}


def test_a_model_that_is_gone_fails_nobody(database: None) -> None:
    seed_models()
    model = ImageModel.objects.get(name=MODEL)
    write(Refused({(HOUR, model.pk): 1, (HOUR, 999_999): 1}))
    assert list(ServiceHour.objects.values_list("model_id", "turned_away")) == [(model.pk, 1)]
