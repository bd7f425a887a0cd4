"""Calls get room and an attempt, or a place in the queue: in one transaction, exact over all processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.generation.allocation import (
    Allocator,
    Crowd,
    Placement,
    describe_retry,
    split,
)
from crazyrouter.generation.journal.attempts import INSERT_ATTEMPTS, make_attempt_row
from crazyrouter.generation.journal.results import HOLD_LEASES
from crazyrouter.generation.order import Ask, Call
from crazyrouter.sql import Statement, read_epoch_ms
from providers.capacity import end_calls, load_rooms, store_rooms
from providers.health import Trial, claim_trials, release_trials
from providers.routing import Route, is_trial

#: A call is known by its generation and number.
Name = tuple[str, int]

# Those whose process is gone do not wait: whoever takes their generation over asks anew. Looked up row by row: joined,
# PostgreSQL walks all generations there ever were to find those of a long queue, under the locks of capacities.
DRIVER = """(SELECT g.lease_owner FROM generation_generation g
    WHERE g.id = w.generation_id AND g.state || '' = 'running' AND g.lease_expires_at > {now})"""

READ_CROWDS = Statement(
    f"""
    SELECT w.account_id, w.wants, count(*) FROM generation_waitingcall w WHERE {DRIVER} IS NOT NULL
    GROUP BY w.account_id, w.wants
    """  # noqa: S608 - a constant of this module
)

# Written again after a lost connection, the row is there already.
INSERT_WAITING = Statement(
    """
    INSERT INTO generation_waitingcall (generation_id, number, account_id, model_id, wants, since)
    SELECT r.generation_id, r.number, r.account_id, r.model_id, r.wants, {now} FROM {rows} WHERE true
    ON CONFLICT (generation_id, number) DO NOTHING
    """,
    generation_id="text",
    number="integer",
    account_id="bigint",
    model_id="bigint",
    wants="text",
)

DELETE_WAITING = Statement(
    """
    DELETE FROM generation_waitingcall
    WHERE EXISTS (SELECT 1 FROM {rows} WHERE r.generation_id = generation_waitingcall.generation_id
        AND r.number = generation_waitingcall.number)
    RETURNING generation_id, number
    """,
    generation_id="text",
    number="integer",
)

READ_PLACED = Statement(
    """
    SELECT r.generation_id, r.number, a.id IS NOT NULL, a.offer_id
    FROM {rows} LEFT JOIN generation_attempt a ON a.generation_id = r.generation_id AND a.number = r.number
    LEFT JOIN generation_waitingcall w ON w.generation_id = r.generation_id AND w.number = r.number
    WHERE a.id IS NOT NULL OR w.id IS NOT NULL
    """,
    generation_id="text",
    number="integer",
)


# --- the view of one transaction ---


def open_allocator(connection: BaseDatabaseWrapper, asks: Sequence[Ask]) -> Allocator:
    """The rooms and the queue that matter for these asks; nothing is read where none of them knows a limit.

    The caller holds the locks of the capacities.
    """
    ids = {one for ask in asks for one in ask.capacity_ids}

    # However many calls want it: somebody else has it until this transaction ends.
    refused: set[int] = set()

    def claim_trial(route: Route, ask: Ask) -> bool:
        if route.offer_id in refused:
            return False
        granted = claim_trials(connection, [name_trial(route, ask.order.id, ask.number)])[0]
        if not granted:
            refused.add(route.offer_id)
        return granted

    if not ids and not any(ask.decision.cooling for ask in asks):
        return Allocator(0, claim_trial=claim_trial)
    rooms = load_rooms(connection, ids) if ids else {}
    now_ms = read_epoch_ms(connection)
    return Allocator(now_ms, rooms, read_crowds(connection) if ids else (), claim_trial)


def name_trial(route: Route, generation_id: str, number: int) -> Trial:
    """The claim of one call to be the trial of a half-open circuit."""
    return Trial(route.offer_id, f"{generation_id}#{number}")


def give_back(connection: BaseDatabaseWrapper, allocator: Allocator, dropped: Sequence[tuple[str, Call]]) -> None:
    """These calls (of generations by id) are not made: their room, and the trial of a circuit, are for others."""
    allocator.give_back(call for _, call in dropped)
    if trials := [name_trial(call.route, name, call.number) for name, call in dropped if is_trial(call.route)]:
        release_trials(connection, trials)


def read_crowds(connection: BaseDatabaseWrapper) -> list[Crowd]:
    return [Crowd(account, read_wants(wants), calls) for account, wants, calls in READ_CROWDS.fetch(connection)]


def read_wants(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(",") if one)


def write_wants(ask: Ask) -> str:
    """The ids of its capacities, as many as the column takes."""
    return ",".join(map(str, ask.capacity_ids[:20]))


def write_waiting(connection: BaseDatabaseWrapper, asks: Sequence[Ask]) -> None:
    if asks:
        INSERT_WAITING.send(
            connection,
            [
                {
                    "generation_id": ask.order.id,
                    "number": ask.number,
                    "account_id": ask.order.account_id,
                    "model_id": ask.order.model_id,
                    "wants": write_wants(ask),
                }
                for ask in asks
            ],
        )


# --- further calls of running generations ---


@dataclass(frozen=True, slots=True)
class Asking:
    """A further ask of a running generation. What would wait longer than `limit_s` by estimate gets no place."""

    ask: Ask
    owner: str
    limit_s: float

    @property
    def capacity_ids(self) -> tuple[int, ...]:
        return self.ask.capacity_ids


def place_asks(connection: BaseDatabaseWrapper, items: Sequence[Asking]) -> list[Placement | None]:
    """Attempts for what can start now, places in the queue for the rest; None means that the lease is lost.

    Run again after a lost connection it finds what its first run has written.
    """
    wanted = sorted({(item.ask.order.id, item.owner) for item in items})
    held = {
        generation_id
        for (generation_id,) in HOLD_LEASES.run(connection, [{"id": one, "owner": owner} for one, owner in wanted])
    }
    ours = [item for item in items if item.ask.order.id in held]
    known = read_placed(connection, [item.ask for item in ours])
    allocator = open_allocator(connection, [item.ask for item in ours])
    placements = [known.get(name_ask(item.ask)) or allocator.place(item.ask, limit_s=item.limit_s) for item in ours]
    rows = [
        make_attempt_row(item.ask.order, call, item.owner)
        for item, placement in zip(ours, placements, strict=True)
        for call in placement.calls
    ]
    if rows:
        INSERT_ATTEMPTS.send(connection, rows)
    write_waiting(connection, [ask for placement in placements for ask in placement.waiting])
    store_rooms(connection, allocator.rooms.values())
    results = iter(placements)
    return [next(results) if item.ask.order.id in held else None for item in items]


def name_ask(ask: Ask) -> Name:
    return ask.order.id, ask.number


def read_placed(connection: BaseDatabaseWrapper, asks: Sequence[Ask]) -> dict[Name, Placement]:
    """What an earlier run of the same transaction has granted or given a place, though nobody was told.

    An ask's numbers belong to it alone, so an attempt or a place under one of them is its own.
    """
    rows = [{"generation_id": ask.order.id, "number": ask.number + i} for ask in asks for i in range(len(ask.slots))]
    found = {(row[0], row[1]): row for row in READ_PLACED.run(connection, rows)} if rows else {}
    return {name_ask(ask): rebuild_placement(ask, found) for ask in asks if name_ask(ask) in found}


def rebuild_placement(ask: Ask, found: Mapping[Name, Sequence[Any]]) -> Placement:
    """Calls as they were written; slots under none of their numbers wait, in the places that they got then."""
    calls: list[Call] = []
    slots, number = ask.slots, ask.number
    while slots and (row := found.get((ask.order.id, number))) and row[2]:
        route = next((one for one in ask.decision.candidates if one.offer_id == row[3]), None)
        size = route.max_n if route else 1
        if route is not None:
            calls.append(Call(number, slots[:size], route, ask.tried, ask.paid_tries))
        slots, number = slots[size:], number + 1
    return Placement(tuple(calls), split(replace(ask, number=number, slots=slots)) if slots else ())


@dataclass(frozen=True, slots=True)
class Leaving:
    """A call that gives its place up."""

    ask: Ask


def leave_queue(connection: BaseDatabaseWrapper, items: Sequence[Leaving]) -> list[int | None]:
    """Give these places up: in how many seconds each would have had its turn; None for one that was not there."""
    asks = [item.ask for item in items]
    left = set(DELETE_WAITING.run(connection, [{"generation_id": a.order.id, "number": a.number} for a in asks]))
    allocator = open_allocator(connection, asks)
    return [describe_retry(allocator.estimate_wait_s(ask)) if name_ask(ask) in left else None for ask in asks]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A call that was granted and is not made: whoever waited for it has gone."""

    generation_id: str
    owner: str
    call: Call

    @property
    def capacity_ids(self) -> tuple[int, ...]:
        return () if self.call.route.capacity_id is None else (self.call.route.capacity_id,)


