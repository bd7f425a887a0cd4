"""Copies of real requests for offers on trial, made after their customers have what they came for.

A copy is paid by the operator and reaches nobody: its pictures are measured in memory and forgotten, and what is kept
is how it compares with what the customer got. It is made only for accounts that agreed, within the offer's share and
its copies a day, and only where there is room that nobody waits for. Whatever becomes of it, the customer's generation
is over, and no row of it changes.

    Overtaken       the copy was given up past its horizon: it has an end already
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import connection, transaction

from crazyrouter.files.errors import PictureRefused
from crazyrouter.files.pictures import check_size
from crazyrouter.files.store import measure_picture
from crazyrouter.generation.copies import NEVER_SENT, STOPPED, Original, Seen, Size, make_end, make_report
from crazyrouter.generation.driver import LATE_MS, WRITE_PATIENCE_S, WRITE_PAUSE_S, Desk
from crazyrouter.generation.journal.shadow_ends import AcceptedCopy, EndedCopy, accept_shadows, end_shadows, find_lost
from crazyrouter.generation.journal.shadows import FIRST_NUMBER, Copy, Opened, open_shadows
from crazyrouter.generation.lane import LaneClosed, Operation
from crazyrouter.generation.models import Attempt
from crazyrouter.generation.order import Ask, Call, Failure, Order, Outcome
from crazyrouter.generation.outcomes import INVALID_UPSTREAM, MODERATION
from crazyrouter.generation.snapshot import Snapshot, Unavailable, View
from crazyrouter.generation.upstream import describe, fetch, list_missing, name_end, order_images
from crazyrouter.sql import read_clock
from providers.capacity import LateStart, lock_capacities, restamp_starts
from providers.contract import Billed, Code, Done, Pending, ProviderError, RemoteImage, Scope
from providers.routing import NOTHING, Listing, Route, choose
from providers.transport import FetchFailed

logger = logging.getLogger(__name__)

#: Requests of which one process makes copies at a time; beyond them none is copied, since nothing waits.
MOST_AT_A_TIME = 20
#: Pictures that are in memory at a time, each of `files.pictures.MAX_BYTES` at most.
MOST_PICTURES = 4
#: How often an offer whose copies somebody else is counting is asked for, and how far apart on average, in seconds.
MOST_TRIES = 40
TRY_PAUSE_S = 0.05
#: What a customer's own request brought about says nothing of any carrier, and is not sent to a second one.
CUSTOMERS_FAULT = frozenset({MODERATION.code, INVALID_UPSTREAM.code})
REASON = "to compare it with what the customer got"


class Overtaken(Exception):
    """Nothing more is written for it."""


class Shadows:
    """The copies that one process makes. All methods run on its event loop. `draw` gives numbers from 0 to 1."""

    def __init__(self, desk: Desk, snapshot: Snapshot, *, draw: Callable[[], float] = random.random) -> None:
        self._desk = desk
        self._snapshot = snapshot
        self._draw = draw
        self._copying: set[asyncio.Task[None]] = set()
        self._looking: set[asyncio.Task[Seen]] = set()
        self._pictures = asyncio.Semaphore(MOST_PICTURES)
        self._closed = False

    def consider(self, order: Order, outcome: Outcome, *, took_s: float) -> None:
        """The customer's generation has ended. Whether it is copied is found out behind its back."""
        if not order.shadow_allowed or outcome.failure in CUSTOMERS_FAULT:
            return
        if self._closed or len(self._copying) >= MOST_AT_A_TIME:
            return
        original = Original(int(took_s * 1000), len(outcome.pictures), outcome.failure)
        # The loop keeps only weak references to tasks.
        task = asyncio.create_task(self._copy_to_all(order, original))
        self._copying.add(task)
        task.add_done_callback(self._forget)

    def refuse(self) -> None:
        """The process is about to stop: nothing more is copied."""
        self._closed = True

    async def close(self) -> None:
        """Give up what has not come back, and say so in the rows."""
        self._closed = True
        for look in self._looking:
            look.cancel()
        await asyncio.gather(*self._copying, return_exceptions=True)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._copying.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a copy ended without an end in its row: it is ended past its horizon", exc_info=error)

    # --- whom it is sent to ---

    async def _copy_to_all(self, order: Order, original: Original) -> None:
        try:
            view = await self._snapshot.get()
        except Unavailable:
            return
        copies = self._draw_copies(order, view)
        results = await asyncio.gather(*(self._copy(one, original) for one in copies), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error

    def _draw_copies(self, order: Order, view: View) -> list[Copy]:
        """By each offer's own share, whatever canaries the request met; those that can serve it."""
        copies: list[Copy] = []
        for route in view.routes.get(order.model_name, NOTHING).shadows:
            if self._draw() * 100 >= (route.shadow_percent or 0):
                continue
            decision = choose(Listing((route,)), order.wish, cooling=self._desk.wellbeing.cooling)
            if decision.candidates:
                slots = tuple(range(min(order.n, route.max_n)))
                ask = Ask(order, FIRST_NUMBER + len(copies), slots, decision, REASON)
                copies.append(Copy(ask, shared=is_shared(route, view)))
        return copies

    # --- one copy ---

    async def _copy(self, copy: Copy, original: Original) -> None:
        """Open it, make it, end it. Once it is open it gets an end here, whatever happens to it."""
        call = await self._open(copy)
        if call is None:
            return
        order, began = copy.ask.order, time.monotonic()
        try:
            seen = await self._look_unless_closed(order, call)
        except Overtaken:
            return
        latency_ms = int((time.monotonic() - began) * 1000)
        if report := make_report(order, call, seen, latency_ms):
            self._desk.wellbeing.note(report)
        await self._write(end_shadows, make_end(order, call, seen, latency_ms, original))
        if call.route.capacity_id is not None:
            self._desk.queue.wake()

    async def _open(self, copy: Copy) -> Call | None:
        """The call, its attempt durable; None where it may not be made, or there is no room for it."""
        for _ in range(MOST_TRIES):
            if self._closed:
                return None
            opened: Opened = await self._write(open_shadows, copy)
            if not opened.busy:
                return opened.call
            await asyncio.sleep(TRY_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        return None

    async def _look_unless_closed(self, order: Order, call: Call) -> Seen:
        """In a task of its own, so that a process that stops ends the call and not what is written of it."""
        if self._closed:
            return Seen(Attempt.State.REJECTED, failures=(NEVER_SENT,))
        look = asyncio.create_task(self._look(order, call))
        self._looking.add(look)
        look.add_done_callback(self._looking.discard)
        await asyncio.wait([look])
        return Seen(Attempt.State.UNKNOWN, failures=(STOPPED,)) if look.cancelled() else look.result()

    async def _look(self, order: Order, call: Call) -> Seen:
        """Order as a customer's call does, and look at what comes back. Raises Overtaken."""
        accepted = False

        async def note_acceptance(task: Pending) -> None:
            nonlocal accepted
            accepted = True
            copy = AcceptedCopy(order.id, call.number, task.task_id, task.upstream_id)
            if not await self._write(accept_shadows, copy):
                raise Overtaken

        self._tell_late_start(call)
        try:
            done = await order_images(self._desk.upstream, order, call, note_acceptance)
            return await self._inspect(order, call, done)
        except ProviderError as error:
            return Seen(name_end(error, accepted=accepted), failures=(describe(error),))
        except (Overtaken, LaneClosed):
            raise
        except Exception as error:
            # A fault of an adapter or of ours, as in a customer's call.
            logger.exception("copy %s of %s broke", call.number, order.id)
            broken = Failure(Code.BAD_RESPONSE, Billed.UNKNOWN, Scope.OFFER, f"internal: {type(error).__name__}")
            return Seen(Attempt.State.UNKNOWN, failures=(broken,))

    def _tell_late_start(self, call: Call) -> None:
        """As for a customer's call: the upstream counts from when it arrives."""
        if call.route.capacity_id is not None and (late_ms := call.late_ms) > LATE_MS:
            self._desk.lane.note(restamp_starts, LateStart(call.route.capacity_id, call.granted_ms, late_ms))

    # --- its pictures ---

    async def _inspect(self, order: Order, call: Call, done: Done) -> Seen:
        pairs = list(zip(call.slots, done.images, strict=False))
        looks = await asyncio.gather(*(self._measure(order, call, slot, image) for slot, image in pairs))
        failures = [failure for _, failure in looks if failure] + list_missing(call.slots[len(pairs) :], done)
        images = sum(failure is None for _, failure in looks)
        return Seen(
            state=Attempt.State.SUCCEEDED if images else Attempt.State.FAILED,
            sizes=tuple(size for size, _ in looks if size),
            images=images,
            failures=tuple(failures),
            upstream_id=done.upstream_id,
        )

    async def _measure(
        self, order: Order, call: Call, slot: int, image: RemoteImage
    ) -> tuple[Size | None, Failure | None]:
        """The size of a picture, and why it could not be delivered, if so. Its bytes go no further than this."""
        size: Size | None = None
        try:
            async with self._pictures:
                size = await measure_picture(await self._bring(call, image))
            if size != order.size:
                check_size(size, asked=order.render_size)
        except FetchFailed as error:
            return None, Failure(Code.BAD_RESPONSE, Billed.YES, Scope.OFFER, f"not downloaded: {error}", slots=(slot,))
        except PictureRefused as error:
            return size, Failure(Code.BAD_RESPONSE, Billed.YES, Scope.OFFER, str(error), slots=(slot,))
        return size, None

    async def _bring(self, call: Call, image: RemoteImage) -> bytes | str:
        if image.b64 is not None:
            return image.b64
        transport, source = self._desk.upstream.transport, call.route.base_url
        return await fetch(transport, image.url or "", source=source, deadline=time.monotonic())

    async def _write(self, operation: Operation, item: Any) -> Any:
        """A durable step. A database that is away is waited for, unless the process stops."""
        until = time.monotonic() + WRITE_PATIENCE_S
        while True:
            try:
                return await self._desk.lane.write(operation, item)
            except AnyDatabaseError:
                if self._closed or time.monotonic() >= until:
                    raise
                logger.exception("%s is tried again", operation.__name__)
                await asyncio.sleep(WRITE_PAUSE_S)


def is_shared(route: Route, view: View) -> bool:
    """Whether customers' calls take room of the same capacity."""
    if route.capacity_id is None:
        return False
    return any(one.capacity_id == route.capacity_id for listing in view.routes.values() for one in listing.routes)


# --- those whose process is gone ---


def end_lost_shadows(*, days: int) -> int:
    """End the copies of the last days whose horizon has passed without an end, and give their room back; how many.

    Beside a process that still waits for one, whichever writes first has it.
    """
    ended = 0
    while lost := load_lost(days):
        with transaction.atomic():
            lock_capacities(connection, [one for copy in lost for one in copy.capacity_ids])
            written = sum(end_shadows(connection, lost))
        ended += written
        if not written:
            break
    return ended


def load_lost(days: int) -> list[EndedCopy]:
    now = read_clock(connection)
    return find_lost(
        connection,
        since=now - timedelta(days=days),
        sync_until=now - timedelta(seconds=settings.SYNC_HORIZON_S),
        async_until=now - timedelta(seconds=settings.ASYNC_HORIZON_S),
    )
