"""An hour of mixed traffic in simulated time: how long requests wait, beside the same hour under an ideal schedule.

The product's own arithmetic decides (`crazyrouter.generation.allocation`, `providers.capacity`); what is simulated is
the clock, the upstreams that end their calls, and the pauses between two looks at the queue. The ideal schedule has
the same turns, no margin before a carrier's window and no pause: it starts each call in the very millisecond.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from crazyrouter.generation.allocation import Allocator, Crowd, InLine
from crazyrouter.generation.line import take_turns
from crazyrouter.generation.order import Ask, Order
from crazyrouter.generation.waiting import LONGEST_PAUSE_S, SHORTEST_PAUSE_S
from providers.capacity import MARGIN_MS, Room
from providers.routing import Decision, Route

HOUR_MS = 3_600_000
START_MS = 1_800_000_000_000
#: What a group commit takes, in milliseconds.
COMMIT_MS = 8


@dataclass(frozen=True, slots=True)
class Pool:
    """The upstream accounts of one model, all with the same limits, and how long its calls take."""

    model: str
    accounts: int
    interval_ms: int | None
    burst: int
    max_running: int | None
    call_ms: tuple[int, int]


#: The documented limits (Model Studio, 2026), over several upstream accounts each.
POOLS = (
    Pool("qwen-image-2.0", 3, 500, 2, None, (8_000, 20_000)),
    Pool("qwen-image-max", 4, 30_000, 2, None, (15_000, 40_000)),
    Pool("qwen-image-plus", 4, 500, 2, 2, (20_000, 28_000)),
)
#: Of what a pool can take. Two of the customers send theirs in bursts, the others one by one.
LOAD = 0.85
CUSTOMERS = 12
BURSTY = 2


@dataclass(frozen=True, slots=True)
class Manner:
    """How closely the queue is followed, in milliseconds."""

    margin_ms: int
    shortest_ms: int
    longest_ms: int
    commit_ms: int


PRODUCT = Manner(MARGIN_MS, int(SHORTEST_PAUSE_S * 1000), int(LONGEST_PAUSE_S * 1000), COMMIT_MS)
IDEAL = Manner(0, 1, HOUR_MS, 0)


@dataclass(slots=True)
class Waits:
    """Milliseconds from arrival to start, by customer account."""

    by_account: dict[int, list[int]] = field(default_factory=dict)
    #: Submits that a carrier would have throttled.
    throttled: int = 0

    def list_all(self) -> list[int]:
        return sorted(one for waits in self.by_account.values() for one in waits)


def draw_arrivals(pool: Pool, *, seed: int) -> list[tuple[int, int, int]]:
    """(millisecond, account, how long its call takes), in order of time."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    room = Room(1, pool.interval_ms, pool.burst, pool.max_running, call_ms=sum(pool.call_ms) // 2, margin_ms=0)
    total = int(room.get_rate() * pool.accounts * HOUR_MS * LOAD)
    arrivals: list[tuple[int, int, int]] = []
    while len(arrivals) < total:
        account = draw.randint(1, CUSTOMERS)
        at = draw.randint(0, HOUR_MS)
        size = draw.randint(5, 25) if account <= BURSTY else 1
        arrivals += [(at, account, draw.randint(*pool.call_ms)) for _ in range(size)]
    return sorted(arrivals)


