"""Who gets the room there is: the first candidate with room for a new call, and turns for those that wait.

Plain Python over rows that the caller has read under their locks, so that it can be run in simulated time. Waiting is
fair: round robin over customer accounts, one call a turn, whichever process holds the request. A single new request
waits for at most one call of each other account that waits, however long their backlogs are.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crazyrouter.generation.order import Ask, Call
from providers.capacity import Room, estimate_wait_ms
from providers.routing import Decision, Route, is_trial

#: Calls that may wait in all; what comes beyond them is refused at once.
MOST_WAITING = 5_000

Wants = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Calls of one account that wait for the same capacities."""

    account_id: int
    wants: Wants
    calls: int


#: Calls of one owner that wait for the same: what keeps one of them from its turn keeps them all.
Bunch = tuple[str, int, Wants]


@dataclass(frozen=True, slots=True)
class InLine:
    """A waiting call as its row tells it. `served_ms` is when its account last had a turn for its model, `owner` who
    drives its generation."""

    generation_id: str
    number: int
    account_id: int
    model_id: int
    wants: Wants
    served_ms: int
    owner: str = ""

    @property
    def bunch(self) -> Bunch:
        return self.owner, self.model_id, self.wants


@dataclass(frozen=True, slots=True)
class Placement:
    """What came of an ask: calls that may be sent now, and calls that wait. Neither, where it is refused for want of
    room; then `retry_after_s` says when it would fit."""

    calls: tuple[Call, ...] = ()
    waiting: tuple[Ask, ...] = ()
    retry_after_s: int | None = None


