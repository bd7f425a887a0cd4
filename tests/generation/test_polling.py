"""When tasks are looked at, in made-up time; at the end against the simulated upstream in real time."""

from __future__ import annotations

import asyncio
import random
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from heapq import heappush
from itertools import pairwise
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from crazyrouter.generation import poll_line
from crazyrouter.generation.lane import Lane, LaneClosed
from crazyrouter.generation.poll_line import Waiting, walk
from crazyrouter.generation.polling import Poller, PollSubject
from crazyrouter.sql import read_epoch_ms
from providers import polls
from providers.adapters import get_adapter_class
from providers.contract import Billed, Code, Done, Job, Pending, PollFailed, ProviderError, Scope
from providers.models import UpstreamAccount
from providers.polls import Reservation, Window
from providers.transport import Transport
from tests.generation.virtual_time import run_virtually
from tests.race import race
from tests.simulator.running import RunningSimulator

FREE = PollSubject(account_id=None, polls_per_s=None, offer_id=1, latency_ms=0)
FAR = 1_000_000.0


class Carrier:
    """An adapter whose tasks end at a time; `trouble` is met by the looks one after the other."""

    def __init__(self, *, poll_after: float = 2.0, limit: int | None = None, draw: Callable[[], float] | None = None):
        self.poll_after = poll_after
        self.limit = limit
        self.draw = draw
        self.ends: dict[str, float] = {}
        self.sent: defaultdict[str, list[float]] = defaultdict(list)
        self.looks: defaultdict[str, list[float]] = defaultdict(list)
        self.arrivals: list[float] = []
        self.trouble: list[Exception | None] = []
        self.throttled = 0

    async def poll(self, task_id: str) -> Done | Pending:
        self.sent[task_id].append(asyncio.get_running_loop().time())
        if self.draw:
            await asyncio.sleep(0.02 + self.draw() * 0.12)  # the way there
        now = asyncio.get_running_loop().time()
        self.arrivals.append(now)
        self.looks[task_id].append(now)
        if self.limit is not None and sum(at > now - 1 for at in self.arrivals[-100:]) > self.limit:
            self.throttled += 1
            raise PollFailed(Code.RATE_LIMITED)
        if self.trouble and (error := self.trouble.pop(0)) is not None:
            raise error
        return Done((), upstream_id=task_id) if now >= self.ends[task_id] else Pending(task_id, "", self.poll_after)


class NoLane:
    """For accounts without a limit nothing is reserved."""

    def write(self, operation: Any, item: Any) -> Any:
        raise AssertionError("nothing is to be reserved")


class VirtualDatabase:
    """The real one, through one connection; its clock and the process's are those of the loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self._thread = ThreadPoolExecutor(1)

    def reserve(self, operation: Any, item: Reservation, *, now: float) -> Window:
        self.now = now
        return self._thread.submit(self._commit, operation, item).result()

    def close(self) -> None:
        self._thread.submit(self._hang_up).result()
        self._thread.shutdown()

    def _hang_up(self) -> None:
        connection.close()  # the connection of the thread that asks for it

    def _commit(self, operation: Any, item: Reservation) -> Window:
        with transaction.atomic():
            (window,) = operation(connection, [item])
        return window


class VirtualLane:
    """A process's way to the database, which takes as long as `draw` says."""

    def __init__(self, database: VirtualDatabase, *, draw: Callable[[], float] = lambda: 0.0) -> None:
        self._database, self._draw = database, draw
        self.reserved = self.writes = 0

    def write(self, operation: Any, item: Reservation) -> asyncio.Future[Window]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Window] = loop.create_future()

        def commit() -> None:
            window = self._database.reserve(operation, item, now=loop.time())
            self.reserved += len(window.delays)
            self.writes += 1
            loop.call_later(0.002 + self._draw() * 0.02, answer.set_result, window)

        loop.call_later(self._draw() * 0.02, commit)
        return answer


