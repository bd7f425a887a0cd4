"""One generation in one process: its calls served to their ends, over failures that cost nothing, then finished.

It holds no database connection while it waits: durable steps go through the lane, each with its own verdict, and each
conditional on the lease. A driver that has lost it submits and writes nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import Error as AnyDatabaseError

from crazyrouter.generation.journal.attempts import Acceptance, Grant, accept_attempts, grant_attempts
from crazyrouter.generation.journal.finishing import Finish, finish_generations
from crazyrouter.generation.journal.results import Ended, book_results
from crazyrouter.generation.lane import Lane, Operation
from crazyrouter.generation.order import Call, CallResult, Order, Outcome
from crazyrouter.generation.outcomes import LeaseLost, Next, judge, judge_call
from crazyrouter.generation.upstream import Upstream, make_call
from providers.contract import Billed, Pending
from providers.routing import Route

logger = logging.getLogger(__name__)

#: A call that ended, and its result, from which its driver has not gone on.
Broken = tuple[Call, CallResult]

#: How long a write is tried again while the database is away; then its lease runs out and recovery has it.
WRITE_PATIENCE_S = 60.0
WRITE_PAUSE_S = 1.0
#: A submit this close to the end of its lease asks the database first whether the generation is still ours.
LEASE_MARGIN_S = 2.0


@dataclass(slots=True)
class Driver:
    """`deadline` and `leased_until` are in `time.monotonic()` seconds; `ended` is what came of calls so far."""

    order: Order
    owner: str
    lane: Lane
    upstream: Upstream
    #: Refreshes the leases of this process and says whether this generation is among them.
    keep_lease: Callable[[], Awaitable[bool]]
    deadline: float
    leased_until: float
    next_number: int = 1
    ended: list[CallResult] = field(default_factory=list)
    open_calls: int = 0

    def plan(self, slots: tuple[int, ...], candidates: tuple[Route, ...], *, paid_tries: int = 0) -> tuple[Call, ...]:
        """Fan the slots out over as many calls as the first candidate needs."""
        size = candidates[0].max_n
        groups = [slots[start : start + size] for start in range(0, len(slots), size)]
        first, self.next_number = self.next_number, self.next_number + len(groups)
        return tuple(Call(first + i, group, candidates, paid_tries) for i, group in enumerate(groups))

    async def drive(self, calls: Sequence[Call], broken: Sequence[Broken] = ()) -> Outcome:
        """Serve the calls, go on from those that broke, book what came of it all. Raises LeaseLost."""
        self.open_calls += len(calls) + len(broken)
        steps = [self._serve(call) for call in calls] + [self._go_on(call, result) for call, result in broken]
        await gather(steps)
        await self._finish()
        return make_outcome(self.order, self.ended)

    # --- calls ---

    async def _serve(self, call: Call) -> None:
        """Make the call, and go on from its result."""
        if call.accepted is None:
            await self._confirm_lease()
        result = await make_call(
            self.upstream, self.order, call, deadline=self.deadline, on_accepted=lambda task: self._accept(call, task)
        )
        await self._go_on(call, result)

    async def _go_on(self, call: Call, result: CallResult) -> None:
        """Where the row of the result says so, try the next candidate while time remains."""
        self.open_calls -= 1
        rest = choose_next(call, result)
        if not rest or time.monotonic() >= self.deadline:
            # Alone or last, it is booked together with the end of the generation.
            self.ended.append(await self._book(result) if self.open_calls else result)
            return
        further = self.plan(call.slots, rest, paid_tries=count_paid_tries(call, result))
        self.open_calls += len(further)
        self.ended.append(await self._book(result))
        await self.grant(further)
        await gather([self._serve(one) for one in further])

    async def grant(self, calls: Sequence[Call]) -> None:
        """Their attempts are durable, and the lease ours, before any upstream hears of them."""
        await gather([self._write(grant_attempts, Grant(self.order, call, self.owner)) for call in calls])

    async def _accept(self, call: Call, task: Pending) -> None:
        acceptance = Acceptance(self.order.id, self.owner, call.number, task.task_id, task.upstream_id)
        await self._write(accept_attempts, acceptance)

    async def _book(self, result: CallResult) -> CallResult:
        if result.booked:
            return result
        await self._write(book_results, Ended(self.order.id, self.owner, result))
        return replace(result, booked=True)

    async def _write(self, operation: Operation, item: Any) -> None:
        """A durable step. Raises LeaseLost where it was refused, because another process drives the generation now.

        A database that is away is waited for: what this process knows of tasks and pictures nobody else does.
        """
        until = time.monotonic() + WRITE_PATIENCE_S
        while True:
            try:
                won = await self.lane.write(operation, item)
            except AnyDatabaseError:
                if time.monotonic() >= until:
                    raise
                logger.exception("%s of %s is tried again", operation.__name__, self.order.id)
                await asyncio.sleep(WRITE_PAUSE_S)
            else:
                break
        if not won:
            raise LeaseLost(self.order.id)

    async def _confirm_lease(self) -> None:
        """A process that slept through its lease must not submit what somebody else has taken over."""
        if time.monotonic() > self.leased_until - LEASE_MARGIN_S and not await self.keep_lease():
            raise LeaseLost(self.order.id)

    # --- the end ---

    async def _finish(self) -> None:
        finish = Finish(self.order, self.owner, judge(self.ended), tuple(self.ended), merge_rewrites(self.ended))
        await self._write(finish_generations, finish)

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


def choose_next(call: Call, result: CallResult) -> tuple[Route, ...]:
    """Who is asked for the same slots now; nobody where the row of the result ends it."""
    rest = call.candidates[1:]
    follows = judge_call(result).next
    if follows is Next.NEXT_CANDIDATE:
        return rest
    if follows is Next.RETRY_IF_ALLOWED and call.paid_tries < call.route.retry_billed:
        return rest or call.candidates
    return ()


def count_paid_tries(call: Call, result: CallResult) -> int:
    """Earlier calls for these slots that an upstream may have charged for, this one included."""
    return call.paid_tries + any(failure.billed != Billed.NO for failure in result.failures)


def merge_rewrites(results: Sequence[CallResult]) -> dict[int, str]:
    return {slot: text for result in results for slot, text in result.revised_prompts.items()}


def make_outcome(order: Order, results: Sequence[CallResult]) -> Outcome:
    pictures = sorted((picture for result in results for picture in result.pictures), key=lambda picture: picture.slot)
    rewrites = merge_rewrites(results)
    return Outcome(order.id, judge(results).code, tuple(pictures), order.response_format, rewrites)
