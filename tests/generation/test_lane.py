"""Group commits: everybody gets a verdict of their own, whatever happens to the batch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import IntegrityError, OperationalError, connection

from billing.models import Account
from crazyrouter.generation import lane as lane_module
from crazyrouter.generation.lane import Entry, Lane, LaneClosed
from crazyrouter.sql import Statement
from tests.race import race


@pytest.fixture
async def lane(database: None) -> AsyncIterator[Lane]:
    lane = Lane()
    yield lane
    await lane.close()


INSERT = Statement(
    """
    INSERT INTO billing_account (name, state, balance_micros, held_micros, in_flight, spent_micros, month,
        month_spent_micros, window_requests, allowed_models, allowed_networks, credit_limit_micros, sequence, time_zone,
        shadow_allowed, note, created_at)
    SELECT r.name, 'active', 0, 0, 0, 0, '', 0, 0, '[]', '[]', 0, 0, 'Asia/Shanghai', (1 = 0), '', {now}
    FROM {rows} RETURNING id
    """,
    name="text",
)


def create_accounts(connection: Any, names: Sequence[str]) -> list[int]:
    return [pk for (pk,) in INSERT.run(connection, [{"name": name} for name in names])]


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


async def test_those_behind_do_not_wait_for_it_again(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", (0.01, 0.01))
    tries: list[list[str]] = []

    def fail(connection: Any, names: Sequence[str]) -> list[int]:
        tries.append(list(names))
        raise OperationalError("the server closed the connection")

    ends = await asyncio.gather(*[lane.write(fail, name) for name in "abcd"], return_exceptions=True)
    assert [type(end) for end in ends] == [OperationalError] * 4
    alone = [names[0] for names in tries if len(names) == 1]
    assert alone[-3:] == ["b", "c", "d"]
    assert len(tries) <= 1 + 3 + 3 + 3  # the first may have been a batch of its own


async def test_a_note_travels_ahead_of_the_next_write(lane: Lane) -> None:
    order: list[str] = []

    def note_order(connection: Any, names: Sequence[str]) -> list[None]:
        order.extend(names)
        return [None] * len(names)

    lane.note(note_order, "note")
    await lane.write(note_order, "write")
    assert order == ["note", "write"]


async def test_a_note_alone_is_written_after_a_moment(lane: Lane) -> None:
    lane.note(create_accounts, "alone")
    until = asyncio.get_running_loop().time() + 10
    while await count_accounts() == 0:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.05)


async def test_an_error_in_a_statement_nobody_reads_fails_its_item(lane: Lane) -> None:
    """Inside a pipeline the error shows only when the transaction ends."""

    def send(connection: Any, names: Sequence[str]) -> list[str]:
        INSERT.send(connection, [{"name": name} for name in names])
        return list(names)

    ends = await asyncio.gather(*[lane.write(send, name) for name in ("a", "b", "a")], return_exceptions=True)
    assert ends[:2] == ["a", "b"]
    assert isinstance(ends[2], IntegrityError)
    assert await count_accounts() == 2


async def test_closing_writes_what_is_queued_and_takes_no_more(database: None) -> None:
    lane = Lane()
    for number in range(20):
        lane.note(create_accounts, f"a{number}")
    await lane.close()
    assert await count_accounts() == 20
    with pytest.raises(LaneClosed):
        lane.note(create_accounts, "late")


@dataclass(frozen=True)
class Touch:
    """A row that a batch writes on its way to the rows of accounts."""

    account_id: int


def wait_for_a_lock() -> None:
    """Until some connection waits for another's lock."""
    until = time.monotonic() + 10
    with connection.cursor() as cursor:
        while time.monotonic() < until:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
            time.sleep(0.02)
    raise AssertionError("nobody waits")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_two_batches_take_accounts_before_all_else(database: None) -> None:
    """One has one account, the other several; both also write a row that belongs to no account alone."""
    ids = [Account.objects.create(name=name).pk for name in ("one", "two", "row")]
    row, taken = ids.pop(), threading.Event()

    def write(pk: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE billing_account SET note = note || 'x' WHERE id = %s", [pk])

    def write_row_first(_: Any, items: Sequence[Touch]) -> list[None]:
        write(row)
        taken.set()
        wait_for_a_lock()
        for item in items:
            write(item.account_id)
        return [None] * len(items)

    def write_row(_: Any, items: Sequence[Touch]) -> list[None]:
        write(row)
        return [None] * len(items)

    def work(number: int) -> None:
        if number == 0:
            lane_module.commit([Entry(write_row_first, Touch(ids[0]), None)])
        else:
            assert taken.wait(10)
            lane_module.commit([Entry(write_row, Touch(pk), None) for pk in ids])

    assert race(2, work) == [None, None]
    assert Account.objects.get(pk=row).note == "xx"
