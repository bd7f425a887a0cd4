"""A connection that breaks in the driver (InterfaceError, which is no DatabaseError) is a fault of ours, waited out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from django.db import InterfaceError, OperationalError

from billing.models import Account
from crazyrouter.generation import driver as driver_module
from crazyrouter.generation import engine as engine_module
from crazyrouter.generation import lane as lane_module
from crazyrouter.generation.journal.answers import join_retries
from crazyrouter.generation.journal.finishing import finish_generations
from crazyrouter.generation.journal.opening import open_generations
from crazyrouter.generation.runtime import get_runtime
from tests.books import count_rows_async, read_violations_async

URL = "/v1/images/generations"
BODY = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512x512"}


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", ())


def fail_first(operation: Any, times: int) -> Any:
    """The operation, after so many broken connections."""
    left = [times]

    def run(connection: Any, items: Sequence[Any]) -> Any:
        if left[0]:
            left[0] -= 1
            raise InterfaceError("connection already closed")
        return operation(connection, items)

    return run


async def test_a_finish_is_tried_until_the_database_is_back(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A batch and its item alone: two breaks are one failed write.
    monkeypatch.setattr(driver_module, "finish_generations", fail_first(finish_generations, 2))
    assert (await gateway.post(URL, json=BODY)).status_code == 200
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert await read_violations_async() == []


async def test_an_open_that_cannot_be_written_is_unavailable(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "open_generations", fail_first(open_generations, 2))
    response = await gateway.post(URL, json=BODY)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "service_unavailable")
    assert (await count_rows_async())["generations"] == 0


async def test_leases_are_kept_after_a_break(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.LEASE_REFRESH_S = 0.05
    refreshed: list[str] = []

    def note_refresh(connection: Any, owners: Sequence[str]) -> list[None]:
        refreshed.extend(owners)
        return [None] * len(owners)

    monkeypatch.setattr(engine_module, "refresh_leases", fail_first(note_refresh, 2))
    order = asyncio.create_task(gateway.post(URL, json=BODY | {"prompt": "a cat [[sim: latency seconds=1]]"}))
    assert (await order).status_code == 200
    assert refreshed


def lose_answers(monkeypatch: pytest.MonkeyPatch, operation: Any) -> list[str]:
    """The first commit of this operation happens, and its answer is lost on the way; the list says that it was."""
    commit, lost = lane_module.commit, list[str]()

    def lose_first(batch: list[lane_module.Entry]) -> None:
        commit(batch)
        if not lost and any(entry.operation is operation for entry in batch):
            lost.append(operation.__name__)
            raise OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(lane_module, "commit", lose_first)
    return lost


async def test_a_retry_that_was_joined_without_knowing_is_joined_again(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module.Engine, "note_answered", lambda engine, generation_id: None)
    first = await gateway.post(URL, json=BODY)
    lost = lose_answers(monkeypatch, join_retries)
    joined = await gateway.post(URL, json=BODY, headers={"x-stainless-retry-count": "1"})
    assert lost == ["join_retries"]
    assert joined.headers["x-request-id"] == first.headers["x-request-id"]
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    # Not by the next retry of the same number: that one is another customer's.
    other = await gateway.post(URL, json=BODY, headers={"x-stainless-retry-count": "1"})
    assert other.headers["x-request-id"] != first.headers["x-request-id"]
    assert await read_violations_async() == []


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "order-1"}])
async def test_an_open_that_was_committed_without_knowing_is_not_refused_for_its_own_hold(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    await Account.objects.aupdate(max_in_flight=1)
    lost = lose_answers(monkeypatch, open_generations)
    response = await gateway.post(URL, json=BODY, headers=headers)
    assert lost == ["open_generations"]
    assert response.status_code == 200
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert await read_violations_async() == []


async def test_an_open_that_waits_beyond_the_deadline_is_no_fault_that_is_retried(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.GENERATION_DEADLINE_S = 0.2
    free = threading.Event()

    def wait_for_it(connection: Any, items: Sequence[Any]) -> Any:
        assert free.wait(10)
        return open_generations(connection, items)

    monkeypatch.setattr(engine_module, "open_generations", wait_for_it)
    late = await gateway.post(URL, json=BODY)
    free.set()
    assert (late.status_code, late.json()["error"]["code"]) == (504, "generation_timeout")
    assert late.headers["x-should-retry"] == "false"
    task = get_runtime().engine.find(late.json()["error"]["generation_id"])
    assert task is not None
    await task
    assert await read_violations_async() == []
