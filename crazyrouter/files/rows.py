"""Which picture stands behind a name: a row per name, remembered for two seconds.

All a row can do is expire, which is checked against the clock at each use, or be deleted, which is
seen two seconds later at most. Names that are not found are never remembered.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from django.db import InterfaceError, OperationalError, connection

from crazyrouter.files.executors import get_reader
from crazyrouter.files.models import StoredImage

REMEMBERED_S = 2.0
REMEMBERED_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """A picture that was not deleted when it was looked up."""

    name: str
    bytes: int
    sha256: str
    expires_at: datetime


#: Touched by the event loop's thread only. Values are the row and the monotonic time of its look-up.
_remembered: OrderedDict[str, tuple[Row, float]] = OrderedDict()


async def find_row(name: str) -> Row | None:
    """The row of an undeleted picture. Raises django.db.Error when the database does not answer."""
    known = _remembered.get(name)
    now = time.monotonic()
    if known is not None and now - known[1] < REMEMBERED_S:
        _remembered.move_to_end(name)
        return known[0]
    row = await asyncio.get_running_loop().run_in_executor(get_reader(), fetch_row, name)
    _remember(name, row, now)
    return row


def fetch_row(name: str) -> Row | None:
    """The look-up itself, for a thread that keeps its connection: a dead one is replaced once."""
    try:
        return _query(name)
    except (OperationalError, InterfaceError):
        connection.close()
        return _query(name)


def forget_rows() -> None:
    _remembered.clear()


def _remember(name: str, row: Row | None, now: float) -> None:
    if row is None:
        _remembered.pop(name, None)
        return
    _remembered[name] = (row, now)
    _remembered.move_to_end(name)
    if len(_remembered) > REMEMBERED_ROWS:
        _remembered.popitem(last=False)


def _query(name: str) -> Row | None:
    live = StoredImage.objects.filter(name=name, deleted_at__isnull=True)
    found = live.values_list("bytes", "sha256", "expires_at").first()
    return None if found is None else Row(name, *found)
