"""open -> run -> finish. The work belongs to the process: a client that leaves cancels nothing.

A generation is one detached task. It holds no database connection while it waits: durable steps go through the
lane, each with its own verdict. The view only waits for the task.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Iterator, Sequence

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import IntegrityError

from crazyrouter.files.errors import StorageError
from crazyrouter.files.store import touch_pictures
from crazyrouter.generation.journal.attempts import (
    Acceptance,
    Grant,
    accept_attempts,
    end_attempts,
    grant_attempts,
)
from crazyrouter.generation.journal.finishing import Finish, finish_generations
from crazyrouter.generation.journal.leases import give_back_leases, record_answers, refresh_leases
from crazyrouter.generation.journal.opening import Opening, open_generations
from crazyrouter.generation.lane import Lane
from crazyrouter.generation.models import Generation
from crazyrouter.generation.order import Call, CallResult, Order, Outcome
from crazyrouter.generation.outcomes import Failure, LeaseLost, OrderRefused, judge
from crazyrouter.generation.snapshot import Reader
from crazyrouter.generation.upstream import make_call
from providers.contract import Billed, Pending, Scope
from providers.routing import Route
from providers.transport import Transport

logger = logging.getLogger(__name__)

#: How long a finish is tried again while the database is away; then its lease runs out and recovery has it.
FINISH_PATIENCE_S = 60.0
#: Pictures that no row names are swept after an hour; those that wait for the rest of their generation are kept.
TOUCH_EVERY_S = 900.0


class Engine:
    """Runs this process's generations. One a process, on its event loop."""

    def __init__(self, *, lane: Lane, reader: Reader, transport: Transport) -> None:
        self.owner = secrets.token_hex(8)
        self._lane = lane
        self._reader = reader
        self._transport = transport
        self._running: set[asyncio.Task[Outcome]] = set()
        self._leases: asyncio.Task[None] | None = None
        self._unbooked: set[str] = set()
        self._touched_at = time.monotonic()

    def start(self, order: Order) -> asyncio.Task[Outcome]:
        """Open and run the order in a task of its own. The task raises OrderRefused or LeaseLost."""
        task = asyncio.create_task(self._generate(order))
        # The loop keeps only weak references to tasks.
        self._running.add(task)
        task.add_done_callback(self._forget)
        if self._leases is None:
            self._leases = asyncio.create_task(self._keep_leases())
        return task

    def note_answered(self, generation_id: str) -> None:
        """The answer was sent completely."""
        self._lane.note(record_answers, generation_id)

    async def stop(self, *, patience_s: float) -> None:
        """Wait for what ends in time, then give the rest back for others to take over at once."""
        if self._running:
            await asyncio.wait(self._running, timeout=patience_s)
        if self._leases is not None:
            self._leases.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._leases
        abandoned = list(self._running)
        for task in abandoned:
            task.cancel()
        await asyncio.gather(*abandoned, return_exceptions=True)
        if abandoned:
            await self._lane.write(give_back_leases, self.owner)

    def _forget(self, task: asyncio.Task[Outcome]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, OrderRefused):
            logger.error("a generation ended without an outcome", exc_info=error)

    async def _keep_leases(self) -> None:
        """One statement every few seconds for all that runs here."""
        while True:
            await asyncio.sleep(settings.LEASE_REFRESH_S)
            if self._running:
                try:
                    await self._lane.write(refresh_leases, self.owner)
                except AnyDatabaseError:
                    logger.exception("leases were not refreshed")
            if time.monotonic() - self._touched_at > TOUCH_EVERY_S:
                await self._keep_unbooked()

    async def _keep_unbooked(self) -> None:
        """Tell the sweep that pictures of running generations are no orphans."""
        self._touched_at = time.monotonic()
        try:
            await touch_pictures(list(self._unbooked))
        except StorageError:
            logger.exception("pictures that wait to be booked could not be touched")

    # --- one generation ---

    async def _generate(self, order: Order) -> Outcome:
        if not order.candidates:
            raise OrderRefused(Failure.NO_CHANNEL)
        deadline = time.monotonic() + settings.GENERATION_DEADLINE_S
        numbers = itertools.count(1)
        created = int(time.time())
        calls = plan_calls(tuple(range(order.n)), order.candidates, numbers)
        await self._open(order, calls)
        results = await self._serve_all(order, calls, numbers, deadline)
        try:
            await self._finish(order, results)
        finally:
            self._unbooked.difference_update(list_names(results))
        return make_outcome(order, results, created)

    async def _open(self, order: Order, calls: tuple[Call, ...]) -> None:
        """Durable before any upstream hears of it."""
        try:
            verdict = await self._lane.write(open_generations, Opening(order, calls, self.owner))
        except IntegrityError:
            # Tried twice because the connection was lost, and the first commit had happened after all.
            if not await self._reader.read(is_open, order.id, self.owner):
                raise
            return
        if not verdict.granted:
            raise OrderRefused(Failure.INSUFFICIENT_QUOTA)

    async def _serve_all(
        self, order: Order, calls: Sequence[Call], numbers: Iterator[int], deadline: float
    ) -> list[CallResult]:
        if len(calls) == 1:
            return await self._serve(order, calls[0], numbers, deadline)
        groups = await asyncio.gather(*[self._serve(order, call, numbers, deadline) for call in calls])
        return [result for group in groups for result in group]

    async def _serve(self, order: Order, call: Call, numbers: Iterator[int], deadline: float) -> list[CallResult]:
        """Make the call; where it is known to have cost nothing, try the next candidate while time remains."""
        result = await make_call(
            self._transport,
            order,
            call,
            deadline=deadline,
            on_accepted=lambda pending: self._accept(order, call, pending),
        )
        self._unbooked.update(list_names([result]))
        rest = choose_next(call, result)
        if not rest or time.monotonic() >= deadline:
            return [result]
        self._lane.note(end_attempts, (order.id, result))
        further = plan_calls(call.slots, rest, numbers, paid_tries=count_paid_tries(call, result))
        granted = await asyncio.gather(
            *[self._lane.write(grant_attempts, Grant(order, one, self.owner)) for one in further]
        )
        if not all(granted):
            raise LeaseLost(order.id)
        return [result, *await self._serve_all(order, further, numbers, deadline)]

    async def _accept(self, order: Order, call: Call, pending: Pending) -> None:
        await self._lane.write(accept_attempts, Acceptance(order.id, call.number, pending.task_id, pending.upstream_id))

    async def _finish(self, order: Order, results: Sequence[CallResult]) -> None:
        """Book it. A database that is away is waited for: the pictures are stored and the upstream has charged."""
        finish = Finish(order, self.owner, judge(results), tuple(results), merge_rewrites(results))
        until = time.monotonic() + FINISH_PATIENCE_S
        while True:
            try:
                won = await self._lane.write(finish_generations, finish)
            except AnyDatabaseError:
                if time.monotonic() >= until:
                    raise
                logger.exception("finishing %s is tried again", order.id)
                await asyncio.sleep(1.0)
            else:
                break
        if not won:
            raise LeaseLost(order.id)


