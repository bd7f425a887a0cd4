"""open -> run -> finish. The work belongs to the process: a client that leaves cancels nothing.

A generation is one detached task with a driver. The engine opens orders, takes over what other processes have left,
keeps the leases of all that runs here by one statement every few seconds, and gives them back when it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import IntegrityError

from billing.ledger import Verdict
from crazyrouter.files.errors import StorageError
from crazyrouter.files.store import touch_pictures
from crazyrouter.generation.allocation import Placement
from crazyrouter.generation.driver import Desk, Driver
from crazyrouter.generation.ends import make_vain
from crazyrouter.generation.journal.answers import record_answers
from crazyrouter.generation.journal.leases import Lease, claim_expired, give_back_leases, refresh_leases
from crazyrouter.generation.journal.opening import Opening, open_generations
from crazyrouter.generation.journal.queue import clear_queues
from crazyrouter.generation.lane import Lane, LaneClosed
from crazyrouter.generation.order import Ask, Order, Outcome
from crazyrouter.generation.outcomes import KeyTaken, LeaseLost, OrderRefused
from crazyrouter.generation.polling import Poller
from crazyrouter.generation.recovery import (
    Resumption,
    load_expired,
    load_newest_credential,
    load_opened,
    load_resumptions,
)
from crazyrouter.generation.refusals import Refusals
from crazyrouter.generation.router import Router
from crazyrouter.generation.shadowing import Shadows
from crazyrouter.generation.snapshot import Reader, Snapshot, Unavailable
from crazyrouter.generation.upstream import Upstream
from crazyrouter.generation.waiting import NoRoom, Queue
from crazyrouter.generation.wellbeing import Wellbeing
from providers.transport import Transport

logger = logging.getLogger(__name__)

#: An estimate is a little off: whose turn is due just behind the limit may still have it. In seconds.
QUEUE_GRACE_S = 2.0
#: Pictures that no row names are swept after an hour; those that wait for the rest of their generation are kept.
TOUCH_EVERY_S = 900.0


@dataclass(frozen=True, slots=True)
class Run:
    """A generation that was started here. `opened` has the ledger's verdict once it is durable, or why it is not."""

    id: str
    opened: asyncio.Future[Verdict | None]
    task: asyncio.Task[Outcome]