def make_poller(lane: Any = None, *, draw: Callable[[], float] = lambda: 0.0) -> Poller:
    return Poller(lane or NoLane(), clock=asyncio.get_running_loop().time, draw=draw)


async def keep(adapter: Any) -> Any:
    return adapter


def follow(
    poller: Poller,
    carrier: Any,
    *,
    name: str = "t",
    takes: float = FAR,
    subject: PollSubject = FREE,
    patience: float = FAR,
    first: float = 1.0,
    renew: Callable[[Any], Awaitable[Any]] = keep,
) -> asyncio.Task[Done]:
    """A task that was accepted just now."""
    now = asyncio.get_running_loop().time()
    if hasattr(carrier, "ends"):
        carrier.ends[name] = now + takes
    return asyncio.create_task(
        poller.poll_to_end(carrier, Pending(name, "", first), subject=subject, until=now + patience, renew=renew)
    )


def read_ages(carrier: Carrier, name: str = "t", *, since: float = 1000.0) -> list[float]:
    return [round(at - since, 2) for at in carrier.looks[name]]


# --- the pauses of one task ---


def test_a_task_of_which_nothing_is_known() -> None:
    async def main() -> None:
        carrier = Carrier()
        done = await follow(make_poller(), carrier, takes=14.0)
        assert done.upstream_id == "t"
        assert read_ages(carrier) == [1.0, 3.0, 5.0, 7.0, 9.0, 11.25, 14.06]

    run_virtually(main())


def test_what_is_known_of_the_offer_says_when_to_begin() -> None:
    async def main() -> None:
        carrier = Carrier(poll_after=1.0)
        known = PollSubject(None, None, offer_id=7, latency_ms=20_000)
        await follow(make_poller(), carrier, takes=17.0, subject=known)
        assert read_ages(carrier) == [10.0, 11.25, 12.5, 13.75, 15.0, 16.25, 17.5]

    run_virtually(main())


def test_the_process_learns_from_tasks_that_ended() -> None:
    async def main() -> None:
        carrier, poller = Carrier(poll_after=1.0), make_poller()
        for number in range(12):
            await follow(poller, carrier, name=f"t{number}", takes=30.0)
        began = asyncio.get_running_loop().time()
        await follow(poller, carrier, name="last", takes=30.0)
        assert len(carrier.looks["t0"]) == 14
        ages = read_ages(carrier, "last", since=began)
        assert 24.0 < ages[0] < 30.0
        assert len(ages) <= 4
        assert 30.0 <= ages[-1] < 31.5

    run_virtually(main())


def test_the_adapters_pause_is_kept_and_jitter_only_adds_to_it() -> None:
    async def main() -> None:
        carrier = Carrier(poll_after=20.0)
        draws = iter([0.5, 0.0, 0.999])
        await follow(make_poller(draw=lambda: next(draws)), carrier, takes=40.0, first=5.0)
        assert read_ages(carrier) == [5.25, 25.25, 47.25]

    run_virtually(main())


def test_tasks_submitted_together_are_not_looked_at_together() -> None:
    async def main() -> None:
        carrier, poller = Carrier(), make_poller(draw=random.Random(1).random)
        known = PollSubject(None, None, offer_id=1, latency_ms=60_000)
        tasks = [follow(poller, carrier, name=str(number), takes=30.0, subject=known) for number in range(60)]
        await asyncio.gather(*tasks)
        assert len({round(at, 2) for at in carrier.arrivals}) > 50
        assert 2.5 < max(carrier.arrivals) - min(carrier.arrivals) < 3.0  # a tenth of the pause of 30 s

    run_virtually(main())


def test_a_task_taken_over_is_looked_at_soon_and_teaches_nothing() -> None:
    async def main() -> None:
        carrier, poller = Carrier(), make_poller()
        old = PollSubject(None, None, offer_id=1, latency_ms=0, age_s=3600.0)
        await follow(poller, carrier, name="old", takes=0.0, subject=old)
        assert read_ages(carrier, "old") == [1.0]
        began = asyncio.get_running_loop().time()
        await follow(poller, carrier, name="new", takes=1.0)
        assert read_ages(carrier, "new", since=began) == [1.0]

    run_virtually(main())