def plan_calls(
    slots: tuple[int, ...], candidates: tuple[Route, ...], numbers: Iterator[int], *, paid_tries: int = 0
) -> tuple[Call, ...]:
    """Fan the slots out over as many calls as the first candidate needs."""
    size = candidates[0].max_n
    return tuple(
        Call(next(numbers), slots[start : start + size], candidates, paid_tries) for start in range(0, len(slots), size)
    )


def choose_next(call: Call, result: CallResult) -> tuple[Route, ...]:
    """Who may be asked for the same slots now; nobody when a further order could be charged twice.

    What surely cost nothing goes to the next candidate. What may have been charged is ordered again only as often
    as its channel allows; there is no next candidate for what was the customer's fault.
    """
    if result.pictures or any(failure.scope == Scope.REQUEST for failure in result.failures):
        return ()
    rest = call.candidates[1:]
    if is_free(result):
        return rest
    return (rest or call.candidates) if call.paid_tries < call.route.retry_billed else ()


def is_free(result: CallResult) -> bool:
    return bool(result.failures) and all(failure.billed == Billed.NO for failure in result.failures)


def count_paid_tries(call: Call, result: CallResult) -> int:
    return call.paid_tries + (0 if is_free(result) else 1)


def list_names(results: Sequence[CallResult]) -> list[str]:
    return [picture.name for result in results for picture in result.pictures]


def merge_rewrites(results: Sequence[CallResult]) -> dict[int, str]:
    return {slot: text for result in results for slot, text in result.revised_prompts.items()}


def make_outcome(order: Order, results: Sequence[CallResult], created: int) -> Outcome:
    pictures = sorted((picture for result in results for picture in result.pictures), key=lambda picture: picture.slot)
    return Outcome(order.id, judge(results), tuple(pictures), created, merge_rewrites(results))


def is_open(generation_id: str, owner: str) -> bool:
    return Generation.objects.filter(pk=generation_id, lease_owner=owner, state=Generation.State.RUNNING).exists()
