"""Waiting for generations that another process runs: one question every moment for all that are waited for here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection

from crazyrouter.generation.models import Generation
from crazyrouter.generation.snapshot import Reader

logger = logging.getLogger(__name__)

#: How late the end of a generation may be seen, in seconds.
LOOK_EVERY_S = 0.25


class Watcher:
    """Asks the database which of the awaited generations have ended. All methods run on one event loop."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._awaited: dict[str, set[asyncio.Future[None]]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, generation_id: str) -> None:
        """Return when the generation is no longer running; the caller bounds the time."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(generation_id, set()).add(future)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await future
        finally:
            self._drop(generation_id, future)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    def _drop(self, generation_id: str, future: asyncio.Future[None]) -> None:
        futures = self._awaited.get(generation_id, set())
        futures.discard(future)
        if not futures:
            self._awaited.pop(generation_id, None)

    async def _look(self) -> None:
        while self._awaited:
            asked = list(self._awaited)
            try:
                running = await self._reader.read(find_running, asked)
            except Exception:
                # Whatever it was: without this task all who wait here would wait in vain.
                logger.exception("the generations that are waited for could not be read")
                running = set(asked)
            # Not whoever came while the database was asked: nothing is known of it yet.
            for generation_id in set(asked) - running:
                for future in self._awaited.get(generation_id, ()):
                    if not future.done():
                        future.set_result(None)
            await asyncio.sleep(LOOK_EVERY_S)


def find_running(ids: Collection[str]) -> set[str]:
    rows = Generation.objects.filter(pk__in=ids, state=Generation.State.RUNNING)
    return set(rows.values_list("pk", flat=True))
