"""One generation in one process: its calls served to their ends, over failures that cost nothing, then finished.

It holds no database connection while it waits: durable steps go through the lane, each with its own verdict, and each
conditional on the lease. A driver that has lost it submits and writes nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import Error as AnyDatabaseError

from crazyrouter.generation.allocation import Placement
from crazyrouter.generation.ends import give_room_back, list_again, make_report, make_vain, make_withdrawn
from crazyrouter.generation.journal.attempts import Acceptance, accept_attempts
from crazyrouter.generation.journal.finishing import Finish, finish_generations
from crazyrouter.generation.journal.queue import Asking, name_trial, place_asks
from crazyrouter.generation.journal.results import Ended, book_results
from crazyrouter.generation.lane import Lane, Operation
from crazyrouter.generation.order import Ask, Call, CallResult, Order, Outcome
from crazyrouter.generation.outcomes import NO_CAPACITY, LeaseLost, judge
from crazyrouter.generation.router import Router
from crazyrouter.generation.upstream import Upstream, make_call
from crazyrouter.generation.waiting import NoRoom, Queue
from crazyrouter.generation.wellbeing import Wellbeing
from providers.capacity import MARGIN_MS, LateStart, restamp_starts
from providers.contract import Pending
from providers.health import release_trials
from providers.routing import Decision, is_trial

logger = logging.getLogger(__name__)

#: A call that ended, and its result, from which its driver has not gone on.
Broken = tuple[Call, CallResult]

#: How long a write is tried again while the database is away; then its lease runs out and recovery has it.
WRITE_PATIENCE_S = 60.0
WRITE_PAUSE_S = 1.0
#: A submit this close to the end of its lease asks the database first whether the generation is still ours.
LEASE_MARGIN_S = 2.0
#: However often upstreams throttle it, a generation is not asked for more often than this.
MOST_CALLS = 100
#: Later than this a submit is no longer counted from its grant.
LATE_MS = MARGIN_MS // 2


@dataclass(frozen=True, slots=True)
class Desk:
    """What all drivers of one process share."""

    lane: Lane
    upstream: Upstream
    router: Router
    queue: Queue
    wellbeing: Wellbeing


@dataclass(slots=True)
class Driver:
    """`deadline`, `queue_until` and `leased_until` are in `time.monotonic()` seconds; `ended` is what came of calls so
    far. While none of its calls is `at_work`, and none has brought anything, it waits for room until `queue_until`."""

    order: Order
    owner: str
    desk: Desk
    #: Refreshes the leases of this process and says whether this generation is among them.
    keep_lease: Callable[[], Awaitable[bool]]
    deadline: float
    queue_until: float
    leased_until: float
    at_work: int = 0
    next_number: int = 1
    ended: list[CallResult] = field(default_factory=list)
    open_calls: int = 0

    def make_ask(
        self,
        slots: tuple[int, ...],
        decision: Decision,
        *,
        reason: str = "the first choice",
        tried: frozenset[int] = frozenset(),
        paid_tries: int = 0,
    ) -> Ask:
        """Ask for the slots, with numbers of its own for as many calls as it may need."""
        first, self.next_number = self.next_number, self.next_number + len(slots)
        return Ask(self.order, first, slots, decision, reason, tried, paid_tries)

    async def drive(self, placement: Placement, calls: Sequence[Call] = (), broken: Sequence[Broken] = ()) -> Outcome:
        """Serve what was placed and what was accepted before, go on from calls that broke, book what came of it all.

        Raises LeaseLost.
        """
        self.open_calls += len(calls) + len(broken)
        steps = [self._serve(call) for call in calls] + [self._go_on(call, result) for call, result in broken]
        await gather([*steps, *self._begin(placement)])
        await self._finish()
        return make_outcome(self.order, self.ended)

    async def place(self, ask: Ask) -> Placement:
        """Attempts for the ask, or places in the queue, are durable before any upstream hears of it."""
        limit_s = max(0.0, self._find_patience() - time.monotonic())
        placement = await self._write(place_asks, Asking(ask, self.owner, limit_s))
        if placement.retry_after_s is not None:
            self.ended.append(make_vain(ask, NoRoom(placement.retry_after_s)))
        return placement

    # --- calls ---

    def _begin(self, placement: Placement) -> list[Coroutine[Any, Any, None]]:
        """A step for each call that starts now, and for each that waits."""
        self.open_calls += len(placement.calls) + len(placement.waiting)
        return [self._serve(call) for call in placement.calls] + [self._wait(ask) for ask in placement.waiting]

    async def _wait(self, ask: Ask) -> None:
        """Wait for a turn, then serve the call; what is left of the ask goes on waiting beside it."""
        try:
            placement = await self.desk.queue.wait(ask, self.owner, until=self._find_patience)
        except NoRoom as vain:
            self.open_calls -= 1
            self.ended.append(make_vain(ask, vain))
            return
        self.open_calls -= 1
        await gather(self._begin(placement))

    def _find_patience(self) -> float:
        started = self.at_work or any(result.pictures for result in self.ended)
        return self.deadline if started else min(self.queue_until, self.deadline)

    async def _serve(self, call: Call) -> None:
        """Make the call, and go on from its result."""
        began = time.monotonic()
        if call.accepted is None:
            await self._confirm_lease()
            if not await self.desk.router.is_in_service(self.order, call.route):
                if is_trial(call.route):
                    self.desk.lane.note(release_trials, name_trial(call.route, self.order.id, call.number))
                await self._go_on(call, give_room_back(call, make_withdrawn(call), began))
                return
            self._tell_late_start(call)
        self.at_work += 1
        try:
            result = await make_call(
                self.desk.upstream,
                self.order,
                call,
                deadline=self.deadline,
                on_accepted=lambda task: self._accept(call, task),
            )
        finally:
            self.at_work -= 1
        result = give_room_back(call, result, began)
        self.desk.wellbeing.note(make_report(self.order, call, result))
        await self._go_on(call, result)

    async def _go_on(self, call: Call, result: CallResult) -> None:
        """Where the rows of its failures say so, try further candidates for the slots that are left, while time
        remains."""
        self.open_calls -= 1
        asks = [] if time.monotonic() >= self.deadline else [ask async for ask in self._ask_again(call, result)]
        if not asks:
            # Alone or last, it is booked together with the end of the generation.
            self.ended.append(await self._book(result) if self.open_calls else result)
            return
        self.open_calls += len(asks)
        self.ended.append(await self._book(result))
        placements = [await self.place(ask) for ask in asks]
        self.open_calls -= len(asks)
        await gather([step for placement in placements for step in self._begin(placement)])

    async def _ask_again(self, call: Call, result: CallResult) -> AsyncIterator[Ask]:
        """An ask for each group of slots that may be ordered again, where somebody can serve them."""
        if self.next_number > MOST_CALLS:
            return
        for again in list_again(call, result):
            decision = await self.desk.router.choose(self.order, tried=again.tried)
            tried = again.tried
            if not decision.candidates and again.paid_tries > call.paid_tries:
                # Nobody else: a channel that allows it is asked once more.
                decision, tried = await self.desk.router.choose(self.order), frozenset()
            if decision.candidates:
                yield self.make_ask(
                    again.slots, decision, reason=again.reason, tried=tried, paid_tries=again.paid_tries
                )

    def _tell_late_start(self, call: Call) -> None:
        """The upstream counts from when the call arrives; nobody else may start before that count allows it."""
        if call.route.capacity_id is not None and (late_ms := call.late_ms) > LATE_MS:
            self.desk.lane.note(restamp_starts, LateStart(call.route.capacity_id, call.granted_ms, late_ms))

    async def _accept(self, call: Call, task: Pending) -> None:
        acceptance = Acceptance(self.order.id, self.owner, call.number, task.task_id, task.upstream_id)
        await self._write(accept_attempts, acceptance)

    async def _book(self, result: CallResult) -> CallResult:
        if result.booked:
            return result
        await self._write(book_results, Ended(self.order.id, self.owner, result))
        if result.capacity_id is not None:
            self.desk.queue.wake()
        return replace(result, booked=True)

    async def _write(self, operation: Operation, item: Any) -> Any:
        """A durable step. Raises LeaseLost where it was refused, because another process drives the generation now.

        A database that is away is waited for: what this process knows of tasks and pictures nobody else does.
        """
        until = time.monotonic() + WRITE_PATIENCE_S
        while True:
            try:
                written = await self.desk.lane.write(operation, item)
            except AnyDatabaseError:
                if time.monotonic() >= until:
                    raise
                logger.exception("%s of %s is tried again", operation.__name__, self.order.id)
                await asyncio.sleep(WRITE_PAUSE_S)
            else:
                break
        if not written:
            raise LeaseLost(self.order.id)
        return written

    async def _confirm_lease(self) -> None:
        """A process that slept through its lease must not submit what somebody else has taken over."""
        if time.monotonic() > self.leased_until - LEASE_MARGIN_S and not await self.keep_lease():
            raise LeaseLost(self.order.id)

    # --- the end ---

    async def _finish(self) -> None:
        finish = Finish(self.order, self.owner, judge(self.ended), tuple(self.ended), merge_rewrites(self.ended))
        await self._write(finish_generations, finish)
        if finish.capacity_ids:
            self.desk.queue.wake()

    def list_unbooked(self) -> list[str]:
        """Names of pictures that no row names yet."""
        return [picture.name for result in self.ended if not result.booked for picture in result.pictures]


async def gather(steps: Sequence[Coroutine[Any, Any, None]]) -> None:
    """One step without a task of its own, which is the usual case. Where one fails, none goes on without a driver."""
    if len(steps) < 2:
        for step in steps:
            await step
        return
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def merge_rewrites(results: Sequence[CallResult]) -> dict[int, str]:
    return {slot: text for result in results for slot, text in result.revised_prompts.items()}


def make_outcome(order: Order, results: Sequence[CallResult]) -> Outcome:
    pictures = sorted((picture for result in results for picture in result.pictures), key=lambda picture: picture.slot)
    failure = judge(results).code
    waits = [one.retry_after_s for result in results for one in result.failures if one.retry_after_s is not None]
    return Outcome(
        order.id,
        failure,
        tuple(pictures),
        order.response_format,
        merge_rewrites(results),
        retry_after_s=max(1, math.ceil(min(waits))) if failure == NO_CAPACITY.code and waits else None,
    )
