"""The engine of a worker process: one event loop in a thread of its own, whatever the pool of the worker is.

A task only rings: it asks the engine to claim what has expired and returns. What was claimed runs on in the thread,
a thousand polls as cheaply as in a web process, and its lease goes back when the worker stops.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from crazyrouter.generation.runtime import close_runtime, get_runtime

T = TypeVar("T")

#: How long a stopping worker lets taken-over generations end; a worker is told to stop after the web processes.
STOP_PATIENCE_S = 5.0
#: A claim that takes longer than this is left to itself; its task ends.
CLAIM_PATIENCE_S = 30.0


class EngineThread:
    """An event loop with the process's engine, started when it is first needed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], *, timeout: float) -> T:
        """Run it on the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def stop(self) -> None:
        """Give back what runs, end the thread."""
        self.run(close_runtime(patience_s=STOP_PATIENCE_S), timeout=STOP_PATIENCE_S + CLAIM_PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_lock = threading.Lock()
_thread: EngineThread | None = None


def recover_generations() -> int:
    """Take over what has expired; how many generations."""
    return get_engine_thread().run(take_over(), timeout=CLAIM_PATIENCE_S)


async def take_over() -> int:
    return await get_runtime().engine.take_over()


def get_engine_thread() -> EngineThread:
    global _thread  # noqa: PLW0603 - one a process
    with _lock:
        if _thread is None:
            _thread = EngineThread()
        return _thread


def stop_engine_thread(**_: Any) -> None:
    """For the signals of a worker that ends."""
    global _thread
    with _lock:
        thread, _thread = _thread, None
    if thread is not None:
        thread.stop()