# --- ends and failures ---


def test_a_task_that_failed_is_over() -> None:
    async def main() -> None:
        carrier, poller = Carrier(), make_poller()
        carrier.trouble = [None, ProviderError(Code.TASK_FAILED, billed=Billed.NO, scope=Scope.OFFER)]
        with pytest.raises(ProviderError) as caught:
            await follow(poller, carrier)
        assert caught.value.code is Code.TASK_FAILED
        assert read_ages(carrier) == [1.0, 3.0]
        assert poller.waiting == 0

    run_virtually(main())


def test_a_look_that_failed_says_nothing_and_is_repeated_ever_later() -> None:
    async def main() -> None:
        carrier = Carrier()
        carrier.trouble = [*[PollFailed(Code.TIMEOUT)] * 6, PollFailed(Code.OVERLOADED, retry_after=40.0)]
        await follow(make_poller(), carrier, takes=20.0)
        # 2, 4, 8, then 15 s at most, and what the upstream asked for.
        assert read_ages(carrier) == [1, 3, 7, 15, 30, 45, 60, 100]

    run_virtually(main())


def test_a_credential_that_is_refused_is_renewed() -> None:
    async def main() -> None:
        old, new = Carrier(), Carrier()
        old.trouble = [PollFailed(Code.AUTH)]
        asked: list[Any] = []

        async def renew(adapter: Any) -> Any:
            asked.append(adapter)
            new.ends = old.ends
            return new

        await follow(make_poller(), old, takes=4.0, renew=renew)
        assert asked == [old]
        assert (read_ages(old), read_ages(new)) == ([1.0], [3.0, 5.0])

    run_virtually(main())


def test_nothing_is_looked_at_for_ever() -> None:
    async def main() -> None:
        carrier, poller = Carrier(), make_poller()
        with pytest.raises(ProviderError) as caught:
            await follow(poller, carrier, patience=6.0)
        error = caught.value
        assert (error.code, error.billed, error.scope) == (Code.TIMEOUT, Billed.UNKNOWN, Scope.OFFER)
        assert read_ages(carrier) == [1.0, 3.0, 5.0, 6.0]  # the last one when the time is over
        with pytest.raises(ProviderError):
            await follow(poller, carrier, name="late", patience=-1.0)
        assert read_ages(carrier, "late") == []

    run_virtually(main())


def test_the_answer_to_the_last_look_is_not_waited_for_for_ever() -> None:
    class Silent:
        async def poll(self, task_id: str) -> Done:
            await asyncio.Event().wait()
            raise AssertionError

    async def main() -> None:
        began = asyncio.get_running_loop().time()
        with pytest.raises(ProviderError) as caught:
            await follow(make_poller(), Silent(), patience=6.0)
        assert caught.value.code is Code.TIMEOUT
        assert asyncio.get_running_loop().time() - began == pytest.approx(16.0)

    run_virtually(main())


def test_throttling_backs_off_the_whole_account_and_no_other() -> None:
    async def main() -> None:
        carrier, poller = Carrier(), make_poller()
        other = Carrier()
        account = PollSubject(5, None, offer_id=1, latency_ms=0)
        carrier.trouble = [PollFailed(Code.RATE_LIMITED, retry_after=30.0)]
        tasks = [
            follow(poller, carrier, name="a", takes=3.0, subject=account),
            follow(poller, carrier, name="b", takes=3.0, subject=account, first=2.0),
            follow(poller, other, name="c", takes=3.0, subject=PollSubject(6, None, offer_id=1, latency_ms=0)),
        ]
        await asyncio.gather(*tasks)
        # Closed until 31 s, then one after the other.
        assert (read_ages(carrier, "b"), read_ages(carrier, "a")) == ([31.0], [1.0, 31.1])
        assert read_ages(other, "c") == [1.0, 3.0]

    run_virtually(main())


