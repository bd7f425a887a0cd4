"""One Idempotency-Key over two server processes on one database, over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from asgiref.sync import sync_to_async

from billing.models import Account
from crazyrouter.generation.models import Generation
from tests.books import count_rows_async, read_violations_async
from tests.server import RunningServer
from tests.shop import Customer
from tests.simulator.running import RunningSimulator

pytestmark = pytest.mark.live

BODY = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512x512"}
ONE_OF_EACH = {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}


@pytest.fixture
def servers(customer: Customer) -> Iterator[tuple[RunningServer, RunningServer]]:
    with RunningServer() as one, RunningServer() as other:
        yield one, other


@pytest.fixture
def links(customer: Customer) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=100)
    headers = customer.headers | {"Idempotency-Key": "order-1"}
    return httpx.AsyncClient(headers=headers, limits=limits, timeout=60, trust_env=False)


async def send(links: httpx.AsyncClient, server: RunningServer, prompt: str = "a cat") -> httpx.Response:
    return await links.post(f"{server.base_url}/v1/images/generations", json=BODY | {"prompt": prompt})


def cut_urls(response: httpx.Response, server: RunningServer) -> bytes:
    """The answer without the server's own address, which differs between these two."""
    return response.content.replace(server.base_url.encode(), b"")


@sync_to_async
def read_balance() -> int:
    return Account.objects.get(name="alice").balance_micros


async def test_fifty_at_once_over_two_processes(
    servers: tuple[RunningServer, RunningServer], links: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    prompt = "a cat [[sim: latency seconds=1]]"
    async with links, asyncio.timeout(60):
        responses = await asyncio.gather(*[send(links, servers[i % 2], prompt) for i in range(50)])
    assert {response.status_code for response in responses} == {200}
    assert len({cut_urls(response, servers[i % 2]) for i, response in enumerate(responses)}) == 1
    assert len({response.headers["x-request-id"] for response in responses}) == 1
    assert sum("idempotent-replayed" not in response.headers for response in responses) == 1
    assert await count_rows_async() == ONE_OF_EACH
    assert await read_balance() == 100_000_000 - 200_000
    assert simulator.totals()["submissions"] == 1
    assert await read_violations_async() == []


async def test_what_another_process_runs_and_has_finished(
    servers: tuple[RunningServer, RunningServer], links: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    one, other = servers
    prompt = "a cat [[sim: latency seconds=1]]"
    async with links, asyncio.timeout(60):
        asking = asyncio.create_task(send(links, one, prompt))
        while not await Generation.objects.aexists():  # noqa: ASYNC110 - rows tell nobody
            await asyncio.sleep(0.02)
        assert (await Generation.objects.aget()).state == "running"
        waited = await send(links, other, prompt)
        first = await asking
        assert cut_urls(waited, other) == cut_urls(first, one)
        assert (waited.status_code, waited.headers["idempotent-replayed"]) == (200, "true")
        later = await send(links, other, prompt)
        assert later.content == waited.content
        picture = await links.get(later.json()["data"][0]["url"])
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
        assert (await send(links, other, "a dog")).status_code == 422
    assert await count_rows_async() == ONE_OF_EACH
    assert simulator.totals()["submissions"] == 1


async def test_another_process_collects_what_a_killed_one_has_finished(
    servers: tuple[RunningServer, RunningServer], links: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    one, other = servers
    async with links, asyncio.timeout(60):
        first = await send(links, one)
        await asyncio.to_thread(one.kill)
        again = await send(links, other)
    assert again.headers["idempotent-replayed"] == "true"
    assert cut_urls(again, other) == cut_urls(first, one)
    assert await count_rows_async() == ONE_OF_EACH
    assert simulator.totals()["submissions"] == 1