@dataclass(slots=True)
class Allocator:
    """One transaction's view of the room, from which it takes.

    `rooms` holds every capacity row that the asks name; a candidate without one has room always. `claim_trial` says
    whether this call is the one that a half-open circuit lets through.
    """

    now_ms: int
    rooms: Mapping[int, Room] = field(default_factory=dict)
    crowds: Sequence[Crowd] = ()
    claim_trial: Callable[[Route, Ask], bool] = lambda route, ask: False
    #: The rooms with what is due to other processes taken from them, which is never written: while turns are taken.
    seen: Mapping[int, Room] = field(init=False)
    contended: set[int] = field(init=False)
    #: Calls of other processes for which room was left.
    left: list[InLine] = field(init=False)
    queued: Counter[tuple[int, Wants]] = field(init=False)
    #: When it was `now_ms`, in `time.monotonic()` seconds.
    read_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.seen = self.rooms
        self.left = []
        self.queued = Counter()
        for crowd in self.crowds:
            self.queued[crowd.account_id, crowd.wants] += crowd.calls
        self.contended = {one for _, wants in self.queued for one in wants}

    # --- new calls ---

    def place(self, ask: Ask, *, limit_s: float) -> Placement:
        """Start what can start now; the rest waits, behind those that wait already. Where even its first call would
        wait longer than `limit_s` by estimate, nothing of it is placed."""
        calls, rest = self.start(ask)
        if rest is None:
            return Placement(tuple(calls))
        if not calls:
            wait_s = self.estimate_wait_s(rest)
            if wait_s > limit_s or sum(self.queued.values()) >= MOST_WAITING:
                return Placement(retry_after_s=describe_retry(wait_s - limit_s))
        waiting = split(rest)
        self.queued[ask.order.account_id, ask.capacity_ids] += len(waiting)
        self.contended.update(ask.capacity_ids)
        return Placement(tuple(calls), waiting)

    def start(self, ask: Ask, *, most: int | None = None) -> tuple[list[Call], Ask | None]:
        """As many calls as there is room for, `most` at most, and what is left of the ask."""
        calls: list[Call] = []
        slots, number = ask.slots, ask.number
        while slots and (most is None or len(calls) < most):
            # Under its own number: of several calls of one order, too, one is the trial of a half-open circuit.
            one = ask if number == ask.number else replace(ask, number=number)
            route, busy = self._find_room(one, in_turn=most is not None)
            if route is None:
                break
            routing = describe_choice(ask.decision, route, reason=ask.reason, busy=busy)
            calls.append(
                Call(
                    number,
                    slots[: route.max_n],
                    route,
                    ask.tried,
                    ask.paid_tries,
                    granted_ms=self.now_ms,
                    routing=routing,
                    granted_at=self.read_at,
                )
            )
            slots, number = slots[route.max_n :], number + 1
        return calls, replace(ask, number=number, slots=slots) if slots else None

    def give_back(self, calls: Iterable[Call]) -> None:
        """These calls are not made after all."""
        for call in calls:
            if room := self.rooms.get(call.route.capacity_id or 0):
                room.give_back(call.granted_ms)

    def _find_room(self, ask: Ask, *, in_turn: bool) -> tuple[Route | None, list[dict[str, Any]]]:
        """The first candidate that can take a call now, and why those before it cannot."""
        busy: list[dict[str, Any]] = []
        for route in ask.decision.candidates:
            why = self._find_hindrance(ask, route, in_turn=in_turn)
            if not why:
                self._take(route.capacity_id or 0)
                return route, busy
            busy.append({"offer": route.offer_id, "channel": route.channel_name, "why": why})
        return None, busy

    def _take(self, capacity_id: int) -> None:
        for rooms in (self.rooms,) if self.seen is self.rooms else (self.rooms, self.seen):
            if room := rooms.get(capacity_id):
                room.take(self.now_ms)

    def _find_hindrance(self, ask: Ask, route: Route, *, in_turn: bool) -> str:
        if ask.decision.cooling.get(route.offer_id, 0.0) * 1000 > self.now_ms:
            return "it cools down"
        room = self.seen.get(route.capacity_id or 0)
        if room is not None and not room.has_room(self.now_ms):
            return f"{room.running} calls run there" if room.is_full() else "its submit rate is used up"
        if room is not None and not in_turn and room.id in self.contended:
            return "others wait for it"
        if is_trial(route) and not self.claim_trial(route, ask):
            return "its circuit is half-open, and another call tries it"
        return ""

    # --- how long it would take ---

    def estimate_wait_s(self, ask: Ask) -> float:
        """Until the first call of the ask starts, in its turn."""
        rooms = [self.rooms[one] for one in ask.capacity_ids if one in self.rooms]
        cooling = min((ask.decision.cooling.get(route.offer_id, 0.0) for route in ask.decision.candidates), default=0.0)
        cool_s = max(0.0, cooling - self.now_ms / 1000) if self.now_ms else 0.0
        if not rooms:
            return cool_s
        ahead = self._count_ahead(ask)
        return max(cool_s, estimate_wait_ms(rooms, ahead=ahead, now_ms=self.now_ms) / 1000)

    def _count_ahead(self, ask: Ask) -> int:
        """Its account's own calls, and as many turns of every other account."""
        wanted = set(ask.capacity_ids)
        by_account: Counter[int] = Counter()
        for (account_id, wants), calls in self.queued.items():
            if wanted.intersection(wants):
                by_account[account_id] += calls
        own = by_account.pop(ask.order.account_id, 0)
        return own + sum(min(calls, own + 1) for calls in by_account.values())

    def find_ready_ms(self, ask: Ask) -> int | None:
        """When one of the candidates may have room; None where nothing can be said."""
        moments = []
        for route in ask.decision.candidates:
            cool_ms = int(ask.decision.cooling.get(route.offer_id, 0.0) * 1000)
            room = self.rooms.get(route.capacity_id or 0)
            moments.append(max(cool_ms, room.find_ready_ms(self.now_ms) if room else self.now_ms))
        return min(moments, default=None)


def describe_retry(seconds: float) -> int:
    """An honest Retry-After: when it would fit, at least a second, at most an hour."""
    return max(1, min(3600, math.ceil(seconds)))


def split(ask: Ask) -> tuple[Ask, ...]:
    """One ask for each call that it is likely to need: each of them takes a turn."""
    size = ask.decision.candidates[0].max_n if ask.decision.candidates else len(ask.slots)
    starts = range(0, len(ask.slots), size)
    # Numbers are as many as slots, so that each part may still be fanned out further.
    return tuple(replace(ask, number=ask.number + start, slots=ask.slots[start : start + size]) for start in starts)


def describe_choice(
    decision: Decision,
    route: Route,
    *,
    reason: str,
    busy: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What an operator reads later: who else could have served it, who could not and why, and why this one."""
    record: dict[str, Any] = {
        "candidates": [{"offer": one.offer_id, "channel": one.channel_name} for one in decision.candidates],
        "chosen": route.offer_id,
        "reason": reason,
    }
    if decision.excluded:
        record["excluded"] = [{"offer": e.offer_id, "channel": e.channel_name, "why": e.why} for e in decision.excluded]
    if busy:
        record["busy"] = list(busy)
    return record
