"""Turns of the queue: who waits gets room, and an attempt instead of a place, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.generation.allocation import Allocator, Bunch, InLine
from crazyrouter.generation.journal.attempts import INSERT_ATTEMPTS, make_attempt_row
from crazyrouter.generation.journal.queue import (
    DELETE_WAITING,
    DRIVER,
    Name,
    give_back,
    name_ask,
    open_allocator,
    read_wants,
    write_waiting,
    write_wants,
)
from crazyrouter.generation.line import Granted, take_turns
from crazyrouter.generation.order import Ask
from crazyrouter.sql import Statement, read_epoch_ms
from providers.capacity import store_rooms

READ_LINE = Statement(
    f"""
    SELECT w.generation_id, w.number, w.account_id, w.model_id, w.wants, COALESCE(t.served_ms, 0), {DRIVER}
    FROM generation_waitingcall w
    LEFT JOIN generation_turn t ON t.account_id = w.account_id AND t.model_id = w.model_id
    ORDER BY w.id
    """  # noqa: S608 - a constant of this module
)

UPDATE_WANTS = Statement(
    """
    UPDATE generation_waitingcall SET wants = r.wants FROM {rows}
    WHERE generation_waitingcall.generation_id = r.generation_id AND generation_waitingcall.number = r.number
    """,
    generation_id="text",
    number="integer",
    wants="text",
)

UPSERT_TURNS = Statement(
    """
    INSERT INTO generation_turn (account_id, model_id, served_ms)
    SELECT r.account_id, r.model_id, r.served_ms FROM {rows} WHERE true
    ON CONFLICT (account_id, model_id) DO UPDATE SET served_ms = excluded.served_ms
    """,
    account_id="bigint",
    model_id="bigint",
    served_ms="bigint",
)


@dataclass(frozen=True, slots=True)
class Tick:
    """All calls of one process that wait, each with the owner of its generation. Nothing is left for `asleep`."""

    asks: tuple[tuple[Ask, str], ...]
    asleep: frozenset[Bunch] = frozenset()

    @property
    def capacity_ids(self) -> frozenset[int]:
        return frozenset(one for ask, _ in self.asks for one in ask.capacity_ids)


@dataclass(frozen=True, slots=True)
class Turns:
    """Whose turn it was, and in how many milliseconds there may be room again; None where nothing says when.

    `lost` are those whose generation another process drives now, `left` those of others for which room was left.
    """

    granted: tuple[Granted, ...]
    lost: tuple[Name, ...]
    next_ms: int | None
    left: tuple[InLine, ...] = ()


def grant_turns(connection: BaseDatabaseWrapper, items: Sequence[Tick]) -> list[Turns]:
    """Hand out what room there is to the calls of this process whose turn it is."""
    return [grant_turn(connection, item) for item in items]


def grant_turn(connection: BaseDatabaseWrapper, tick: Tick) -> Turns:
    asks = {name_ask(ask): (ask, owner) for ask, owner in tick.asks}
    allocator = open_allocator(connection, [ask for ask, _ in tick.asks])
    if not allocator.now_ms:
        allocator.now_ms = read_epoch_ms(connection)
    limited = all(route.capacity_id is not None for ask, _ in tick.asks for route in ask.decision.candidates)
    if limited and not any(room.has_room(allocator.now_ms) for room in allocator.rooms.values()):
        return Turns((), (), find_next_ms(allocator, tick))
    line = [
        InLine(generation_id, number, account, model, read_wants(wants), served, owner)
        for generation_id, number, account, model, wants, served, owner in READ_LINE.fetch(connection)
        if owner is not None
    ]
    correct_wants(connection, line, asks)
    ours = {name: ask for name, (ask, _) in asks.items()}
    granted = [with_wait(one) for one in take_turns(line, ours, allocator, asleep=tick.asleep)]
    lost = write_grants(connection, granted, {name: owner for name, (_, owner) in asks.items()})
    give_back(connection, allocator, [(one.ask.order.id, one.call) for one in granted if name_ask(one.ask) in lost])
    store_rooms(connection, allocator.rooms.values())
    kept = tuple(one for one in granted if name_ask(one.ask) not in lost)
    return Turns(kept, tuple(lost), find_next_ms(allocator, tick), tuple(allocator.left))


def correct_wants(
    connection: BaseDatabaseWrapper, line: Iterable[InLine], asks: Mapping[Name, tuple[Ask, str]]
) -> None:
    """Others read from the rows which room ours may take, and that changes with the channels."""
    changed = [
        {"generation_id": row.generation_id, "number": row.number, "wants": write_wants(found[0])}
        for row in line
        if (found := asks.get((row.generation_id, row.number))) and row.wants != found[0].capacity_ids[:20]
    ]
    if changed:
        UPDATE_WANTS.send(connection, changed)


def write_grants(connection: BaseDatabaseWrapper, granted: Sequence[Granted], owners: Mapping[Name, str]) -> set[Name]:
    """Attempts instead of places in the queue; those whose lease is lost, for which nothing was written."""
    if not granted:
        return set()
    rows = [make_attempt_row(one.ask.order, one.call, owners[name_ask(one.ask)]) for one in granted]
    written = set(INSERT_ATTEMPTS.run(connection, rows))
    won = [one for one in granted if (one.ask.order.id, one.call.number) in written]
    if won:
        DELETE_WAITING.run(
            connection, [{"generation_id": a.order.id, "number": a.number} for a in (g.ask for g in won)]
        )
        write_waiting(connection, [rest for one in won for rest in one.rest])
        turns = {
            (one.ask.order.account_id, model_id): one.call.granted_ms + i
            for i, one in enumerate(won)
            for model_id in one.model_ids
        }
        UPSERT_TURNS.send(
            connection,
            # In one order everywhere, so that two batches over the same turns cannot deadlock.
            [
                {"account_id": account, "model_id": model, "served_ms": ms}
                for (account, model), ms in sorted(turns.items())
            ],
        )
    return {name_ask(one.ask) for one in granted} - {name_ask(one.ask) for one in won}


def with_wait(granted: Granted) -> Granted:
    """The attempt keeps how long its call has waited."""
    waited = round(time.monotonic() - granted.ask.since, 3)
    return replace(granted, call=replace(granted.call, routing={**granted.call.routing, "waited_s": waited}))


def find_next_ms(allocator: Allocator, tick: Tick) -> int | None:
    moments = [ready for ask, _ in tick.asks if (ready := allocator.find_ready_ms(ask)) is not None]
    return max(0, min(moments) - allocator.now_ms) if moments else None
