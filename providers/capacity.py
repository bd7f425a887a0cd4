"""Room at the upstreams: submit rate and running calls of `Capacity` rows, shared exactly by all processes.

A row is read and written under its lock, in the transaction that writes the attempt which takes the room, and given
back in the one that ends the attempt: so a crash can neither lose nor invent room. The arithmetic is plain Python over
one row, so that it can be run in simulated time. Times are epoch milliseconds by the database's clock.

Carriers count submits in sliding windows ("2 a minute"), per account and model (Model Studio rate limits, 2026).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement, lock_rows

#: The carrier's window begins when a submit arrives there, ours when it is granted: how much later a first may arrive
#: than a last, in milliseconds. Larger delays are told by `restamp_starts`.
MARGIN_MS = 60
#: A call's time where none has been seen yet.
DEFAULT_CALL_MS = 20_000
#: Calls ahead whose starts an estimate plays through one by one.
MOST_PLAYED = 200
#: The weight of the latest call in the mean is one in this.
MEAN_OVER = 8


@dataclass(slots=True)
class Room:
    """One capacity row while its lock is held. `starts` is oldest first."""

    id: int
    interval_ms: int | None
    burst: int
    max_running: int | None
    starts: list[int] = field(default_factory=list)
    running: int = 0
    call_ms: int = 0
    changed: bool = False
    margin_ms: int = MARGIN_MS

    @property
    def window_ms(self) -> int:
        return self.burst * (self.interval_ms or 0) + self.margin_ms

    def has_room(self, now_ms: int) -> bool:
        return not self.is_full() and self.find_submit_ms(now_ms) <= now_ms

    def is_full(self) -> bool:
        return self.max_running is not None and self.running >= self.max_running

    def find_submit_ms(self, now_ms: int) -> int:
        """When the submit rate allows the next one."""
        if self.interval_ms is None or len(self.starts) < self.burst:
            return now_ms
        return max(now_ms, self.starts[-self.burst] + self.window_ms)

    def find_ready_ms(self, now_ms: int) -> int:
        """When the next call may start, as far as can be told: running calls end at their mean pace."""
        ready = self.find_submit_ms(now_ms)
        if self.is_full():
            ready = max(ready, now_ms + (self.call_ms or DEFAULT_CALL_MS) // max(1, self.running))
        return ready

    def get_rate(self) -> float:
        """Calls a millisecond that can start in the long run; infinity where nothing limits them."""
        by_interval = float("inf") if self.interval_ms is None else self.burst / self.window_ms
        by_running = float("inf") if self.max_running is None else self.max_running / (self.call_ms or DEFAULT_CALL_MS)
        return min(by_interval, by_running)

    def take(self, now_ms: int) -> None:
        """One call starts."""
        if self.interval_ms is not None:
            self.starts = [*self.starts, now_ms][-self.burst :]
        self.running += 1
        self.changed = True

    def give_back(self, now_ms: int) -> None:
        """The call that took room at this moment was not started after all."""
        if now_ms in self.starts:
            at = self.starts.index(now_ms)
            self.starts = self.starts[:at] + self.starts[at + 1 :]
        self.running -= 1
        self.changed = True


LOAD_ROOMS = Statement(
    """
    SELECT c.id, c.submit_interval_ms, c.submit_burst, c.max_running, c.starts, c.running, c.call_ms
    FROM {rows} JOIN providers_capacity c ON c.id = r.id
    """,
    id="bigint",
)

STORE_ROOMS = Statement(
    """
    UPDATE providers_capacity SET starts = r.starts, running = r.running FROM {rows} WHERE providers_capacity.id = r.id
    """,
    id="bigint",
    starts="jsonb",
    running="integer",
)

# The mean moves by one call at a time, in whatever order they end.
END_CALLS = Statement(
    f"""
    UPDATE providers_capacity
    SET running = CASE WHEN running < r.calls THEN 0 ELSE running - r.calls END,
        call_ms = CASE WHEN r.mean_ms IS NULL THEN call_ms WHEN call_ms = 0 THEN r.mean_ms
            ELSE (call_ms * ({MEAN_OVER} - 1) + r.mean_ms) / {MEAN_OVER} END
    FROM {{rows}} WHERE providers_capacity.id = r.id
    """,  # noqa: S608 - a constant of this module
    id="bigint",
    calls="integer",
    mean_ms="integer",
)


def lock_capacities(connection: BaseDatabaseWrapper, ids: Iterable[int]) -> None:
    """Before anything else of the transaction is written, in id order: two batches cannot deadlock over them."""
    lock_rows(connection, "providers_capacity", sorted(set(ids)))


def load_rooms(connection: BaseDatabaseWrapper, ids: Iterable[int]) -> dict[int, Room]:
    """The rows by id, as they are under the lock; an id without a row is not there."""
    rows = [{"id": one} for one in sorted(set(ids))]
    return {
        one: Room(one, interval, burst, most, read_starts(starts), running, call_ms)
        for one, interval, burst, most, starts, running, call_ms in LOAD_ROOMS.run(connection, rows)
    }


def read_starts(value: Any) -> list[int]:
    """A JSON column as the driver gives it: PostgreSQL's parsed, SQLite's as text."""
    starts: list[int] = orjson.loads(value) if isinstance(value, str) else value
    return starts


def store_rooms(connection: BaseDatabaseWrapper, rooms: Iterable[Room]) -> None:
    """Write what was taken."""
    rows = [{"id": room.id, "starts": room.starts, "running": room.running} for room in rooms if room.changed]
    if rows:
        STORE_ROOMS.send(connection, rows)


def end_calls(connection: BaseDatabaseWrapper, ended: Sequence[tuple[int, int | None]]) -> None:
    """Calls that took room have ended: (capacity id, how long the call took in milliseconds) for each of them.

    None where that says nothing of how long calls take: new ones are refused by the mean of those that do.
    """
    by_row: dict[int, list[int | None]] = {}
    for capacity_id, took_ms in ended:
        by_row.setdefault(capacity_id, []).append(took_ms)
    if by_row:
        END_CALLS.send(
            connection,
            [
                {"id": one, "calls": len(all_ms), "mean_ms": find_mean([ms for ms in all_ms if ms is not None])}
                for one, all_ms in by_row.items()
            ],
        )


def find_mean(values: Sequence[int]) -> int | None:
    return sum(values) // len(values) if values else None


@dataclass(frozen=True, slots=True)
class LateStart:
    """A submit that left this machine later than it was granted."""

    capacity_id: int
    granted_ms: int
    late_ms: int

    @property
    def capacity_ids(self) -> tuple[int, ...]:
        return (self.capacity_id,)


def restamp_starts(connection: BaseDatabaseWrapper, items: Sequence[LateStart]) -> list[None]:
    """Count the window of a late submit from when it really left. The caller holds the locks."""
    rooms = load_rooms(connection, {item.capacity_id for item in items})
    for item in items:
        room = rooms.get(item.capacity_id)
        if room is not None and item.granted_ms in room.starts:
            room.starts.remove(item.granted_ms)
            room.starts = sorted([*room.starts, item.granted_ms + item.late_ms])
            room.changed = True
    store_rooms(connection, rooms.values())
    return [None] * len(items)


def estimate_wait_ms(rooms: Iterable[Room], *, ahead: int, now_ms: int) -> float:
    """How long a call waits that may go to any of these rooms, with so many calls before it; infinity without any.

    The first of them are played through, since windows open for several submits at once: of 2 a minute the third and
    the fourth start together. What stands behind MOST_PLAYED is taken at the mean rate.
    """
    forecasts = [Forecast(room, now_ms) for room in rooms]
    if not forecasts:
        return float("inf")
    played = min(ahead, MOST_PLAYED)
    for _ in range(played):
        min(forecasts, key=Forecast.find_next_ms).start_next()
    ready = min(forecast.find_next_ms() for forecast in forecasts) - now_ms
    return ready + (ahead - played) / sum(forecast.room.get_rate() for forecast in forecasts)


class Forecast:
    """What is to come of one room when calls start as soon as they can; running ones end at their mean pace."""

    def __init__(self, room: Room, now_ms: int) -> None:
        self.room = room
        self._submits = replace(room, max_running=None)
        self._now_ms = now_ms
        self._free = None if room.max_running is None else room.max_running - room.running
        self._pace_ms = (room.call_ms or DEFAULT_CALL_MS) // (room.max_running or 1)
        self._freed_ms = room.find_ready_ms(now_ms) if room.is_full() else now_ms

    def find_next_ms(self) -> int:
        """When the next call can start."""
        ready = self._submits.find_submit_ms(self._now_ms)
        return ready if self._free is None or self._free > 0 else max(ready, self._freed_ms)

    def start_next(self) -> None:
        at = self.find_next_ms()
        self._now_ms = at
        self._submits.take(at)
        if self._free is None:
            return
        if self._free > 0:
            self._free -= 1
        if self._free == 0:
            self._freed_ms = max(self._freed_ms, at) + self._pace_ms
