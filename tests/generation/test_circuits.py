"""An upstream breaks down under customers and comes back: what they notice, and which calls go where."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db.models import F

from crazyrouter.generation import snapshot, wellbeing
from crazyrouter.generation.models import Attempt
from providers.models import Alert, Channel, OfferHealth, add_credential
from tests.books import read_violations_async
from tests.shop import open_channel
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
OLDEST_VIEW_S = 0.3
BODY = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512x512"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wellbeing, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(snapshot, "REFRESH_AFTER_S", 0.1)
    monkeypatch.setattr(snapshot, "TOO_OLD_AFTER_S", OLDEST_VIEW_S)


@pytest.fixture
def second(customer: Any, simulator: RunningSimulator) -> Channel:
    """Behind the first by priority."""
    return open_channel(f"{simulator.base_url}/v1", "openai_images", {"qwen-image-2.0": 1}, priority=10)


async def wait_for(condition: Callable[[], Any]) -> Any:
    """What a read of the database gives, once it is true."""
    until = time.monotonic() + 30
    while not (found := await sync_to_async(condition)()):
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    return found


async def order(gateway: httpx.AsyncClient, count: int = 1) -> list[int]:
    """The statuses of so many requests at the same time."""
    answers = await asyncio.gather(*[gateway.post(URL, json=BODY) for _ in range(count)])
    return [answer.status_code for answer in answers]


@sync_to_async
def list_kinds(after: int = 0) -> list[str]:
    """Where attempts went, in order."""
    return list(Attempt.objects.order_by("id").values_list("channel__kind", flat=True))[after:]


def find_circuit(circuit: str) -> Callable[[], OfferHealth | None]:
    """The first channel's, which nobody probes at the moment."""
    return lambda: OfferHealth.objects.filter(
        offer__channel__kind="dashscope_sync", circuit=circuit, probe_owner=""
    ).first()


async def see(gateway: httpx.AsyncClient, circuit: str) -> OfferHealth:
    """Until the row says so, and every view that is from before."""
    health = await wait_for(find_circuit(circuit))
    await asyncio.sleep(OLDEST_VIEW_S)
    return health


async def test_a_broken_upstream_is_left_alone_and_comes_back_by_one_call(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, second: Channel
) -> None:
    simulator.add_rule("error", status=503, code="ServiceUnavailable", match={"endpoint": "sync"})
    simulator.add_rule("error", status=503, code="ServiceUnavailable", match={"endpoint": "tasks"})
    for _ in range(5):
        assert await order(gateway) == [200]
    await see(gateway, "open")
    asked = await list_kinds()
    assert asked == ["dashscope_sync", "openai_images"] * 5
    assert await order(gateway, 3) == [200] * 3
    assert await list_kinds(after=10) == ["openai_images"] * 3

    # The free call is told the same: it stays open, for twice as long.
    await sync_to_async(OfferHealth.objects.update)(retry_at=F("changed_at"))
    await wait_for(lambda: OfferHealth.objects.filter(circuit="open", pause_s=60).exists())

    # Upstream is back. Of many requests one tries it, however long that takes; it closes the circuit.
    simulator.reset()
    simulator.add_rule("latency", seconds=4, match={"endpoint": "sync"}, times=1)
    await sync_to_async(OfferHealth.objects.update)(retry_at=F("changed_at"))
    await see(gateway, "half_open")
    assert await order(gateway, 6) == [200] * 6
    assert sorted(await list_kinds(after=13)) == ["dashscope_sync"] + ["openai_images"] * 5
    await see(gateway, "closed")
    assert await order(gateway, 2) == [200] * 2
    assert await list_kinds(after=19) == ["dashscope_sync"] * 2
    assert await read_violations_async() == []


async def test_a_revoked_key_takes_its_channel_out_of_service_until_somebody_comes(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, second: Channel
) -> None:
    simulator.add_rule("error", status=401, code="InvalidApiKey", match={"endpoint": "sync"})
    assert await order(gateway) == [200]
    alert = await wait_for(Alert.objects.first)
    channel = await sync_to_async(Channel.objects.get)(kind="dashscope_sync")
    assert (channel.enabled, alert.channel_id, alert.kind) == (False, channel.pk, "channel_disabled")
    assert "InvalidApiKey" in channel.disabled_reason
    await asyncio.sleep(OLDEST_VIEW_S)
    assert await order(gateway, 3) == [200] * 3
    assert await list_kinds(after=2) == ["openai_images"] * 3
    # A new key and the channel back in service: the old one's trouble is over.
    simulator.reset()
    await sync_to_async(add_credential)(channel, "sk-sim-another")
    await sync_to_async(Channel.objects.filter(pk=channel.pk).update)(enabled=True)
    await asyncio.sleep(OLDEST_VIEW_S)
    assert await order(gateway) == [200]
    assert await list_kinds(after=5) == ["dashscope_sync"]


async def test_what_a_customer_asks_for_changes_no_health(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    simulator.add_rule("moderation_input", match={"endpoint": "sync"})
    assert await order(gateway, 8) == [400] * 8
    assert await order(gateway) == [400]
    assert not await sync_to_async(OfferHealth.objects.exists)()


async def test_a_throttled_offer_rests_and_the_next_one_serves(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, second: Channel
) -> None:
    simulator.add_rule("throttle", times=1, match={"endpoint": "sync"})
    assert await order(gateway) == [200]
    # Known in this process at once, without a look at the database.
    assert await order(gateway, 3) == [200] * 3
    assert await list_kinds() == ["dashscope_sync"] + ["openai_images"] * 4
    health = await wait_for(lambda: OfferHealth.objects.exclude(cooling_until=None).first())
    assert health.circuit == "closed"
