"""What is sold, how it is routed and who may order, as this process sees it: never older than two seconds.

A snapshot is used as it is while young, refreshed behind the requests' backs when a second old, and waited for when
it would become too old: an idle process refreshes nothing, a busy one once a second.

    Unavailable     the database did not answer, and what is known is too old to be used
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection

from billing.keys import KeyIdentity, find_identities, hash_key
from models_registry.catalog import Catalog, load_catalog
from providers.routing import RoutingTable, load_routes

T = TypeVar("T")

REFRESH_AFTER_S = 1.0
TOO_OLD_AFTER_S = 1.8
#: More keys than are in use within a second by far; beyond it the oldest answers are forgotten.
MOST_KEYS = 10_000


class Unavailable(Exception):
    """A fault of ours: the database cannot be read."""


class Reader:
    """One thread with one connection for the process's small reads, so that none is opened per request."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        """Run a read in the thread; once more on a new connection if the old one was lost."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, read_twice, function, args)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, close_connection)
        self._executor.shutdown(wait=False)


def close_connection() -> None:
    """`connection` means the calling thread's own, so it must be looked up there."""
    connection.close()


def read_twice(function: Callable[..., T], args: tuple[Any, ...]) -> T:
    try:
        return function(*args)
    except (OperationalError, InterfaceError):
        connection.close()
    try:
        return function(*args)
    except (OperationalError, InterfaceError) as error:
        connection.close()
        raise Unavailable(str(error)) from error


@dataclass(frozen=True, slots=True)
class View:
    """One consistent look."""

    catalog: Catalog
    routes: RoutingTable
    identities: dict[str, KeyIdentity | None]
    loaded_at: float


def load(hashes: frozenset[str]) -> tuple[Catalog, RoutingTable, dict[str, KeyIdentity]]:
    return load_catalog(), load_routes(), find_identities(hashes)


class Snapshot:
    """The current view of one process. All methods run on its event loop."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._view: View | None = None
        self._refreshing: asyncio.Task[View] | None = None
        self._seen: set[str] = set()

    async def get(self) -> View:
        """The view to work with now."""
        view = self._view
        age = time.monotonic() - view.loaded_at if view else TOO_OLD_AFTER_S
        if view is not None and age < REFRESH_AFTER_S:
            return view
        task = self._start_refresh()
        if view is not None and age < TOO_OLD_AFTER_S:
            return view
        return await asyncio.shield(task)

    async def identify(self, view: View, secret: str) -> KeyIdentity | None:
        """Who holds this secret; None if nobody may order with it."""
        key_hash = hash_key(secret)
        self._seen.add(key_hash)
        if key_hash in view.identities:
            return view.identities[key_hash]
        found = (await self._reader.read(find_identities, frozenset((key_hash,)))).get(key_hash)
        # Into this view, so that it is as old as the view and renewed or forgotten with it.
        if len(view.identities) < MOST_KEYS:
            view.identities[key_hash] = found
        return found

    def _start_refresh(self) -> asyncio.Task[View]:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
            # A refresh that nobody waits for may fail; the next request that needs it meets the error itself.
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refreshing

    async def _refresh(self) -> View:
        """Load everything anew, with the keys that were used since the last time."""
        started = time.monotonic()
        known = self._view.identities if self._view else {}
        hashes = frozenset(key_hash for key_hash in self._seen if known.get(key_hash) is not None)
        self._seen.clear()
        catalog, routes, identities = await self._reader.read(load, hashes)
        # Absent now, though known before: revoked or expired since.
        everyone: dict[str, KeyIdentity | None] = {key_hash: identities.get(key_hash) for key_hash in hashes}
        self._view = View(catalog, routes, everyone, started)
        return self._view
