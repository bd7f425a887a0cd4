"""When to look at a running task; times in seconds."""

from __future__ import annotations

import pytest

from crazyrouter.generation.pace import Pace


def test_of_nothing_known_looks_begin_at_the_floor_and_become_rarer() -> None:
    pace = Pace()
    assert pace.choose_first(0.0, floor=1.0) == 1.0
    assert [pace.choose_pause(age, floor=2.0) for age in (1.0, 8.0, 10.0, 40.0, 60.0, 7200.0)] == [
        2.0,
        2.0,
        2.5,
        10.0,
        15.0,
        15.0,
    ]


def test_one_time_sets_where_looks_begin_are_dense_and_thin_out() -> None:
    pace = Pace()
    pace.assume(20.0)
    assert (pace.typical, pace.spread) == (20.0, 5.0)
    assert pace.choose_first(0.0, floor=1.0) == 10.0
    assert pace.choose_first(4.0, floor=1.0) == 6.0
    # A quarter of the spread apart, after the age of 30 by a quarter of what it is late.
    assert [pace.choose_pause(age, floor=1.0) for age in (10.0, 20.0, 30.0, 40.0, 42.0, 70.0, 90.0, 500.0)] == [
        1.25,
        1.25,
        1.25,
        2.5,
        3.0,
        10.0,
        15.0,
        15.0,
    ]


def test_a_look_that_came_too_early_waits_for_the_first_plausible_end() -> None:
    pace = Pace()
    pace.assume(20.0)
    assert pace.choose_pause(3.0, floor=1.0) == 7.0


def test_the_first_look_waits_a_minute_at_most_and_others_a_quarter_of_one() -> None:
    pace = Pace()
    pace.assume(400.0)
    assert pace.choose_first(0.0, floor=1.0) == 60.0
    assert pace.choose_pause(60.0, floor=1.0) == 15.0


@pytest.mark.parametrize("age", [0.0, 10.0, 20.0, 1000.0])
def test_no_pause_is_shorter_than_the_floor_even_where_that_is_long(age: float) -> None:
    pace = Pace()
    assert pace.choose_pause(age, floor=40.0) == 40.0
    pace.assume(2.0)
    assert pace.choose_first(age, floor=40.0) == 40.0
    assert pace.choose_pause(age, floor=40.0) == 40.0


def test_a_time_is_taken_from_between_the_looks() -> None:
    pace = Pace()
    pace.learn(after=18.0, by=22.0)
    assert (pace.typical, pace.spread) == (20.0, 5.0)
    pace.learn(after=29.0, by=31.0)
    assert (pace.typical, pace.spread) == (25.0, 7.5)  # each of the two counts half
    for _ in range(5):
        pace.learn(after=25.0, by=25.0)
    pace.spread = 8.0
    pace.learn(after=33.0, by=33.0)
    assert (pace.typical, pace.spread) == (26.0, 8.0)  # an eighth, and a quarter of the deviation


def test_where_nobody_looked_before_three_quarters_count() -> None:
    pace = Pace()
    pace.learn(after=0.0, by=8.0)
    assert pace.typical == 6.0


def test_tasks_that_became_faster_are_found_out() -> None:
    """Each look finds its task ended: only that it took no longer is known."""
    pace = Pace()
    for _ in range(10):
        pace.learn(after=99.0, by=101.0)
    assert pace.choose_first(0.0, floor=1.0) == 60.0
    firsts: list[float] = []
    while len(firsts) < 40 and (not firsts or firsts[-1] >= 5.0):
        firsts.append(pace.choose_first(0.0, floor=1.0))
        pace.learn(after=0.0, by=firsts[-1])
    assert len(firsts) < 15


def test_one_that_hung_for_hours_counts_as_four() -> None:
    pace = Pace()
    for _ in range(8):
        pace.learn(after=30.0, by=30.0)
    pace.learn(after=10_000.0, by=10_000.0)
    assert pace.typical == 30.0 + (120.0 - 30.0) / 8


def test_times_that_never_vary_leave_a_twentieth() -> None:
    pace = Pace()
    for _ in range(60):
        pace.learn(after=40.0, by=40.0)
    assert pace.spread < 0.01
    assert pace.choose_first(0.0, floor=1.0) == pytest.approx(36.0)
    assert pace.choose_pause(36.0, floor=0.2) == pytest.approx(0.5)
