"""An attempt's row moves as its table says, and not otherwise."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from crazyrouter.generation.journal.results import Ended, write_results
from crazyrouter.generation.models import Attempt
from crazyrouter.generation.order import CallResult
from tests.shop import Customer

ENDS = [Attempt.State.REJECTED, Attempt.State.SUCCEEDED, Attempt.State.FAILED, Attempt.State.UNKNOWN]


@pytest.fixture
def attempt(customer: Customer) -> Attempt:
    """One real attempt, made by an order."""
    import httpx

    from crazyrouter.asgi import application
    from crazyrouter.generation.runtime import close_runtime

    async def order() -> None:
        transport = httpx.ASGITransport(app=application)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=customer.headers) as sdk:
            body = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512x512"}
            assert (await sdk.post("/v1/images/generations", json=body)).status_code == 200
        await close_runtime()

    async_to_sync(order)()
    return Attempt.objects.get()


def test_every_end(attempt: Attempt) -> None:
    owner = attempt.generation.lease_owner
    for start in Attempt.State:
        for end in ENDS:
            Attempt.objects.update(state=start)
            with transaction.atomic():
                write_results(connection, [Ended(attempt.generation_id, owner, CallResult(1, end))])
            moved = Attempt.objects.get().state
            assert moved == (end if end in Attempt.TRANSITIONS[start] else start), (start, end)
