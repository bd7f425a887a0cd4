"""Looks at 500 running tasks of one upstream account: how many a second reach it, beside what it allows.

The product's own poller in real time; the account's row is one number here, handed out as `providers.polls` does.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from crazyrouter.generation.lane import LaneClosed, Operation
from crazyrouter.generation.polling import Poller, PollSubject
from providers.contract import Adapter, Done, Pending, ProviderError
from providers.polls import TAKEN_RETRY_S, Reservation, Window, get_spacing_s

TASKS = 500
BUDGET = 20
SECONDS = 15.0
#: Tasks take so long on the average; each that ends is followed by another.
MEAN_S = 8.0


@dataclass(frozen=True, slots=True)
class Looks:
    """`densest` is the largest number of looks in any one second."""

    tasks: int
    budget: int
    seconds: float
    count: int
    densest: int


class Row:
    """The account's row and the way to it: the next free moment, handed out evenly spaced."""

    def __init__(self) -> None:
        self._reserved_until = 0.0

    def write(self, operation: Operation, item: Reservation) -> asyncio.Future[Window]:
        now, spacing = time.monotonic(), get_spacing_s(BUDGET)
        first = max(self._reserved_until, now + item.ahead_ms / 1000)
        self._reserved_until = first + item.count * spacing
        answer: asyncio.Future[Window] = asyncio.get_running_loop().create_future()
        delays = tuple(first - now + number * spacing for number in range(item.count))
        answer.set_result(Window(delays, now, BUDGET, TAKEN_RETRY_S))
        return answer


@dataclass(slots=True)
class Carrier:
    """Tasks that end at their time; it remembers when it was asked."""

    ends: dict[str, float] = field(default_factory=dict)
    asked: list[float] = field(default_factory=list)

    async def poll(self, task_id: str) -> Done | Pending:
        now = time.monotonic()
        self.asked.append(now)
        return Done(()) if now >= self.ends[task_id] else Pending(task_id, poll_after=2.0)


def measure_looks(*, seconds: float = SECONDS) -> Looks:
    carrier = Carrier()
    asyncio.run(follow_all(carrier, seconds=seconds))
    return Looks(TASKS, BUDGET, seconds, len(carrier.asked), count_densest_second(carrier.asked))


async def follow_all(carrier: Carrier, *, seconds: float) -> None:
    poller = Poller(Row())
    until = time.monotonic() + seconds
    tasks = [asyncio.create_task(keep_one(poller, carrier, name=str(one), until=until)) for one in range(TASKS)]
    await asyncio.sleep(seconds)
    await poller.close()
    await asyncio.gather(*tasks)


async def keep_one(poller: Poller, carrier: Carrier, *, name: str, until: float) -> None:
    """One task after the other, until the measurement is over."""
    draw = random.Random(name)  # noqa: S311 - no secret

    async def keep(adapter: Adapter) -> Adapter:
        return adapter

    for number in range(1000):
        task = f"{name}-{number}"
        carrier.ends[task] = time.monotonic() + MEAN_S * (0.5 + draw.random())
        try:
            await poller.poll_to_end(
                cast("Any", carrier),
                Pending(task, poll_after=1.0),
                subject=PollSubject(1, BUDGET, 1, int(MEAN_S * 1000)),
                until=until + 60,
                renew=keep,
            )
        except (LaneClosed, ProviderError):
            return


def count_densest_second(moments: Sequence[float]) -> int:
    ordered = sorted(moments)
    return max((at + 1 - bisect_right(ordered, moment - 1.0) for at, moment in enumerate(ordered)), default=0)
