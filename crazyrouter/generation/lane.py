"""Group commits: one writer thread a process, one transaction for everything that arrived while the last one ran.

A durable transaction costs most of its time in the flush and in crossing threads; shared by a batch it is a tenth.
Every caller still waits for its own commit and gets its own verdict. When a batch fails, its items are tried one by
one, so that one bad row cannot fail its neighbours.

    LaneClosed      the process is stopping; nothing was written
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from billing.ledger import lock_accounts
from crazyrouter.sql import pipeline, tune_for_batches
from providers.capacity import lock_capacities

logger = logging.getLogger(__name__)

#: Writes many items inside the lane's transaction; one result per item, in order. Must be repeatable: after a lost
#: connection it is not known whether the commit happened.
Operation = Callable[[BaseDatabaseWrapper, Sequence[Any]], Sequence[Any]]

LARGEST_BATCH = 256
#: A batch costs nearly the same for one item as for ten. After a smaller one than this the writer rests as long as it
#: took, up to LONGEST_REST_S, so that the next is larger; a lone client is back later than that.
WORTHY_BATCH = 4
LONGEST_REST_S = 0.01
#: How long a note may wait for a write to travel with, in seconds.
NOTE_PATIENCE_S = 0.1
#: Pauses before a write that met a lost connection, a deadlock or a busy database is tried again, in seconds.
RETRY_PAUSES = (0.05, 0.2, 1.0, 3.0)


class LaneClosed(Exception):
    """The lane no longer takes work."""


@dataclass(slots=True)
class Entry:
    operation: Operation
    item: Any
    future: asyncio.Future[Any] | None
    result: Any = None
    error: Exception | None = None


class Lane:
    """The process's writer. `write` is awaited, `note` is not. One event loop, one thread, one connection."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._notes: deque[Entry] = deque()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="lane", daemon=True)
        self._closed = False
        self._thread.start()

    def write(self, operation: Operation, item: Any) -> asyncio.Future[Any]:
        """Resolves with the item's verdict once its transaction is durable."""
        if self._closed:
            raise LaneClosed
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(Entry(operation, item, future))
        return future

    def note(self, operation: Operation, item: Any) -> None:
        """Written with the next write, before it, or alone after a moment; nobody waits, a failure is logged."""
        if self._closed:
            raise LaneClosed
        self._notes.append(Entry(operation, item, None))

    async def close(self) -> None:
        """Write what is queued, then end the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        try:
            while (batch := self._take()) is not None:
                if batch:
                    started = time.monotonic()
                    write_batch(batch)
                    self._loop.call_soon_threadsafe(resolve, batch)
                    if sum(entry.future is not None for entry in batch) < WORTHY_BATCH:
                        time.sleep(min(time.monotonic() - started, LONGEST_REST_S))
        finally:
            connection.close()

    def _take(self) -> list[Entry] | None:
        """Wait for one write, then take all that is there. None when the lane was closed and is empty."""
        batch: list[Entry] = []
        try:
            entry = self._queue.get(timeout=NOTE_PATIENCE_S)
            while entry is not None and len(batch) < LARGEST_BATCH:
                batch.append(entry)
                entry = self._queue.get_nowait()
            if entry is None:
                self._queue.put(None)
            else:
                batch.append(entry)
            ended = entry is None and not batch
        except queue.Empty:
            ended = False
        # Read after the writes: whoever noted something before a write finds it in the same batch, ahead of it.
        notes = [self._notes.popleft() for _ in range(min(len(self._notes), LARGEST_BATCH))]
        return None if ended and not notes else notes + batch


def write_batch(batch: list[Entry]) -> None:
    """One transaction for all; on any error, one for each."""
    try:
        commit(batch)
    except Exception as error:  # noqa: BLE001 - whatever it was, each item now meets it alone
        if isinstance(error, OperationalError | InterfaceError):
            connection.close()
        logger.warning("a batch of %d failed, its items are written one by one: %r", len(batch), error)
        away = False
        for entry in batch:
            # A database that one item has waited for in vain is not waited for again by each of those behind it.
            write_alone(entry, pauses=() if away else RETRY_PAUSES)
            away = isinstance(entry.error, OperationalError | InterfaceError)


def write_alone(entry: Entry, *, pauses: Sequence[float]) -> None:
    for pause in (*pauses, None):
        try:
            commit([entry])
        except (OperationalError, InterfaceError) as error:
            entry.error = error
            connection.close()
            if pause is not None:
                time.sleep(pause)
        except Exception as error:  # noqa: BLE001 - it is handed to the caller
            entry.error = error
            return
        else:
            entry.error = None
            return


def commit(batch: list[Entry]) -> None:
    """Run each operation once over its items, in order of first arrival.

    Items that move money name their `account_id`, those that take or give back room their `capacity_ids`: these rows
    are locked before anything is written.
    """
    groups: dict[Operation, list[Entry]] = {}
    for entry in batch:
        groups.setdefault(entry.operation, []).append(entry)
    accounts = {entry.item.account_id for entry in batch if hasattr(entry.item, "account_id")}
    capacities = {one for entry in batch for one in getattr(entry.item, "capacity_ids", ())}
    if connection.connection is None:
        tune_for_batches(connection)
    # The pipeline inside: when it ends the server has answered everything, so that COMMIT is never skipped or guessed.
    with transaction.atomic(), pipeline(connection):
        lock_accounts(connection, accounts)
        if capacities:
            lock_capacities(connection, capacities)
        for operation, entries in groups.items():
            results = operation(connection, [entry.item for entry in entries])
            for entry, result in zip(entries, results, strict=True):
                entry.result = result


def resolve(batch: list[Entry]) -> None:
    """On the event loop: hand out verdicts."""
    for entry in batch:
        if entry.future is None:
            if entry.error is not None:
                logger.error("a note could not be written: %r", entry.error)
        elif not entry.future.cancelled():
            if entry.error is not None:
                entry.future.set_exception(entry.error)
            else:
                entry.future.set_result(entry.result)
