"""One chapter while it is played: its load, what its script may do, and the moments that its figures are cut at."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from crazyrouter.management.drill.clerk import Clerk
from crazyrouter.management.drill.customers import Customers, Order, Taste
from crazyrouter.management.drill.plan import Plan
from crazyrouter.management.drill.shop import MODELS, NARROW, Side
from crazyrouter.management.drill.site import Site
from crazyrouter.management.drill.upstream import Upstream
from crazyrouter.management.drill.watch import Watch

#: Whatever a script waits for, it goes on after that: the expectations say what was missing.
PATIENCE_S = 100.0
#: A change is effective in every process within this.
EFFECTIVE_S = 2.0


@dataclass(slots=True)
class Stage:
    """`extra` are figures of the script's own; `marks` are moments in epoch seconds, by name and in order."""

    plan: Plan
    site: Site
    clerk: Clerk
    upstream: Upstream
    watch: Watch
    customers: Customers
    tag: str
    keys: dict[str, str]
    directive: str = ""
    marks: dict[str, float] = field(default_factory=dict)
    extra: dict[str, int] = field(default_factory=dict)
    taste: Taste = field(init=False)

    def __post_init__(self) -> None:
        self.taste = Taste(self.tag, random.Random(f"{self.plan.seed} {self.tag.split('-')[-2]}"))  # noqa: S311

    # --- the load ---

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Orders at a constant pace meanwhile; afterwards everyone has had their last answer."""
        sending = asyncio.create_task(self._send_steadily())
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await self.customers.wait()

    async def _send_steadily(self) -> None:
        """By the clock and not by the answers: slow answers do not thin the load out."""
        due = time.monotonic()
        while True:
            self.order()
            due += 1 / self.plan.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def order(self, *, directive: str = "", model: str = "", n: int = 0, size: tuple[int, int] | None = None) -> Order:
        order = self.taste.make_order(directive=f"{self.directive} {directive}".strip(), model=model, n=n, size=size)
        self.customers.send(order)
        return order

    # --- what scripts do ---

    async def pass_time(self, share: float = 1.0, *, least_s: float = 0.0) -> None:
        """A share of the chapter's time."""
        await asyncio.sleep(max(self.plan.seconds * share, least_s))

    async def wait_until(self, condition: Callable[[], Any], *, most_s: float = PATIENCE_S) -> bool:
        """Whether it came true in time."""
        end = time.monotonic() + most_s
        while not condition():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.05)
        return True

    def mark(self, name: str) -> None:
        self.marks[name] = time.time()

    async def recover(self) -> None:
        """Until every circuit has closed again, by itself or, in a hurry, after a pause that is ended by hand."""
        end = time.monotonic() + PATIENCE_S
        while self.watch.list_unclosed() and time.monotonic() < end:
            if self.plan.hasten:
                await self.clerk.ask("end_pauses")
            self.ask_for_trials()
            await asyncio.sleep(1.0)

    def ask_for_trials(self) -> None:
        """A half-open circuit closes by a real call: an order for each such model, if the load has none."""
        for model in MODELS:
            if any(name.endswith(f": {model}") for name in self.watch.list_unclosed()):
                self.order(model=model, n=1)

    @asynccontextmanager
    async def narrow(self) -> AsyncIterator[None]:
        """Little room at both carriers meanwhile, and never less there than we believe."""
        await self.clerk.ask("set_limits", **asdict(NARROW))
        await self.upstream.limit(NARROW)
        try:
            yield
        finally:
            await self.upstream.limit(self.plan.limits)
            await self.clerk.ask("set_limits", **asdict(self.plan.limits))

    async def replace_keys(self, *sides: Side) -> None:
        """An operator's answer to a refused key: a new one, and back into service."""
        for side in sides:
            self.keys[side.letter] = side.make_key()
            await self.clerk.ask("replace_keys", channels=side.channels, secret=self.keys[side.letter])

    async def wait_for_running(self, is_enough: Callable[[int], bool]) -> int:
        """Until so many generations are durable and not over, within reason; how many there are."""
        end = time.monotonic() + PATIENCE_S
        while True:
            running: int = await self.clerk.ask("count_running", tag=self.tag)
            if is_enough(running) or time.monotonic() > end:
                return running
            await asyncio.sleep(0.1)

    async def settle(self) -> int:
        """Until nothing of the chapter runs any more; how much still does."""
        return await self.wait_for_running(lambda running: running == 0)

    async def swap(self, from_side: Side, to_side: Side) -> list[int]:
        """Every model of the drill from one carrier to the other."""
        moves = [(model, from_side.find_channel(model), to_side.find_channel(model)) for model in MODELS]
        made: list[int] = await self.clerk.ask("swap", moves=moves)
        return made