# While the lease is ours: whoever has taken the generation over counts it as sent.
FORGET_ATTEMPTS = Statement(
    """
    DELETE FROM generation_attempt WHERE id IN (
        SELECT a.id FROM {rows} JOIN generation_generation g ON g.id = r.generation_id AND g.lease_owner = r.owner
        JOIN generation_attempt a ON a.generation_id = r.generation_id AND a.number = r.number
        WHERE a.state = 'created')
    RETURNING generation_id, number
    """,
    generation_id="text",
    owner="text",
    number="integer",
)


def forget_calls(connection: BaseDatabaseWrapper, items: Sequence[Dropped]) -> list[bool]:
    """These calls were never sent, and so there is no attempt: whoever goes on with their slots orders them."""
    rows = [{"generation_id": one.generation_id, "owner": one.owner, "number": one.call.number} for one in items]
    forgotten = set(FORGET_ATTEMPTS.run(connection, rows))
    ours = [one for one in items if (one.generation_id, one.call.number) in forgotten]
    end_calls(connection, [(capacity_id, None) for one in ours for capacity_id in one.capacity_ids])
    if trials := [name_trial(one.call.route, one.generation_id, one.call.number) for one in ours]:
        release_trials(connection, trials)
    return [(one.generation_id, one.call.number) in forgotten for one in items]


CLEAR_QUEUE = Statement(
    """
    DELETE FROM generation_waitingcall
    WHERE EXISTS (SELECT 1 FROM {rows} WHERE r.generation_id = generation_waitingcall.generation_id)
    """,
    generation_id="text",
)


def clear_queues(connection: BaseDatabaseWrapper, items: Sequence[str]) -> list[bool]:
    """What waited for these generations waits no more: whoever drives them now asks anew."""
    if items:
        CLEAR_QUEUE.send(connection, [{"generation_id": one} for one in items])
    return [True] * len(items)
