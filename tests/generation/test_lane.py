"""Group commits: everybody gets a verdict of their own, whatever happens to the batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import IntegrityError, OperationalError

from billing.models import Account
from crazyrouter.generation import lane as lane_module
from crazyrouter.generation.lane import Lane, LaneClosed


@pytest.fixture
async def lane(database: None) -> AsyncIterator[Lane]:
    lane = Lane()
    yield lane
    await lane.close()


def create_accounts(connection: Any, names: Sequence[str]) -> list[int]:
    return [Account.objects.create(name=name).pk for name in names]


count_accounts = sync_to_async(Account.objects.count)


async def test_what_arrives_together_is_one_transaction(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def note_size(connection: Any, names: Sequence[str]) -> list[int]:
        sizes.append(len(names))
        return create_accounts(connection, names)

    ids = await asyncio.gather(*[lane.write(note_size, f"a{number}") for number in range(50)])
    assert len(set(ids)) == 50
    assert sum(sizes) == 50
    assert len(sizes) < 10
    assert await count_accounts() == 50


async def test_one_bad_item_does_not_fail_its_neighbours(lane: Lane) -> None:
    names = ["a", "b", "a", "c"]
    ends = await asyncio.gather(*[lane.write(create_accounts, name) for name in names], return_exceptions=True)
    assert [type(end) for end in ends] == [int, int, IntegrityError, int]
    assert await count_accounts() == 3


async def test_a_lost_connection_is_tried_again(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", (0.01, 0.01))
    failures = [OperationalError("gone"), OperationalError("gone again")]

    def fail_twice(connection: Any, names: Sequence[str]) -> list[int]:
        if failures:
            raise failures.pop()
        return create_accounts(connection, names)

    assert isinstance(await lane.write(fail_twice, "a"), int)
    assert await count_accounts() == 1


async def test_a_database_that_stays_away_is_an_error(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", (0.01,))

    def fail(connection: Any, names: Sequence[str]) -> list[int]:
        raise OperationalError("gone")

    with pytest.raises(OperationalError):
        await lane.write(fail, "a")


async def test_closing_writes_what_is_queued_and_takes_no_more(database: None) -> None:
    lane = Lane()
    for number in range(20):
        lane.note(create_accounts, f"a{number}")
    await lane.close()
    assert await count_accounts() == 20
    with pytest.raises(LaneClosed):
        lane.note(create_accounts, "late")
