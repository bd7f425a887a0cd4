"""When each accepted task is looked at: one scheduler a process, within the query rates of the upstream accounts.

Whoever waits for a task awaits a turn; turns go to the task whose look has been due longest, so none starves. There is
no task of the event loop and no timer for a look: one alarm an account, and a future for each that waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from crazyrouter.generation.lane import LaneClosed
from crazyrouter.generation.pace import LONGEST_PAUSE_S, SHORTEST_PAUSE_S, Pace
from crazyrouter.generation.poll_line import LONGEST_RETRY_AFTER_S, CallLater, Line, Writer
from providers.contract import Adapter, Billed, Code, Done, Pending, PollFailed, ProviderError, Scope

#: Looks spread over this share of their pause, and at least over so long, so that tasks submitted together do not meet.
JITTER = 0.1
LEAST_JITTER_S = 0.2
#: The last look comes when the time is over; so long its turn and its answer are waited for.
LAST_LOOK_S = 10.0


@dataclass(frozen=True, slots=True)
class PollSubject:
    """Where a task runs. `age_s` is how long ago it was accepted, where that was not just now."""

    account_id: int | None
    polls_per_s: int | None
    offer_id: int
    latency_ms: int
    age_s: float = 0.0


class Poller:
    """The process's looks at accepted tasks; it belongs to one event loop. `clock` is that of every `until`."""

    def __init__(
        self,
        lane: Writer,
        *,
        clock: Callable[[], float] = time.monotonic,
        call_later: CallLater | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._lane, self._clock, self._draw = lane, clock, draw
        self._call_later = call_later or asyncio.get_running_loop().call_later
        self._lines: dict[tuple[str, int], Line] = {}
        self._paces: dict[int, Pace] = {}
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many tasks wait for a look."""
        return sum(len(line) for line in self._lines.values())

    async def poll_to_end(
        self,
        adapter: Adapter,
        task: Pending,
        *,
        subject: PollSubject,
        until: float,
        renew: Callable[[Adapter], Awaitable[Adapter]],
    ) -> Done:
        """Ask until the task is over. A poll that fails says nothing about the task, so it is only asked again later.

        `renew` gives the adapter to go on with where one was refused for its credential. Raises ProviderError, for a
        task that has not ended by `until` TIMEOUT; LaneClosed when the process stops.
        """
        try:
            async with asyncio.timeout(until + LAST_LOOK_S - self._clock()) as limit:
                return await self._look(adapter, task, subject=subject, until=until, renew=renew)
        except TimeoutError:
            if not limit.expired():
                raise
        raise build_timeout()

    async def close(self) -> None:
        """Whoever waits gets LaneClosed."""
        self._closed = True
        for line in self._lines.values():
            line.shut()

    async def _look(
        self,
        adapter: Adapter,
        task: Pending,
        *,
        subject: PollSubject,
        until: float,
        renew: Callable[[Adapter], Awaitable[Adapter]],
    ) -> Done:
        line, pace = self._find_line(subject), self._find_pace(subject)
        accepted = self._clock() - subject.age_s
        floor, failed, running_at = max(task.poll_after, SHORTEST_PAUSE_S), 0, 0.0
        pause = pace.choose_first(subject.age_s, floor=floor)
        while self._clock() < until:
            sent = await self._take_turn(line, pause, until=until)
            try:
                answer = await adapter.poll(task.task_id)
            except PollFailed as error:
                failed += 1
                pause = choose_retry(error, floor=floor, failed=failed)
                if error.code is Code.RATE_LIMITED:
                    line.back_off(sent=sent, retry_after=error.retry_after)
                elif error.code is Code.AUTH:
                    adapter = await renew(adapter)
                continue
            line.relieve(sent=sent)
            if isinstance(answer, Done):
                # Of one that ended while nobody looked, only the gap is known.
                if running_at or not subject.age_s:
                    pace.learn(after=running_at, by=sent - accepted)
                return answer
            floor, failed, running_at = max(answer.poll_after, SHORTEST_PAUSE_S), 0, sent - accepted
            pause = pace.choose_pause(self._clock() - accepted, floor=floor)
        raise build_timeout()

    async def _take_turn(self, line: Line, pause: float, *, until: float) -> float:
        """Returns when the look may be sent, which is now."""
        earliest = min(self._clock() + pause, until)
        due = min(earliest + max(JITTER * pause, LEAST_JITTER_S) * self._draw(), until)
        while True:
            if self._closed:
                raise LaneClosed
            usable_until = await line.wait(due=due, earliest=earliest)
            # A busy event loop may have kept us from it.
            if (now := self._clock()) <= usable_until:
                return now

    def _find_line(self, subject: PollSubject) -> Line:
        name = ("offer", subject.offer_id) if subject.account_id is None else ("account", subject.account_id)
        line = self._lines.get(name)
        if line is None:
            line = Line(subject.account_id, writer=self._lane, clock=self._clock, call_later=self._call_later)
            self._lines[name] = line
        line.limit(subject.polls_per_s)
        return line

    def _find_pace(self, subject: PollSubject) -> Pace:
        pace = self._paces.setdefault(subject.offer_id, Pace())
        if not pace.typical and subject.latency_ms > 0:
            pace.assume(subject.latency_ms / 1000)
        return pace


def choose_retry(error: PollFailed, *, floor: float, failed: int) -> float:
    """The pause after so many failed looks in a row, and what the upstream asks for if that is longer."""
    pause = max(floor, min(floor * 2.0 ** min(failed, 10), LONGEST_PAUSE_S))
    return max(pause, min(error.retry_after or 0.0, LONGEST_RETRY_AFTER_S))


def build_timeout() -> ProviderError:
    return ProviderError(Code.TIMEOUT, billed=Billed.UNKNOWN, scope=Scope.OFFER, detail="the task never ended")
