"""The calls of one process that wait for room: one question to the database for all of them, when a turn may be due.

Who is next is decided there, over all processes (`journal.queue`). While a call waits, what may serve it changes with
the channels: a swap or an outage is followed within the life of a snapshot.

    NoRoom          the call was given up: no room in time, or nobody left who could serve it
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db import Error as AnyDatabaseError

from crazyrouter.generation.allocation import Bunch, InLine, Placement, describe_retry
from crazyrouter.generation.journal.queue import (
    Asking,
    Dropped,
    Leaving,
    Name,
    forget_calls,
    leave_queue,
    name_ask,
    place_asks,
)
from crazyrouter.generation.journal.turns import Tick, grant_turns
from crazyrouter.generation.lane import Lane, LaneClosed
from crazyrouter.generation.models import WaitingCall
from crazyrouter.generation.order import Ask
from crazyrouter.generation.outcomes import LeaseLost
from crazyrouter.generation.router import Router, Seen
from crazyrouter.generation.snapshot import Reader

logger = logging.getLogger(__name__)

#: Room that another process gives back is seen this late at most; our own at once. In seconds.
LONGEST_PAUSE_S = 0.2
#: Below this the questions would cost more than the turns are worth.
SHORTEST_PAUSE_S = 0.02
#: After a commit whose answer was lost a call may have had its turn without knowing it.
LOOK_FOR_LOST_S = 5.0
RETRY_S = 1.0
#: Room is left for another process no longer than this, many looks of it: it may be gone, or may know of a cool-down
#: that is none of ours. For how long then nothing is left for what it has waiting there.
LONGEST_NAP_S = 1.0
ASLEEP_S = 10.0


class NoRoom(Exception):
    """`retry_after_s` is when it would have had its turn; None where nobody is left who could serve it."""

    def __init__(self, retry_after_s: int | None) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Waiter:
    """One call that waits. `until` gives the moment, in `time.monotonic()` seconds, at which it is given up."""

    ask: Ask
    owner: str
    until: Callable[[], float]
    future: asyncio.Future[Placement]


class Queue:
    """The waiting calls of one process. All methods run on its event loop."""

    def __init__(self, *, lane: Lane, reader: Reader, router: Router) -> None:
        self._lane = lane
        self._reader = reader
        self._router = router
        self._waiters: dict[Name, Waiter] = {}
        self._wake = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._seen: Seen | None = None
        self._looked_at = time.monotonic()
        #: Since when room is left for a call of another process, and until when a bunch of them gets none.
        self._left: dict[Name, float] = {}
        self._dropped: list[Dropped] = []
        self._closed = False
        self._asleep: dict[Bunch, float] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, ask: Ask, owner: str, *, until: Callable[[], float]) -> Placement:
        """The first call of the ask that gets room, its attempt durable, and what then waits. The ask has its place in
        the queue.

        Raises NoRoom, LeaseLost.
        """
        future: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        self._waiters[name_ask(ask)] = Waiter(ask, owner, until, future)
        self.wake()
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._drop(ask, owner, future.result())
            raise
        finally:
            self._waiters.pop(name_ask(ask), None)

    def wake(self) -> None:
        """Room was given back here."""
        self._wake.set()

    async def close(self) -> None:
        """Nobody waits any more. What was being granted meanwhile is not sent, and told so."""
        self._closed = True
        self.wake()
        if self._working is not None:
            await self._working
        try:
            await self._forget_dropped()
        except (AnyDatabaseError, LaneClosed):
            logger.exception("calls that were never sent stay unknown")

    async def _work(self) -> None:
        while self._waiters and not self._closed:
            self._wake.clear()
            try:
                await self._forget_dropped()
                pause = await self._take_turns()
            except LaneClosed:
                return
            except Exception:
                # Whatever it was: without this task all who wait here would wait in vain.
                logger.exception("turns could not be taken; they are asked for again")
                pause = RETRY_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
                # Several calls end together; one question serves them all.
                await asyncio.sleep(SHORTEST_PAUSE_S)

    async def _take_turns(self) -> float:
        """One look at the queue; how long to wait for the next, in seconds."""
        await self._renew()
        await self._give_up()
        if time.monotonic() - self._looked_at > LOOK_FOR_LOST_S:
            await self._look_for_lost()
        if not self._waiters:
            return 0.0
        tick = Tick(tuple((waiter.ask, waiter.owner) for waiter in self._waiters.values()), frozenset(self._asleep))
        turns = await self._lane.write(grant_turns, tick)
        owners = {name_ask(ask): owner for ask, owner in tick.asks}
        for granted in turns.granted:
            owner = owners[name_ask(granted.ask)]
            self._resolve(granted.ask, owner, Placement((granted.call,), granted.rest))
        for name in turns.lost:
            self._fail(name, LeaseLost(name[0]))
        self._note_left(turns.left)
        # Room that nobody here may have now: it is due to another process, or somebody else tries the circuit.
        if turns.next_ms is None or (turns.next_ms == 0 and not turns.granted):
            return LONGEST_PAUSE_S
        return min(max(turns.next_ms / 1000, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)

    def _note_left(self, left: Sequence[InLine]) -> None:
        now = time.monotonic()
        self._asleep = {bunch: until for bunch, until in self._asleep.items() if until > now}
        known, self._left = self._left, {}
        for row in left:
            name = row.generation_id, row.number
            self._left[name] = since = known.get(name, now)
            if now - since > LONGEST_NAP_S:
                self._asleep[row.bunch] = now + ASLEEP_S

    async def _renew(self) -> None:
        asks, self._seen = await self._router.renew({n: w.ask for n, w in self._waiters.items()}, self._seen)
        for name, ask in asks.items():
            if waiter := self._waiters.get(name):
                waiter.ask = ask

    async def _give_up(self) -> None:
        """Whoever has waited too long, or has nobody left to wait for, or would wait too long for a cool-down."""
        now = time.monotonic()
        leaving = [waiter for waiter in self._waiters.values() if find_earliest(waiter.ask, now) > waiter.until()]
        results = await asyncio.gather(*(self._lane.write(leave_queue, Leaving(waiter.ask)) for waiter in leaving))
        for waiter, retry_after_s in zip(leaving, results, strict=True):
            # One that is not in the queue any more has had its turn: the answer of that commit was lost.
            if retry_after_s is not None:
                known = describe_retry(retry_after_s) if waiter.ask.decision.candidates else None
                self._fail(name_ask(waiter.ask), NoRoom(known))

    async def _look_for_lost(self) -> None:
        self._looked_at = time.monotonic()
        # Not those that come while the rows are read.
        waiters = dict(self._waiters)
        there = await self._reader.read(find_waiting, [name for name, _ in waiters])
        for name, waiter in waiters.items():
            if name in there or self._waiters.get(name) is not waiter:
                continue
            limit_s = max(0.0, waiter.until() - time.monotonic())
            placement = await self._lane.write(place_asks, Asking(waiter.ask, waiter.owner, limit_s))
            if placement is None:
                self._fail(name, LeaseLost(name[0]))
            elif placement.retry_after_s is not None:
                self._fail(name, NoRoom(placement.retry_after_s))
            else:
                self._resolve(waiter.ask, waiter.owner, placement)

    def _resolve(self, ask: Ask, owner: str, placement: Placement) -> None:
        waiter = self._waiters.pop(name_ask(ask), None)
        if waiter is not None and not waiter.future.done():
            waiter.future.set_result(placement)
        else:
            self._drop(ask, owner, placement)

    def _drop(self, ask: Ask, owner: str, placement: Placement) -> None:
        """Whoever waited was cancelled while the call was granted."""
        self._dropped += [Dropped(ask.order.id, owner, call) for call in placement.calls]

    async def _forget_dropped(self) -> None:
        while self._dropped:
            first = self._dropped[0]
            await self._lane.write(forget_calls, first)
            self._dropped.remove(first)

    def _fail(self, name: Name, error: Exception) -> None:
        waiter = self._waiters.pop(name, None)
        if waiter is not None and not waiter.future.done():
            waiter.future.set_exception(error)


def find_earliest(ask: Ask, now: float) -> float:
    """Before when it cannot start, in `time.monotonic()` seconds: never without candidates, else after cool-downs."""
    cooling = ask.decision.cooling
    moments = [cooling.get(route.offer_id, 0.0) for route in ask.decision.candidates]
    if not moments:
        return float("inf")
    return now + max(0.0, min(moments) - time.time())


def find_waiting(generation_ids: list[str]) -> set[Name]:
    """Names of those that have their place in the queue."""
    return set(WaitingCall.objects.filter(generation_id__in=generation_ids).values_list("generation_id", "number"))
