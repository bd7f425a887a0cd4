"""The threads that keep heavy and blocking work off the event loop, bounded and owned by the process.

`get_executor` is for bytes: base64, checksums, resampling, durable writes. `get_reader` is for what a
customer waits for with nothing to compute: a row, a piece of a file. Its threads keep their database
connections; nothing closes them between requests.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

READERS = 4
#: More threads than cores, since some of them wait for the disk.
WORKERS = min(4, (os.cpu_count() or 1) + 2)

_executors: dict[str, ThreadPoolExecutor] = {}
_connections: list[BaseDatabaseWrapper] = []
_lock = threading.Lock()


def get_executor() -> ThreadPoolExecutor:
    """For heavy bytes."""
    return _executors.get("files-bytes") or _get("files-bytes", workers=WORKERS)


def get_reader() -> ThreadPoolExecutor:
    """For look-ups and small reads, each thread with a database connection of its own."""
    return _executors.get("files-read") or _get("files-read", workers=READERS, initializer=_own_connection)


def close_executors() -> None:
    """Finish what was submitted, end the threads, close their connections; the next use starts afresh.

    Blocks, and must not be called on an event loop.
    """
    with _lock:
        stopped = list(_executors.values())
        _executors.clear()
    for executor in stopped:
        executor.shutdown(wait=True)
    while _connections:
        _connections.pop().close()


def _get(name: str, *, workers: int, initializer: Callable[[], None] | None = None) -> ThreadPoolExecutor:
    with _lock:
        if name not in _executors:
            _executors[name] = ThreadPoolExecutor(workers, thread_name_prefix=name, initializer=initializer)
        return _executors[name]


def _own_connection() -> None:
    """Shared only so that `close_executors` may close it after the thread has ended."""
    connection = connections["default"]
    connection.inc_thread_sharing()
    _connections.append(connection)


def _forget() -> None:
    """A forked child has none of its parent's threads, and must not close its connections."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _executors.clear()
    _connections.clear()


os.register_at_fork(after_in_child=_forget)