class Engine:
    """Runs this process's generations. One a process, on its event loop."""

    def __init__(self, *, lane: Lane, reader: Reader, snapshot: Snapshot, transport: Transport) -> None:
        self.owner = secrets.token_hex(8)
        self._lane = lane
        self._reader = reader
        self._poller = Poller(lane)
        self._wellbeing = Wellbeing(lane=lane, reader=reader, snapshot=snapshot, transport=transport, owner=self.owner)
        self._router = Router(snapshot, self._wellbeing.cooling)
        self._queue = Queue(lane=lane, reader=reader, router=self._router)
        upstream = Upstream(transport, self._poller, self._find_credential)
        self._desk = Desk(lane, upstream, self._router, self._queue, self._wellbeing)
        self._shadows = Shadows(self._desk, snapshot)
        self._refusals = Refusals(lane)
        self._tasks: dict[str, asyncio.Task[Outcome]] = {}
        self._drivers: dict[str, Driver] = {}
        self._leases: dict[str, Lease] = {}
        #: Those of `_tasks`, and those that have lost their generation to a later task of this process.
        self._work: set[asyncio.Task[Outcome]] = set()
        self._claims = 0
        self._touched_at = time.monotonic()
        self._keeping = asyncio.create_task(self._repeat(self._keep_running, lambda: settings.LEASE_REFRESH_S))
        self._recovering = asyncio.create_task(self._repeat(self.take_over, lambda: settings.RECOVERY_S))

    def start(self, order: Order) -> Run:
        """Open and run the order in a task of its own. The task raises OrderRefused, KeyTaken or LeaseLost."""
        opened: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        return Run(order.id, opened, self._spawn(Lease(order.id, self.owner), self._generate(order, opened)))

    def find(self, generation_id: str) -> asyncio.Task[Outcome] | None:
        """The task of a generation that runs here."""
        return self._tasks.get(generation_id)

    def note_answered(self, generation_id: str) -> None:
        """The answer was sent completely."""
        with contextlib.suppress(LaneClosed):
            self._lane.note(record_answers, generation_id)

    async def take_over(self) -> int:
        """Claim generations whose lease ran out and drive them on in tasks of their own; how many."""
        if not await self._reader.read(load_expired):
            return 0
        # What ran out under a stalled process or database is driven on by its own task, unless it was taken already.
        if self._leases:
            await self._refresh_leases()
        # Under a name of its own: the task that had it before, even one of ours, is not to go on.
        self._claims += 1
        owner, claimed_at = f"{self.owner}.{self._claims}", time.monotonic()
        claimed = await self._lane.write(claim_expired, owner)
        if not claimed:
            return 0
        resumptions = await self._reader.read(load_resumptions, claimed)
        for resumption in resumptions:
            lease = Lease(resumption.order.id, owner)
            logger.warning("%s is taken over", lease.generation_id)
            self._spawn(lease, self._resume(resumption, owner, claimed_at))
        return len(resumptions)

    async def stop(self, *, patience_s: float) -> None:
        """Wait for what ends in time, then give the rest back for others to take over at once."""
        self._recovering.cancel()
        self._shadows.refuse()
        if self._work:
            await asyncio.wait(self._work, timeout=patience_s)
        abandoned = list(self._work)
        for task in (self._keeping, *abandoned):
            task.cancel()
        await asyncio.gather(self._keeping, self._recovering, *abandoned, return_exceptions=True)
        await self._queue.close()
        await self._shadows.close()
        await self._poller.close()
        await self._wellbeing.close()
        await self._refusals.flush()
        if abandoned or self._claims:
            await self._give_back()

    # --- what runs here ---

    def _spawn(self, lease: Lease, work: Coroutine[Any, Any, Outcome]) -> asyncio.Task[Outcome]:
        task = asyncio.create_task(work)
        # The loop keeps only weak references to tasks.
        self._work.add(task)
        self._tasks[lease.generation_id] = task
        self._leases[lease.generation_id] = lease
        task.add_done_callback(lambda done: self._forget(lease, done))
        return task

    def _forget(self, lease: Lease, task: asyncio.Task[Outcome]) -> None:
        generation_id = lease.generation_id
        self._work.discard(task)
        if self._tasks.get(generation_id) is task:
            del self._tasks[generation_id], self._leases[generation_id]
            self._drivers.pop(generation_id, None)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, LeaseLost):
            logger.warning("%s is driven by another process now", generation_id)
        elif not isinstance(error, OrderRefused | KeyTaken):
            logger.error("a generation ended without an outcome", exc_info=error)

    async def _repeat(self, chore: Callable[[], Coroutine[Any, Any, Any]], pause: Callable[[], float]) -> None:
        """Until cancelled, whatever one round meets: without it nothing is kept, or nothing taken over, any more."""
        while True:
            try:
                await chore()
            except LaneClosed:
                return
            except Exception:
                logger.exception("%s is tried again", chore.__name__)
            await asyncio.sleep(pause())

    async def _keep_running(self) -> None:
        if self._leases:
            await self._refresh_leases()
        if time.monotonic() - self._touched_at > TOUCH_EVERY_S:
            await self._keep_unbooked()
        await self._refusals.flush()

    async def _refresh_leases(self) -> frozenset[Lease]:
        """Keep what is driven here; which leases are ours still."""
        started = time.monotonic()
        ours: frozenset[Lease] = await self._lane.write(refresh_leases, frozenset(self._leases.values()))
        for driver in self._drivers.values():
            if Lease(driver.order.id, driver.owner) in ours:
                driver.leased_until = started + settings.LEASE_S
        return ours

    async def _give_back(self) -> None:
        try:
            await self._lane.write(give_back_leases, self.owner)
        except AnyDatabaseError:
            logger.exception("leases could not be given back: they run out")

    async def _keep_unbooked(self) -> None:
        """Tell the sweep that pictures of running generations are no orphans."""
        self._touched_at = time.monotonic()
        try:
            await touch_pictures([name for driver in self._drivers.values() for name in driver.list_unbooked()])
        except StorageError:
            logger.exception("pictures that wait to be booked could not be touched")

    async def _find_credential(self, channel_id: int) -> str | None:
        try:
            return await self._reader.read(load_newest_credential, channel_id)
        except Unavailable:
            return None

    # --- one generation ---

    async def _generate(self, order: Order, opened: asyncio.Future[Verdict | None]) -> Outcome:
        began = time.monotonic()
        try:
            driver = self._make_driver(order, self.owner, left_s=settings.GENERATION_DEADLINE_S, since=began)
            placement, verdict = await self._open(driver)
        except BaseException as error:
            self._refusals.note(order, error)
            # Whoever waits for the task gets the error there; the future's may stay unread.
            opened.cancel() if isinstance(error, asyncio.CancelledError) else opened.set_exception(error)
            opened.cancelled() or opened.exception()
            raise
        self._drivers[order.id] = driver
        opened.set_result(verdict)
        outcome = await driver.drive(placement)
        self._shadows.consider(order, outcome, took_s=time.monotonic() - began)
        return outcome

    async def _open(self, driver: Driver) -> tuple[Placement, Verdict | None]:
        """Durable before any upstream hears of it."""
        order = driver.order
        decision = await self._router.choose(order)
        if not decision.candidates:
            raise OrderRefused(None)
        ask = driver.make_ask(tuple(range(order.n)), decision)
        try:
            opened = await self._lane.write(open_generations, Opening(order, ask, self.owner))
        except IntegrityError:
            # Tried twice because the connection was lost, and the first commit had happened after all.
            return await self._read_opened(driver, ask), None
        if opened is None:
            # The same holds for its key, which then is our own.
            return await self._read_opened(driver, ask, otherwise=KeyTaken(order.id)), None
        if opened.verdict is not None and not opened.verdict.granted:
            raise OrderRefused(opened.verdict)
        if opened.placement is None:
            return await self._read_opened(driver, ask), opened.verdict
        if opened.placement.retry_after_s is not None:
            raise OrderRefused(None, retry_after_s=opened.placement.retry_after_s)
        return opened.placement, opened.verdict

    async def _read_opened(self, driver: Driver, ask: Ask, *, otherwise: Exception | None = None) -> Placement:
        """What a commit has placed whose answer was lost. Raises what the caller would have raised without it."""
        placed: Placement | None = await self._reader.read(load_opened, driver.order.id, driver.owner, ask.decision)
        if placed is None:
            raise otherwise or OrderRefused(None)
        sent = {slot for call in placed.calls for slot in call.slots}
        if left := tuple(slot for slot in ask.slots if slot not in sent):
            await self._lane.write(clear_queues, driver.order.id)
            further = await driver.place(driver.make_ask(left, ask.decision, reason=ask.reason))
            placed = Placement((*placed.calls, *further.calls), further.waiting)
        return placed

    async def _resume(self, resumption: Resumption, owner: str, claimed_at: float) -> Outcome:
        """Go on from the rows; slots that were never sent are sent now, if there is time."""
        driver = self._make_driver(resumption.order, owner, left_s=resumption.left_s, since=claimed_at)
        driver.ended.extend(resumption.ended)
        driver.next_number = resumption.next_number
        self._drivers[resumption.order.id] = driver
        placement = Placement()
        if resumption.unsent and resumption.left_s > 0:
            decision = await self._router.choose(resumption.order)
            ask = driver.make_ask(resumption.unsent, decision, reason="taken over")
            if decision.candidates:
                placement = await driver.place(ask)
            else:
                driver.ended.append(make_vain(ask, NoRoom(None)))
        return await driver.drive(placement, resumption.accepted, resumption.broken)

    def _make_driver(self, order: Order, owner: str, *, left_s: float, since: float) -> Driver:
        async def keep_lease() -> bool:
            return Lease(order.id, owner) in await self._refresh_leases()

        return Driver(
            order=order,
            owner=owner,
            desk=self._desk,
            keep_lease=keep_lease,
            deadline=since + left_s,
            queue_until=since + settings.QUEUE_LIMIT_S + QUEUE_GRACE_S,
            leased_until=since + settings.LEASE_S,
        )