def test_throttling_again_and_again_closes_the_account_for_longer() -> None:
    async def main() -> None:
        carrier = Carrier(poll_after=0.2)
        carrier.trouble = [PollFailed(Code.RATE_LIMITED)] * 6 + [None, PollFailed(Code.RATE_LIMITED)]
        account = PollSubject(5, None, offer_id=1, latency_ms=0)
        await follow(make_poller(), carrier, takes=70.0, subject=account, first=0.2)
        # 1, 2, 4, 8, 16 and again 16 s; after an answer it begins anew, at an age of 47 s with a quarter of it.
        assert read_ages(carrier)[:9] == [0.2, 1.2, 3.2, 7.2, 15.2, 31.2, 47.2, 59.0, 60.0]

    run_virtually(main())


def test_looks_that_are_throttled_together_count_once() -> None:
    async def main() -> None:
        carrier, poller = Carrier(poll_after=0.2), make_poller()
        carrier.trouble = [PollFailed(Code.RATE_LIMITED)] * 2
        account = PollSubject(5, None, offer_id=1, latency_ms=0)
        tasks = [follow(poller, carrier, name=name, takes=0.5, subject=account, first=0.2) for name in "ab"]
        await asyncio.gather(*tasks)
        assert [round(at - 1000.0, 2) for at in carrier.arrivals] == [0.2, 0.2, 1.2, 1.3]

    run_virtually(main())


def test_whoever_is_cancelled_leaves_at_once() -> None:
    async def main() -> None:
        carrier, poller = Carrier(), make_poller()
        tasks = [follow(poller, carrier, name=str(number)) for number in range(100)]
        await asyncio.sleep(0.5)
        assert poller.waiting == 100
        assert len(asyncio.all_tasks()) == 101  # theirs and this one: waiting takes no other
        for task in tasks[:99]:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert poller.waiting == 1
        await asyncio.sleep(2.0)
        assert carrier.arrivals == [1001.0]
        tasks[99].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert poller.waiting == 0

    run_virtually(main())


def test_closing_ends_the_wait_of_everybody() -> None:
    async def main() -> None:
        carrier, poller = Carrier(), make_poller()
        tasks = [follow(poller, carrier, name=name) for name in "ab"]
        await asyncio.sleep(0.5)
        await poller.close()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [LaneClosed, LaneClosed]
        with pytest.raises(LaneClosed):
            await follow(poller, carrier, name="c")
        assert carrier.arrivals == []

    run_virtually(main())


def test_a_heap_is_walked_in_order_without_those_that_left() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        draw = random.Random(3)
        heap: list[Waiting] = []
        for number in range(200):
            heappush(heap, Waiting(draw.random(), number, 0.0, loop.create_future()))
        for one in heap[::3]:
            one.turn.cancel()
        alive = sorted(one for one in heap if not one.turn.done())
        assert list(walk(heap)) == alive
        assert list(walk([])) == []

    run_virtually(main())


# --- budgets ---


@pytest.fixture
def virtual(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualDatabase]:
    virtual = VirtualDatabase()
    monkeypatch.setattr(polls, "read_epoch_ms", lambda _: 1_800_000_000_000 + int(virtual.now * 1000))
    monkeypatch.setattr(polls, "monotonic", lambda: virtual.now)
    yield virtual
    virtual.close()


def open_account(polls_per_s: int | None) -> PollSubject:
    account = UpstreamAccount.objects.create(name="acme", polls_per_s=polls_per_s)
    return PollSubject(account.pk, polls_per_s, offer_id=1, latency_ms=0)


def count_densest_second(arrivals: Sequence[float]) -> int:
    ordered = sorted(arrivals)
    return max(at + 1 - bisect_right(ordered, moment - 1.0) for at, moment in enumerate(ordered))