class Hour:
    """One pool under one manner."""

    def __init__(self, pool: Pool, manner: Manner) -> None:
        self._pool, self._manner = pool, manner
        self._rooms = {
            one: Room(one, pool.interval_ms, pool.burst, pool.max_running, margin_ms=manner.margin_ms)
            for one in range(1, pool.accounts + 1)
        }
        self._routes = tuple(make_route(one, pool) for one in self._rooms)
        self._events: list[tuple[int, int, str, object]] = []
        self._order = count()
        self._asks: dict[tuple[str, int], Ask] = {}
        self._arrived: dict[str, tuple[int, int, int]] = {}
        self._served: Counter[int] = Counter()
        self._tick_at: int | None = None
        self.waits = Waits()
        self.sent: dict[int, list[int]] = {one: [] for one in self._rooms}

    def run(self, arrivals: Sequence[tuple[int, int, int]]) -> Waits:
        for at, account, took in arrivals:
            self._push(START_MS + at, "arrive", (account, took))
        while self._events:
            now, _, what, facts = heapq.heappop(self._events)
            getattr(self, f"_{what}")(now, facts)
        self.waits.throttled = sum(count_throttled(self._pool, moments) for moments in self.sent.values())
        return self.waits

    def _push(self, at: int, what: str, facts: object) -> None:
        heapq.heappush(self._events, (at, next(self._order), what, facts))

    def _arrive(self, now: int, facts: tuple[int, int]) -> None:
        account, took = facts
        name = f"gen-{next(self._order)}"
        self._arrived[name] = (now, account, took)
        ask = make_ask(name, account, self._routes)
        allocator = Allocator(now, self._rooms, self._list_crowds())
        placement = allocator.place(ask, limit_s=float("inf"))
        for call in placement.calls:
            self._start(now, name, call.route)
        for waiting in placement.waiting:
            self._asks[name, waiting.number] = waiting
            self._look_at(now + self._manner.commit_ms)

    def _list_crowds(self) -> list[Crowd]:
        waiting = Counter(ask.order.account_id for ask in self._asks.values())
        return [Crowd(account, tuple(self._rooms), calls) for account, calls in waiting.items()]

    def _end(self, now: int, room: int) -> None:
        self._rooms[room].running -= 1
        if self._asks:
            self._look_at(now + self._manner.shortest_ms)

    def _look_at(self, at: int) -> None:
        if self._tick_at is None or at < self._tick_at:
            self._tick_at = at
            self._push(at, "tick", None)

    def _tick(self, now: int, _: None) -> None:
        if now != self._tick_at:
            return
        self._tick_at = None
        line = [
            InLine(name, number, ask.order.account_id, 1, tuple(self._rooms), self._served[ask.order.account_id])
            for (name, number), ask in self._asks.items()
        ]
        allocator = Allocator(now, self._rooms)
        for granted in take_turns(line, self._asks, allocator):
            del self._asks[granted.ask.order.id, granted.ask.number]
            self._served[granted.ask.order.account_id] = now
            self._start(now + self._manner.commit_ms, granted.ask.order.id, granted.call.route)
        if self._asks:
            ready = allocator.find_ready_ms(next(iter(self._asks.values()))) or now
            self._look_at(now + min(max(ready - now, self._manner.shortest_ms), self._manner.longest_ms))

    def _start(self, at: int, name: str, route: Route) -> None:
        arrived, account, took = self._arrived.pop(name)
        self.waits.by_account.setdefault(account, []).append(at - arrived)
        self.sent[route.offer_id].append(at)
        self._push(at + took, "end", route.offer_id)


def count_throttled(pool: Pool, moments: Sequence[int]) -> int:
    """Of these submits, those that a sliding window of the carrier would not have let through."""
    if pool.interval_ms is None:
        return 0
    window = pool.burst * pool.interval_ms
    ordered = sorted(moments)
    return sum(last - first < window for first, last in zip(ordered, ordered[pool.burst :], strict=False))


def make_route(number: int, pool: Pool) -> Route:
    return replace(TEMPLATE, offer_id=number, channel_id=number, channel_name=f"channel {number}", capacity_id=number)


def make_ask(name: str, account: int, routes: tuple[Route, ...]) -> Ask:
    return Ask(replace(ORDER, id=name, account_id=account), 1, (0,), Decision(routes))


TEMPLATE = Route(
    offer_id=0,
    channel_id=0,
    channel_name="",
    kind="dashscope_sync",
    base_url="",
    options="{}",
    credential_id=0,
    ciphertext="",
    upstream_model="",
    shape="sync",
    max_n=1,
    priority=0,
    weight=1,
    retry_billed=0,
    cost_micros=None,
    cost_currency="CNY",
)
ORDER = Order(
    id="",
    account_id=0,
    api_key_id=0,
    key_prefix="",
    model_id=1,
    model_name="",
    unit_price_micros=0,
    price_version=0,
    account_price_version=None,
    prompt="",
    options={},
    size=(512, 512),
    render_size=(512, 512),
    n=1,
    response_format="url",
)


def run_hours(*, seed: int = 1) -> Iterator[tuple[Pool, Waits, Waits]]:
    """Each pool with the product's waits and the ideal ones."""
    for pool in POOLS:
        arrivals = draw_arrivals(pool, seed=seed)
        yield pool, Hour(pool, PRODUCT).run(arrivals), Hour(pool, IDEAL).run(arrivals)
