"""The simulator's time: the real one, which a test may move forward."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

DAY_S = 86400.0
#: DashScope prints Beijing time and names no zone.
BEIJING = timezone(timedelta(hours=8))


class Clock:
    """Seconds since 1970; `advance` moves what comes due, not what sleeps."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += seconds

    def reset(self) -> None:
        self.ahead = 0.0


def print_stamp(moment: float) -> str:
    """A task's time as DashScope prints it: `2026-01-01 12:00:00.123`."""
    return datetime.fromtimestamp(moment, BEIJING).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def read_compact(text: str) -> float:
    """The list query's `YYYYMMDDhhmmss`. Raises ValueError."""
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=BEIJING).timestamp()


def print_utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