class Crowd:
    """So many tasks in flight at all times, each followed by the next."""

    def __init__(self, pollers: Sequence[Poller], subject: PollSubject, *, draw: Callable[[], float], mean: float):
        self.carrier = Carrier(limit=subject.polls_per_s, draw=draw)
        self.lags: list[float] = []
        self.started = 0
        self._pollers, self._subject, self._draw, self._mean = pollers, subject, draw, mean

    async def run(self, *, size: int, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*[self._keep_one(self._pollers[at % len(self._pollers)], until) for at in range(size)])

    async def _keep_one(self, poller: Poller, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            name, self.started = str(self.started), self.started + 1
            await follow(
                poller, self.carrier, name=name, takes=self._mean * (0.7 + 0.6 * self._draw()), subject=self._subject
            )
            self.lags.append(loop.time() - self.carrier.ends[name])


def test_five_hundred_tasks_over_one_account(virtual: VirtualDatabase) -> None:
    draw = random.Random(1).random
    lane = VirtualLane(virtual, draw=draw)
    subject = open_account(20)

    async def main() -> Crowd:
        crowd = Crowd([make_poller(lane, draw=draw)], subject, draw=draw, mean=60.0)
        await crowd.run(size=500, seconds=240.0)
        return crowd

    crowd = run_virtually(main())
    arrivals = crowd.carrier.arrivals
    assert crowd.carrier.throttled == 0
    assert count_densest_second(arrivals) <= 20
    assert len(crowd.lags) == crowd.started == len(crowd.carrier.looks) > 1500
    # Sixteen looks a second are handed out. A round of all takes half a minute, and so long none waits in vain.
    steady = [at for at in arrivals if 1060.0 <= at < 1240.0]
    assert len(steady) / 180.0 > 14.5
    assert max(crowd.lags) < 40.0
    gaps = [later - sooner for looks in crowd.carrier.looks.values() for sooner, later in pairwise(looks)]
    assert max(gaps) < 40.0
    assert lane.reserved - len(arrivals) <= len(arrivals) * 0.02
    assert lane.writes < len(arrivals) / 6


def test_two_processes_share_the_rate(virtual: VirtualDatabase) -> None:
    draw = random.Random(2).random
    lanes = [VirtualLane(virtual, draw=draw), VirtualLane(virtual, draw=draw)]
    subject = open_account(20)

    async def main() -> Crowd:
        pollers = [make_poller(lane, draw=draw) for lane in lanes]
        crowd = Crowd(pollers, subject, draw=draw, mean=30.0)
        await crowd.run(size=200, seconds=120.0)
        return crowd

    crowd = run_virtually(main())
    assert crowd.carrier.throttled == 0
    assert count_densest_second(crowd.carrier.arrivals) <= 20
    shares = [lane.reserved / sum(lane.reserved for lane in lanes) for lane in lanes]
    assert min(shares) > 0.45
    assert sum(lane.reserved for lane in lanes) - len(crowd.carrier.arrivals) <= len(crowd.carrier.arrivals) * 0.02


def test_few_tasks_are_noticed_soon_and_an_idle_process_keeps_nothing(virtual: VirtualDatabase) -> None:
    draw = random.Random(3).random
    lanes = [VirtualLane(virtual, draw=draw), VirtualLane(virtual, draw=draw)]
    subject = open_account(20)

    async def main() -> Crowd:
        pollers = [make_poller(lane, draw=draw) for lane in lanes]
        crowd = Crowd(pollers[:1], subject, draw=draw, mean=10.0)
        await crowd.run(size=20, seconds=60.0)
        return crowd

    crowd = run_virtually(main())
    assert max(crowd.lags) < 3.5  # the adapter's two seconds, jitter and the way
    gaps = [later - sooner for sent in crowd.carrier.sent.values() for sooner, later in pairwise(sent)]
    assert min(gaps) >= 2.0
    assert sum(len(sent) for sent in crowd.carrier.sent.values()) / crowd.started < 4
    assert lanes[1].writes == 0
    assert lanes[0].reserved - len(crowd.carrier.arrivals) <= 3


def test_who_has_been_due_longest_is_next(virtual: VirtualDatabase) -> None:
    """One look in 1.25 s for five tasks; all of them go round."""
    subject = open_account(1)
    lane = VirtualLane(virtual)

    async def main() -> Carrier:
        carrier, poller = Carrier(poll_after=0.5), make_poller(lane)
        tasks = [
            follow(poller, carrier, name=name, takes=30.0, subject=subject, first=1.0 + at / 10)
            for at, name in enumerate("abcde")
        ]
        await asyncio.gather(*tasks)
        return carrier

    carrier = run_virtually(main())
    order = sorted((at, name) for name, looks in carrier.looks.items() for at in looks)
    names = "".join(name for _, name in order)
    assert names[:20] == "abcde" * 4
    gaps = [round(later[0] - sooner[0], 2) for sooner, later in pairwise(order)]
    assert min(gaps) >= 1.25 - 0.1


def test_a_moment_of_one_that_left_is_no_reason_to_look_early(virtual: VirtualDatabase) -> None:
    subject = open_account(20)
    lane = VirtualLane(virtual)

    async def main() -> Carrier:
        carrier, poller = Carrier(), make_poller(lane)
        leaves = follow(poller, carrier, name="a", subject=subject)
        stays = follow(poller, carrier, name="b", takes=1.0, subject=subject, first=1.3)
        await asyncio.sleep(0.97)  # the moment is reserved
        assert lane.reserved == 1
        leaves.cancel()
        await stays
        return carrier

    carrier = run_virtually(main())
    (age,) = read_ages(carrier, "b")
    assert 1.3 <= age < 1.4
    assert (len(carrier.arrivals), lane.reserved) == (1, 2)


def test_a_limit_that_was_taken_away_is_noticed(virtual: VirtualDatabase) -> None:
    subject = open_account(1)
    UpstreamAccount.objects.update(polls_per_s=None)
    lane = VirtualLane(virtual)

    async def main() -> Carrier:
        carrier, poller = Carrier(), make_poller(lane)
        await asyncio.gather(*[follow(poller, carrier, name=name, takes=0.5, subject=subject) for name in "abc"])
        return carrier

    carrier = run_virtually(main())
    assert (lane.writes, lane.reserved) == (1, 0)
    assert max(carrier.arrivals) < 1001.1


class BrokenLane:
    def __init__(self) -> None:
        self.tries: list[float] = []

    def write(self, operation: Any, item: Any) -> asyncio.Future[Window]:
        loop = asyncio.get_running_loop()
        self.tries.append(loop.time())
        answer: asyncio.Future[Window] = loop.create_future()
        answer.set_exception(OperationalError("gone"))
        return answer


class ClosedLane:
    def write(self, operation: Any, item: Any) -> asyncio.Future[Window]:
        raise LaneClosed


LIMITED = PollSubject(account_id=3, polls_per_s=20, offer_id=1, latency_ms=0)


def test_without_the_database_nobody_asks_and_nobody_waits_for_ever() -> None:
    async def main() -> None:
        carrier, lane = Carrier(), BrokenLane()
        poller = make_poller(lane)
        with pytest.raises(ProviderError) as caught:
            await follow(poller, carrier, subject=LIMITED, patience=5.0)
        assert caught.value.code is Code.TIMEOUT
        assert carrier.arrivals == []
        assert 10 <= len(lane.tries) <= 15  # once a second until ten seconds after its time
        assert poller.waiting == 0

    run_virtually(main())


def test_with_the_lane_closed_the_wait_is_over() -> None:
    async def main() -> None:
        with pytest.raises(LaneClosed):
            await follow(make_poller(ClosedLane()), Carrier(), subject=LIMITED)

    run_virtually(main())


def test_a_moment_that_was_missed_is_not_made_up_for(virtual: VirtualDatabase) -> None:
    """The process stood still for ten seconds: what was due meanwhile comes at the rate, not at once."""
    subject = open_account(20)
    draw = random.Random(4).random
    lane = VirtualLane(virtual, draw=draw)

    async def main() -> Carrier:
        carrier = Carrier(limit=20)
        loop: Any = asyncio.get_running_loop()
        poller = make_poller(lane, draw=draw)
        tasks = [follow(poller, carrier, name=str(number), takes=30.0, subject=subject) for number in range(100)]
        for _ in range(5):
            await asyncio.sleep(3.3)
            loop.now += 10.0
        await asyncio.gather(*tasks)
        return carrier

    carrier = run_virtually(main())
    assert carrier.throttled == 0
    assert count_densest_second(carrier.arrivals) <= 20


def test_two_processes_race_for_moments(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its event loop, its lane and its poller, by the real clocks."""
    subject = open_account(40)
    moments: list[float] = []
    kept = threading.local()

    def read_and_keep(connection: Any) -> int:
        kept.ms = read_epoch_ms(connection)
        return kept.ms

    def reserve_and_keep(connection: Any, items: Sequence[Reservation]) -> list[Window]:
        windows = polls.reserve_polls(connection, items)
        moments.extend(kept.ms + delay * 1000 for window in windows for delay in window.delays)
        return windows

    monkeypatch.setattr(polls, "read_epoch_ms", read_and_keep)
    monkeypatch.setattr(poll_line, "reserve_polls", reserve_and_keep)

    async def follow_some(process: int) -> int:
        lane, carrier = Lane(), Carrier(poll_after=0.3)
        poller = Poller(lane)
        tasks = [
            follow(poller, carrier, name=f"{process}.{number}", takes=1.5, subject=subject, first=0.2)
            for number in range(25)
        ]
        try:
            await asyncio.wait_for(asyncio.gather(*tasks), 60)
        finally:
            await poller.close()
            await lane.close()
        return len(carrier.arrivals)

    looks = race(2, lambda process: asyncio.run(follow_some(process)))
    assert all(isinstance(number, int) and number >= 25 for number in looks), looks
    assert sum(looks) <= len(moments)  # type: ignore[arg-type]
    ordered = sorted(moments)
    assert min(later - sooner for sooner, later in pairwise(ordered)) >= polls.SPAN_MS / 40 - 0.01


# --- the simulated upstream ---


@pytest.fixture
def limited_simulator() -> Iterator[RunningSimulator]:
    with RunningSimulator({"latency_s": {"async": 5.0}, "limits": {"queries_per_s": 20}}) as simulator:
        yield simulator


async def test_five_hundred_real_tasks_are_never_throttled(database: None, limited_simulator: RunningSimulator) -> None:
    account = await UpstreamAccount.objects.acreate(name="acme", polls_per_s=20)
    subject = PollSubject(account.pk, 20, offer_id=1, latency_ms=5000)
    transport, lane = Transport(allow=[f"127.0.0.1:{limited_simulator.port}"]), Lane()
    adapter = get_adapter_class("dashscope_async")(
        transport, credential="sk-sim-acme.one", base_url=f"{limited_simulator.base_url}/api/v1"
    )
    poller = Poller(lane)
    loop = asyncio.get_running_loop()

    async def order(number: int) -> Done:
        task = await adapter.submit(Job("qwen-image-plus", f"cat {number}", 1328, 1328))
        assert isinstance(task, Pending)
        return await poller.poll_to_end(adapter, task, subject=subject, until=loop.time() + 60, renew=keep)

    try:
        tasks = [asyncio.create_task(order(number)) for number in range(500)]
        done, running = await asyncio.wait(tasks, timeout=12.0)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert poller.waiting == 0
        assert all(len(task.result().images) == 1 for task in done)
        bill = limited_simulator.call("GET", "/bill?entries=0")
        assert bill["totals"]["accepted"] == 500
        assert bill["throttled"]["acme"]["queries"] == 0
        assert bill["queries"]["peak_per_s"] <= 20
        assert bill["queries"]["count"] >= 80
        assert len(done) >= 40
    finally:
        await poller.close()
        await lane.close()
        await transport.aclose()
