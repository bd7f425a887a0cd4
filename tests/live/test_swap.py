"""One carrier for another under load, with two web processes: no request fails, and A is sent nothing 2 s later."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from openai import AsyncOpenAI

from billing.models import Account
from models_registry.models import ImageModel
from models_registry.seed import seed_models
from providers.models import Channel, Offer, add_credential
from providers.swap import swap_offers
from tests.books import read_violations
from tests.server import RunningServer
from tests.shop import Customer, open_channel, open_customer
from tests.simulator.running import RunningSimulator

pytestmark = pytest.mark.live

MODEL = "qwen-image-2.0"
EFFECTIVE_S = 2.0
#: At most this many orders, whatever the machine does.
MOST_ORDERS = 4_000


@pytest.fixture
def slow_simulator() -> Iterator[RunningSimulator]:
    """Each picture takes a moment, so that calls are in flight whenever something is swapped."""
    with RunningSimulator({"latency_s": 0.1}) as simulator:
        yield simulator


@pytest.fixture
def seller(database: None, slow_simulator: RunningSimulator, settings: Any) -> Customer:
    """A model served by channel A, with B standing by: two accounts at one upstream, told apart on its bill."""
    settings.EGRESS_ALLOW = [f"127.0.0.1:{slow_simulator.port}"]
    seed_models()
    for name in ("a", "b"):
        channel = open_channel(f"{slow_simulator.base_url}/api/v1", "dashscope_sync", {MODEL: 6}, name=name)
        add_credential(channel, f"sk-sim-{name}.key")
    Offer.objects.filter(channel__name="b").update(enabled=False)
    return open_customer(micros=10**12)


@pytest.fixture
def servers(seller: Customer) -> Iterator[list[RunningServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(RunningServer()) for _ in range(2)]


def swap(source: str, target: str) -> float:
    """Do it, as the admin does; when it was done."""
    model = ImageModel.objects.get(name=MODEL)
    channels = {channel.name: channel for channel in Channel.objects.all()}
    swap_offers(model, from_channel=channels[source], to_channel=channels[target])
    return time.time()


async def order_until(stop: asyncio.Event, client: AsyncOpenAI, statuses: Counter[str]) -> None:
    """One customer's constant load: the next order as soon as the last is answered. The SDK tries nothing twice."""
    while not stop.is_set() and statuses.total() < MOST_ORDERS:
        try:
            images = await client.images.generate(model=MODEL, prompt="a cat", size="512x512", n=1)
            statuses[f"{len(images.data or [])} image"] += 1
        except Exception as error:
            statuses[repr(error)] += 1


async def test_a_swap_and_its_return_under_load(
    servers: list[RunningServer], seller: Customer, slow_simulator: RunningSimulator
) -> None:
    stop, statuses = asyncio.Event(), Counter[str]()
    clients = [
        AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key=seller.secret, max_retries=0) for server in servers
    ]
    load = [asyncio.create_task(order_until(stop, client, statuses)) for client in clients for _ in range(6)]
    await asyncio.sleep(2)
    swapped = await sync_to_async(swap)("a", "b")
    await asyncio.sleep(EFFECTIVE_S + 2)
    returned = await sync_to_async(swap)("b", "a")
    await asyncio.sleep(EFFECTIVE_S + 1)
    stop.set()
    await asyncio.gather(*load)
    for client in clients:
        await client.close()
    assert set(statuses) == {"1 image"}
    submitted = read_submissions(slow_simulator)
    assert len(submitted) == statuses.total()
    # From A to B: both were used, and A never between the time allowed for it and the way back.
    assert [at for account, at in submitted if account == "a" and swapped + EFFECTIVE_S < at < returned] == []
    assert [at for account, at in submitted if account == "b" and at > returned + EFFECTIVE_S] == []
    assert {account for account, at in submitted if at < swapped} == {"a"}
    assert {account for account, at in submitted if swapped + EFFECTIVE_S < at < returned} == {"b"}
    assert {account for account, at in submitted if at > returned + EFFECTIVE_S} == {"a"}
    assert await sync_to_async(read_violations)() == []
    assert await Account.objects.filter(held_micros=0).acount() == 1


def read_submissions(simulator: RunningSimulator) -> list[tuple[str, float]]:
    """(account, epoch seconds) of everything that reached the upstream."""
    entries = simulator.bill()["entries"]
    return [
        (entry["account"], datetime.fromisoformat(entry["at"]).replace(tzinfo=UTC).timestamp())
        for entry in entries
        if entry["kind"] == "submission"
    ]
