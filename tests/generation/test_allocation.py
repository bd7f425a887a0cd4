"""Who gets room: the first candidate with some, then turns between accounts; in simulated time, no database."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crazyrouter.generation.allocation import (
    MOST_WAITING,
    Allocator,
    Crowd,
    InLine,
    describe_retry,
    split,
)
from crazyrouter.generation.line import take_turns
from crazyrouter.generation.order import Ask, Order
from providers.capacity import DEFAULT_CALL_MS, MARGIN_MS, Room, estimate_wait_ms
from providers.routing import Decision, Route

NOW = 1_800_000_000_000


def make_route(offer_id: int, *, capacity: int | None = None, max_n: int = 1, circuit: str = "closed") -> Route:
    return Route(
        offer_id=offer_id,
        channel_id=offer_id,
        channel_name=f"channel {offer_id}",
        kind="dashscope_sync",
        base_url="",
        options="{}",
        credential_id=1,
        ciphertext="",
        upstream_model="m",
        shape="sync",
        max_n=max_n,
        priority=offer_id,
        weight=1,
        retry_billed=0,
        cost_micros=None,
        cost_currency="CNY",
        capacity_id=capacity,
        circuit=circuit,
    )


def make_ask(*routes: Route, n: int = 1, name: str = "gen", account: int = 1, **changes: Any) -> Ask:
    order = Order(
        id=name,
        account_id=account,
        api_key_id=1,
        key_prefix="",
        model_id=1,
        model_name="m",
        unit_price_micros=1,
        price_version=1,
        account_price_version=None,
        prompt="",
        options={},
        size=(512, 512),
        render_size=(512, 512),
        n=n,
        response_format="url",
    )
    return Ask(order, 1, tuple(range(n)), Decision(routes), **changes)


def read_calls(placement: Any) -> list[tuple[int, int, tuple[int, ...]]]:
    return [(call.number, call.route.offer_id, call.slots) for call in placement.calls]


# --- one row ---


def test_submits_keep_the_window_of_the_carrier() -> None:
    """Two in any two intervals, as the carrier counts "2 a second", with a margin for the way there."""
    room = Room(1, interval_ms=500, burst=2, max_running=None)
    moments = []
    now = NOW
    for _ in range(7):
        now = room.find_submit_ms(now)
        assert room.has_room(now)
        room.take(now)
        moments.append(now - NOW)
    window = 1000 + MARGIN_MS
    assert moments == [0, 0, window, window, 2 * window, 2 * window, 3 * window]


def test_calls_that_run_take_room_until_they_end() -> None:
    room = Room(1, interval_ms=None, burst=1, max_running=2)
    room.take(NOW)
    assert room.has_room(NOW)
    room.take(NOW)
    assert not room.has_room(NOW)
    assert room.find_ready_ms(NOW) == NOW + DEFAULT_CALL_MS // 2
    room.give_back(NOW)
    assert room.has_room(NOW)
    assert room.starts == []


@given(
    interval=st.integers(1, 2000),
    burst=st.integers(1, 5),
    steps=st.lists(st.integers(0, 3000), min_size=1, max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_no_window_ever_holds_more_than_the_burst(interval: int, burst: int, steps: list[int]) -> None:
    room = Room(1, interval_ms=interval, burst=burst, max_running=None)
    now, taken = NOW, []
    for step in steps:
        now += step
        if room.has_room(now):
            room.take(now)
            taken.append(now)
    for first, last in zip(taken, taken[burst:], strict=False):
        assert last - first >= burst * interval


def test_a_wait_is_played_through_over_all_rooms() -> None:
    """One starts every 560 ms, the other ends a call every 2 s: 560, 1120, 1680, 2000, 2240 and so on."""
    rooms = [Room(1, 500, 1, None, starts=[NOW]), Room(2, None, 1, 4, running=4, call_ms=8000)]
    every = 500 + MARGIN_MS
    moments = sorted([every * k for k in range(1, 20)] + [2000 * k for k in range(1, 20)])
    assert [estimate_wait_ms(rooms, ahead=ahead, now_ms=NOW) for ahead in range(12)] == moments[:12]
    assert [(room.starts, room.running) for room in rooms] == [([NOW], 0), ([], 4)]
    assert estimate_wait_ms([], ahead=0, now_ms=NOW) == float("inf")
    assert estimate_wait_ms([Room(1, None, 1, None)], ahead=3000, now_ms=NOW) == 0


def test_a_window_opens_for_its_whole_burst() -> None:
    """Two a minute: whoever is third in line starts with the second window, and so does the fourth."""
    room = Room(1, 30_000, 2, None, starts=[NOW, NOW])
    window = 60_000 + MARGIN_MS
    waits = [estimate_wait_ms([room], ahead=ahead, now_ms=NOW) for ahead in range(5)]
    assert waits == [window, window, 2 * window, 2 * window, 3 * window]
    behind = estimate_wait_ms([room], ahead=1000, now_ms=NOW)
    assert behind == pytest.approx(1002 / 2 * window, rel=0.01)


def test_places_that_are_free_are_taken_before_anybody_waits() -> None:
    room = Room(1, None, 1, 3, running=1, call_ms=9000)
    assert [estimate_wait_ms([room], ahead=ahead, now_ms=NOW) for ahead in range(4)] == [0, 0, 3000, 6000]


# --- new calls ---


def test_the_first_candidate_with_room_is_taken_and_the_record_says_why() -> None:
    full = Room(1, None, 1, 1, running=1)
    ask = make_ask(make_route(1, capacity=1), make_route(2, capacity=2), make_route(3))
    allocator = Allocator(NOW, {1: full, 2: Room(2, 1000, 1, None)})
    [call] = allocator.place(ask, limit_s=1).calls
    assert call.route.offer_id == 2
    assert call.granted_ms == NOW
    assert call.routing == {
        "candidates": [{"offer": one, "channel": f"channel {one}"} for one in (1, 2, 3)],
        "chosen": 2,
        "reason": "the first choice",
        "busy": [{"offer": 1, "channel": "channel 1", "why": "1 calls run there"}],
    }
    [second] = allocator.place(make_ask(*ask.decision.candidates, name="b"), limit_s=1).calls
    assert second.route.offer_id == 3
    assert allocator.rooms[2].starts == [NOW]


def test_slots_are_fanned_out_over_whoever_has_room() -> None:
    ask = make_ask(make_route(1, capacity=1, max_n=4), make_route(2, capacity=2, max_n=1), n=6)
    rooms = {1: Room(1, 60_000, 1, None), 2: Room(2, 1000, 1, None)}
    placement = Allocator(NOW, rooms).place(ask, limit_s=0)
    assert read_calls(placement) == [(1, 1, (0, 1, 2, 3)), (2, 2, (4,))]
    # It has started: what is left waits however long that takes.
    assert [(one.number, one.slots) for one in placement.waiting] == [(3, (5,))]


def test_each_call_of_an_order_takes_its_own_turn() -> None:
    ask = make_ask(make_route(1, max_n=2), n=5)
    assert [(one.number, one.slots) for one in split(ask)] == [(1, (0, 1)), (3, (2, 3)), (5, (4,))]


def test_a_newcomer_does_not_overtake_those_that_wait() -> None:
    ask = make_ask(make_route(1, capacity=1))
    allocator = Allocator(NOW, {1: Room(1, 1000, 5, None)}, [Crowd(7, (1,), 1)])
    placement = allocator.place(ask, limit_s=10)
    assert (placement.calls, len(placement.waiting)) == ((), 1)
    # A channel that nobody waits for is free to it.
    other = make_ask(make_route(1, capacity=1), make_route(2, capacity=2), name="b")
    allocator = Allocator(NOW, {1: Room(1, 1000, 5, None), 2: Room(2, 1000, 1, None)}, [Crowd(7, (1,), 1)])
    assert [call.route.offer_id for call in allocator.place(other, limit_s=10).calls] == [2]


def test_what_cannot_start_in_time_is_refused_with_the_moment_at_which_it_would_fit() -> None:
    ask = make_ask(make_route(1, capacity=1))
    window_ms = 30_000 + MARGIN_MS
    for waiting, retry in ((2, None), (3, 1), (10, 211)):
        room = Room(1, 30_000, 1, None, starts=[NOW])
        placement = Allocator(NOW, {1: room}, [Crowd(1, (1,), waiting)]).place(ask, limit_s=120)
        assert placement.retry_after_s == retry
        if retry:
            assert retry == describe_retry((window_ms * (waiting + 1)) / 1000 - 120)
            assert (placement.calls, placement.waiting, room.changed) == ((), (), False)


def test_the_backlog_of_others_counts_one_turn_each() -> None:
    """Two accounts with endless backlogs stand before a newcomer with one call each."""
    ask = make_ask(make_route(1, capacity=1), account=3)
    room = Room(1, 30_000, 1, None, starts=[NOW])
    allocator = Allocator(NOW, {1: room}, [Crowd(1, (1,), 500), Crowd(2, (1,), 500)])
    assert allocator.estimate_wait_s(ask) == pytest.approx(3 * (30_000 + MARGIN_MS) / 1000)


def test_two_channels_of_one_account_are_one_room() -> None:
    """Which they share: two keys do not halve the wait."""
    one, two = make_route(1, capacity=1), make_route(2, capacity=1)
    assert make_ask(one, two, make_route(3, capacity=2)).capacity_ids == (1, 2)
    crowds, room = [Crowd(1, (1,), 3)], Room(1, 30_000, 1, None, starts=[NOW])
    waits = [Allocator(NOW, {1: room}, crowds).estimate_wait_s(make_ask(*routes)) for routes in ((one,), (one, two))]
    assert waits == [pytest.approx(4 * (30_000 + MARGIN_MS) / 1000)] * 2


def test_the_queue_is_bounded() -> None:
    ask = make_ask(make_route(1, capacity=1))
    allocator = Allocator(NOW, {1: Room(1, 1, 1, None, starts=[NOW])}, [Crowd(1, (1,), MOST_WAITING)])
    assert allocator.place(ask, limit_s=10**9).retry_after_s == 1


def test_room_of_calls_that_are_not_made_is_given_back() -> None:
    ask = make_ask(make_route(1, capacity=1))
    allocator = Allocator(NOW, {1: Room(1, 1000, 1, 1)})
    placement = allocator.place(ask, limit_s=10)
    allocator.give_back(placement.calls)
    assert (allocator.rooms[1].starts, allocator.rooms[1].running) == ([], 0)
    assert len(allocator.place(ask, limit_s=10).calls) == 1


def test_a_cooling_offer_is_passed_over_and_waited_for_when_it_is_alone() -> None:
    first, second = make_route(1), make_route(2)
    ask = make_ask(first, second)
    cooling = replace(ask, decision=replace(ask.decision, cooling={1: NOW / 1000 + 30}))
    assert [call.route.offer_id for call in Allocator(NOW).place(cooling, limit_s=1).calls] == [2]
    alone = replace(make_ask(first), decision=Decision((first,), cooling={1: NOW / 1000 + 30}))
    assert len(Allocator(NOW).place(alone, limit_s=60).waiting) == 1
    assert Allocator(NOW).place(alone, limit_s=10).retry_after_s == 20
    assert Allocator(NOW).find_ready_ms(alone) == NOW + 30_000


def test_a_half_open_circuit_lets_one_call_through() -> None:
    asked = []
    ask = make_ask(make_route(1, circuit="half_open"), make_route(2))

    def claim(route: Route, ask: Ask) -> bool:
        asked.append(route.offer_id)
        return len(asked) == 1

    allocator = Allocator(NOW, claim_trial=claim)
    assert [allocator.place(ask, limit_s=1).calls[0].route.offer_id for _ in range(3)] == [1, 2, 2]
    assert asked == [1, 1, 1]


# --- turns ---


def stand_in_line(*waiting: tuple[str, int], served: dict[int, int] | None = None) -> list[InLine]:
    return [InLine(name, 1, account, 1, (1,), (served or {}).get(account, 0)) for name, account in waiting]


def take(line: list[InLine], room: Room, *, ours: set[str] | None = None, now_ms: int = NOW) -> list[str]:
    asks = {
        (row.generation_id, 1): make_ask(make_route(1, capacity=1), name=row.generation_id, account=row.account_id)
        for row in line
        if ours is None or row.generation_id in ours
    }
    allocator = Allocator(now_ms, {room.id: room})
    return [one.ask.order.id for one in take_turns(line, asks, allocator)]


def test_turns_go_round_the_accounts_however_long_their_backlogs_are() -> None:
    line = stand_in_line(*[(f"a{i}", 1) for i in range(5)], *[(f"b{i}", 2) for i in range(2)], ("c0", 3))
    assert take(line, Room(1, None, 1, 6)) == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_whoever_was_served_longest_ago_is_next() -> None:
    line = stand_in_line(("a", 1), ("b", 2), ("c", 3), served={1: NOW - 5, 2: NOW - 50})
    assert take(line, Room(1, None, 1, 1)) == ["c"]
    assert take(line, Room(1, None, 1, 2)) == ["c", "b"]


def test_what_is_due_to_another_process_is_left_for_it_and_not_written() -> None:
    line = stand_in_line(("a", 1), ("b", 2), ("c", 3))
    room = Room(1, None, 1, 2)
    assert take(line, room, ours={"b", "c"}) == ["b"]
    assert room.running == 1


def test_a_call_that_wants_what_is_full_does_not_stop_the_next() -> None:
    """The head of an account may want a channel without room; its second takes what is there."""
    one, two = make_route(1, capacity=1), make_route(2, capacity=2)
    asks = {("a", 1): make_ask(one, name="a"), ("b", 1): make_ask(two, name="b")}
    line = [InLine("a", 1, 1, 1, (1,), 0), InLine("b", 1, 1, 1, (2,), 0)]
    allocator = Allocator(NOW, {1: Room(1, None, 1, 1, running=1), 2: Room(2, None, 1, 1)})
    assert [granted.ask.order.id for granted in take_turns(line, asks, allocator)] == ["b"]


@given(backlogs=st.dictionaries(st.integers(1, 6), st.integers(1, 40), min_size=2))
@settings(max_examples=60, deadline=None)
def test_a_single_request_waits_for_one_call_of_each_other_account_at_most(backlogs: dict[int, int]) -> None:
    """Simulated: room for one call every 100 ms, long backlogs, then a newcomer with one request."""
    line = stand_in_line(*[(f"{account}-{i:02}", account) for account, count in backlogs.items() for i in range(count)])
    served: Counter[int] = Counter()
    newcomer = InLine("new", 1, 99, 1, (1,), 0)
    for step in range(sum(backlogs.values()) + 1):
        now_ms = NOW + step * 100
        if step == 2:
            line.append(newcomer)
        line = [replace(row, served_ms=served[row.account_id]) for row in line]
        [name] = take(line, Room(1, None, 1, 1), now_ms=now_ms)
        account = next(row.account_id for row in line if row.generation_id == name)
        served[account] = now_ms
        line = [row for row in line if row.generation_id != name]
        if name == "new":
            assert step - 2 <= len(backlogs)
            return
    raise AssertionError("it never had its turn")


def serve(line: list[InLine], rooms: dict[int, Room], *, steps: int) -> list[str]:
    """Who has a turn, step by step: each call of room 1 ends before the next step, those of other rooms never do."""
    order: list[str] = []
    turns: dict[tuple[int, int], int] = {}
    for step in range(steps):
        now_ms = NOW + step * 100
        line = [replace(row, served_ms=turns.get((row.account_id, row.model_id), 0)) for row in line]
        asks = {
            (row.generation_id, 1): make_ask(make_route(row.model_id, capacity=row.wants[0]), name=row.generation_id)
            for row in line
        }
        accounts = {row.generation_id: row.account_id for row in line}
        rooms[1].running = 0
        for granted in take_turns(line, asks, Allocator(now_ms, rooms)):
            name = granted.ask.order.id
            order.append(name)
            turns |= {(accounts[name], model): now_ms for model in granted.model_ids}
            line = [row for row in line if row.generation_id != name]
    return order


def test_a_call_that_waits_for_another_model_gives_its_account_no_further_turns() -> None:
    """Nothing moves at the second model, of which the first account was never served."""
    line = [InLine("a-other", 1, 1, 2, (2,), 0), *(InLine(f"a{i}", 1, 1, 1, (1,), 0) for i in range(4))]
    line += [InLine("b0", 1, 2, 1, (1,), 0), InLine("b1", 1, 2, 1, (1,), 0)]
    rooms = {1: Room(1, None, 1, 1), 2: Room(2, None, 1, 1, running=1)}
    assert serve(line, rooms, steps=4) == ["a0", "b0", "a1", "b1"]


def test_models_that_share_their_room_are_one_turn_of_an_account() -> None:
    line = [InLine(f"a{i}", 1, 1, 1 + i % 2, (1,), 0) for i in range(6)] + [InLine("b", 1, 2, 1, (1,), 0)]
    assert serve(line, {1: Room(1, None, 1, 1)}, steps=3) == ["a0", "b", "a1"]
