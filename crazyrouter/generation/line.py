"""Turns: whose call is next when room comes back. Round robin over customer accounts, one call a turn.

Plain Python over the rows of all processes, in order of arrival, so that it can be run in simulated time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from crazyrouter.generation.allocation import Allocator, Bunch, InLine, Wants, split
from crazyrouter.generation.order import Ask, Call


@dataclass(frozen=True, slots=True)
class Granted:
    """A waiting call of this process whose turn it is, and what is left of its slots, a place for each further call.

    `model_ids` are those for which it was its account's turn: the call's own, and others that wait for the same room.
    """

    ask: Ask
    call: Call
    rest: tuple[Ask, ...]
    model_ids: frozenset[int]


#: An account's calls for one model, which take their turns together.
Unit = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Placed:
    """A call in line for which room was taken; `granted` where it is one of this process."""

    row: InLine
    capacity_id: int | None
    granted: tuple[Call, Ask | None] | None = None


def take_turns(
    line: Sequence[InLine],
    ours: Mapping[tuple[str, int], Ask],
    allocator: Allocator,
    *,
    asleep: Collection[Bunch] = (),
) -> list[Granted]:
    """Hand out the room there is, in turns. `line` is in order of arrival, over all processes.

    What is due to another process is left for it, unless it is `asleep`: it looks at the same line at the same moment.
    An account that waits for one model in vain is not therefore the first at another.
    """
    allocator.seen = {one: replace(room) for one, room in allocator.rooms.items()}
    rows: dict[Unit, deque[InLine]] = {}
    served: dict[Unit, int] = {}
    for row in line:
        unit = row.account_id, row.model_id
        if row.bunch in asleep and (row.generation_id, row.number) not in ours:
            continue
        rows.setdefault(unit, deque()).append(row)
        served[unit] = row.served_ms
    granted: list[Granted] = []
    turn = 0
    while served:
        unit = min(served, key=lambda one: (served[one], rows[one][0].generation_id))
        placed = find_placeable(rows[unit], ours, allocator)
        if placed is None:
            del served[unit]
            continue
        turn += 1
        rows[unit].remove(placed.row)
        sharing = [one for one in rows if one[0] == unit[0] and wants_room(rows[one], placed.capacity_id)]
        for one in (unit, *sharing):
            if one in served:
                served[one] = allocator.now_ms + turn
        if not rows[unit]:
            del served[unit]
        if placed.granted is not None:
            call, rest = placed.granted
            models = frozenset(model_id for _, model_id in (unit, *sharing))
            ask = ours[placed.row.generation_id, placed.row.number]
            granted.append(Granted(ask, call, split(rest) if rest else (), models))
    return granted


def wants_room(rows: Iterable[InLine], capacity_id: int | None) -> bool:
    return capacity_id is not None and any(capacity_id in row.wants for row in rows)


def find_placeable(rows: Iterable[InLine], ours: Mapping[tuple[str, int], Ask], allocator: Allocator) -> Placed | None:
    """The first call of a unit that some room is there for; room is taken for it."""
    hopeless: set[Wants] = set()
    for row in rows:
        ask = ours.get((row.generation_id, row.number))
        if ask is None:
            if (taken := take_for_another(row.wants, allocator)) is not None:
                allocator.left.append(row)
                return Placed(row, taken)
            continue
        if ask.capacity_ids and ask.capacity_ids in hopeless and not ask.decision.cooling:
            continue
        calls, rest = allocator.start(ask, most=1)
        if calls:
            return Placed(row, calls[0].route.capacity_id, (calls[0], rest))
        hopeless.add(ask.capacity_ids)
    return None


def take_for_another(wants: Wants, allocator: Allocator) -> int | None:
    """Room that another process is about to take."""
    for one in wants:
        room = allocator.seen.get(one)
        if room is not None and room.has_room(allocator.now_ms):
            room.take(allocator.now_ms)
            return one
    return None
