"""Those that wait for looks at the tasks of one upstream account, and the turns that its query rate allows."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count, islice
from typing import NamedTuple, Protocol

from crazyrouter.generation.lane import LaneClosed, Operation
from providers.polls import MOST_POLLS, Reservation, Window, get_spacing_s, reserve_polls

logger = logging.getLogger(__name__)

#: What an upstream asks for is believed up to here.
LONGEST_RETRY_AFTER_S = 120.0
#: Moments are reserved for what is due within so long.
AHEAD_S = 0.5
#: A moment that was missed by more is given up: together with the next ones it would be too many in one second.
LATE_S = 0.1
#: Bounds of how long a reservation takes to arrive.
SHORTEST_LEAD_S = 0.01
LONGEST_LEAD_S = 1.0
#: The database did not answer, and is asked again.
BROKEN_RETRY_S = 1.0
#: An account of which no limit is known has throttled: for so long its turns are so far apart.
CAREFUL_S = 60.0
CAREFUL_SPACING_S = 0.1
#: What an alarm can be late by anyway.
SHORTEST_ALARM_S = 0.001

CallLater = Callable[[float, Callable[[], object]], asyncio.TimerHandle]


class Writer(Protocol):
    """What of a `Lane` is used here."""

    def write(self, operation: Operation, item: Reservation) -> asyncio.Future[Window]: ...


class Waiting(NamedTuple):
    """One that waits for its turn; it may have it from `earliest` on. Sorted by when it is due, then by arrival.

    `turn` brings until when it may be used.
    """

    due: float
    number: int
    earliest: float
    turn: asyncio.Future[float]


class Line:
    """Those that wait for looks at one upstream account, and the moments at hand for them.

    With a limit a turn needs a moment that was reserved; without one it comes when it is due.
    """

    def __init__(
        self, account_id: int | None, *, writer: Writer, clock: Callable[[], float], call_later: CallLater
    ) -> None:
        self._account_id = account_id
        self._writer, self._clock, self._call_later = writer, clock, call_later
        self._waiting: list[Waiting] = []
        self._numbers = count()
        self._left = 0
        self._spacing: float | None = None
        self._moments: deque[float] = deque()
        self._asking = self._broken = False
        self._ask_from = -math.inf
        self._lead = LATE_S / 2
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._throttles, self._throttled_at = 0, -math.inf
        self._closed_until = self._careful_until = self._next_careful = -math.inf

    def __len__(self) -> int:
        return len(self._waiting) - self._left

    def limit(self, polls_per_s: int | None) -> None:
        """The newest word on the account's rate."""
        limited = polls_per_s is not None and self._account_id is not None
        self._spacing = get_spacing_s(polls_per_s) if polls_per_s is not None and limited else None

    async def wait(self, *, due: float, earliest: float) -> float:
        """For a turn. Returns until when it may be used. Raises LaneClosed when the process stops."""
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, Waiting(due, next(self._numbers), earliest, turn))
        self._advance()
        try:
            return await turn
        finally:
            if turn.cancelled():
                self._leave()

    def back_off(self, *, sent: float, retry_after: float | None) -> None:
        """A look that was sent at this moment was throttled. Those that were on their way together count once."""
        now = self._clock()
        if sent > self._throttled_at:
            self._throttles, self._throttled_at = self._throttles + 1, now
        pause = max(2.0 ** min(self._throttles - 1, 4), min(retry_after or 0.0, LONGEST_RETRY_AFTER_S))
        self._closed_until = max(self._closed_until, now + pause)
        self._careful_until = self._closed_until + CAREFUL_S

    def relieve(self, *, sent: float) -> None:
        """A look was answered."""
        if sent > self._throttled_at:
            self._throttles = 0

    def shut(self) -> None:
        """The process stops: nobody gets another turn."""
        self._hush()
        while (first := self._peek()) is not None:
            heappop(self._waiting)
            first.turn.set_exception(LaneClosed())

    # --- turns ---

    def _advance(self) -> None:
        """Give the turns that there are, ask for more where they will be needed, and set the alarm for the next."""
        now = self._clock()
        while (first := self._peek()) is not None and (usable_until := self._find_turn(first, now)) is not None:
            heappop(self._waiting)
            first.turn.set_result(usable_until)
        if first is None:
            self._hush()
            return
        self._ask(now)
        if not first.turn.done():
            self._set_alarm(first, now)

    def _find_turn(self, first: Waiting, now: float) -> float | None:
        if now < self._closed_until:
            return None
        if self._spacing is None:
            if now < max(first.due, self._find_careful()):
                return None
            self._next_careful = now + CAREFUL_SPACING_S
            return math.inf
        while self._moments and self._moments[0] + LATE_S < now:
            self._moments.popleft()
        if now < first.earliest or not self._moments or now < self._moments[0]:
            return None
        return self._moments.popleft() + LATE_S

    def _find_careful(self) -> float:
        return self._next_careful if self._next_careful < self._careful_until else -math.inf

    def _peek(self) -> Waiting | None:
        """Whose turn is next, past those that have left."""
        while self._waiting and self._waiting[0].turn.done():
            heappop(self._waiting)
            self._left -= 1
        return self._waiting[0] if self._waiting else None

    def _leave(self) -> None:
        """Somebody was cancelled; its place is cleared away with those of others, or when it is reached."""
        self._left += 1
        if self._left * 2 > len(self._waiting):
            self._waiting = [one for one in self._waiting if not one.turn.done()]
            heapify(self._waiting)
            self._left = 0
            if not self._waiting:
                self._hush()

    # --- alarm ---

    def _set_alarm(self, first: Waiting, now: float) -> None:
        at = max(self._find_next(first), self._closed_until, now + SHORTEST_ALARM_S)
        if at >= self._alarm_at:
            return
        self._hush()
        if at < math.inf:
            self._alarm, self._alarm_at = self._call_later(at - now, self._ring), at

    def _find_next(self, first: Waiting) -> float:
        """When something may change for the first in line; infinity while a reservation is on its way."""
        if self._spacing is None:
            return max(first.due, self._find_careful())
        if self._moments:
            return max(self._moments[0], first.earliest)
        return math.inf if self._asking else max(first.due - self._lead, self._ask_from)

    def _ring(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        self._advance()

    def _hush(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = None, math.inf

    # --- reservations ---

    def _ask(self, now: float) -> None:
        if self._asking or self._account_id is None or now < max(self._closed_until, self._ask_from):
            return
        wanted = self._count_wanted(now)
        if wanted:
            reservation = Reservation(self._account_id, wanted, ahead_ms=round(self._lead * 1000))
            try:
                self._writer.write(reserve_polls, reservation).add_done_callback(self._take)
            except LaneClosed:
                self.shut()
            else:
                self._asking = True

    def _count_wanted(self, now: float) -> int:
        """For how many more looks there would be a moment that fits, if they came one after the other from soon on."""
        if self._spacing is None:
            return 0
        at = now + self._lead
        if self._moments:
            at = max(at, self._moments[-1] + self._spacing)
            if at > now + self._lead + AHEAD_S / 2:
                return 0
        most = min(MOST_POLLS, max(1, int(AHEAD_S / self._spacing)))
        covered = len(self._moments)
        wanted = 0
        for one in islice(walk(self._waiting), covered, covered + most):
            if one.earliest > at or (wanted == 0 and one.due > at):
                break
            wanted += 1
            at += self._spacing
        return wanted

    def _take(self, answer: asyncio.Future[Window]) -> None:
        """A reservation has arrived."""
        self._asking = False
        if answer.cancelled():
            return
        now = self._clock()
        if (error := answer.exception()) is None:
            self._note(answer.result(), now)
        else:
            if not self._broken:
                logger.warning("no looks can be reserved at upstream account %s: %r", self._account_id, error)
            self._ask_from = now + BROKEN_RETRY_S
        self._broken = error is not None
        self._advance()

    def _note(self, window: Window, now: float) -> None:
        self.limit(window.polls_per_s)
        self._moments.extend(window.read_at + delay for delay in window.delays)
        if window.delays:
            took = now - window.read_at
            self._lead = min(max(took, self._lead * 0.8, SHORTEST_LEAD_S), LONGEST_LEAD_S)
        else:
            self._ask_from = now + window.retry_s


def walk(heap: list[Waiting]) -> Iterator[Waiting]:
    """Those of a heap that still wait, in order, as far as somebody wants to know."""
    edge = [(heap[0], 0)] if heap else []
    while edge:
        one, place = heappop(edge)
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap):
                heappush(edge, (heap[child], child))
        if not one.turn.done():
            yield one
