"""What failures mean for health, and the rules of one offer's circuit, cool-downs and canary; no database."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from crazyrouter.generation.outcomes import STORAGE_CODE
from providers.contract import Billed, Code, Scope
from providers.health.circuits import (
    Pulse,
    Seen,
    choose_cooling_s,
    count_throttles,
    double_pause,
    find_outage,
    judge_canary,
)
from providers.health.effects import Effect, find_effect

NOW = 1_000_000.0
#: A refusal by moderation is the customer's whoever reports it.
CUSTOMERS = {Code.CONTENT_POLICY}
OURS = {Code.AUTH, Code.ARREARS, Code.NOT_AVAILABLE}
THROTTLED = {Code.RATE_LIMITED}


# --- effects -------------------------------------------------------------------------------------------------------


def expect(code: Code, scope: Scope, billed: Billed) -> Effect:
    """The table of causes in words: whose fault it is, and whether anything can be had there before it is mended."""
    if scope is Scope.REQUEST or code in CUSTOMERS:
        return Effect.NONE
    if code in THROTTLED:
        return Effect.COOL
    if code in OURS and billed is Billed.NO:
        return Effect.DISABLE_CHANNEL if scope is Scope.CHANNEL else Effect.DISABLE_OFFER
    return Effect.FAULT


def test_every_failure_has_its_effect() -> None:
    cells = list(product(Code, Scope, Billed))
    assert {cell: find_effect(*cell) for cell in cells} == {cell: expect(*cell) for cell in cells}


def test_the_effects_of_all_failures_add_up() -> None:
    """13 codes, 3 scopes, 3 answers to who is billed."""
    effects = Counter(find_effect(*cell) for cell in product(Code, Scope, Billed))
    assert effects == {
        Effect.NONE: 13 * 3 + 2 * 3,
        Effect.COOL: 2 * 3,
        Effect.DISABLE_OFFER: 3,
        Effect.DISABLE_CHANNEL: 3,
        Effect.FAULT: 8 * 2 * 3 + 3 * 2 * 2,
    }


@pytest.mark.parametrize("code", [STORAGE_CODE, "", "unheard_of"])
def test_trouble_of_our_own_is_none_of_the_upstreams(code: str) -> None:
    assert find_effect(code, Scope.CHANNEL, Billed.YES) is Effect.NONE


def test_a_task_that_was_taken_disables_nothing() -> None:
    """A credential that does not open cannot poll its task; the carrier has refused nothing."""
    assert find_effect(Code.AUTH, Scope.CHANNEL, Billed.UNKNOWN) is Effect.FAULT
    assert find_effect(Code.AUTH, Scope.CHANNEL) is Effect.DISABLE_CHANNEL


# --- circuits ------------------------------------------------------------------------------------------------------


def fail(at: float, code: str = Code.OVERLOADED, *, ms: int = 1000) -> Seen:
    return Seen(at, 0, ms, code)


def succeed(at: float, *, ms: int = 1000) -> Seen:
    return Seen(at, 1, ms, "")


def feed(pulse: Pulse, *calls: Seen) -> Pulse:
    for call in calls:
        pulse.note_success(call) if call.ok else pulse.note_fault(call)
    return pulse


def test_half_of_the_calls_of_a_minute_open_it() -> None:
    pulse = feed(Pulse(1), *(succeed(NOW + n) for n in range(3)), fail(NOW + 3), fail(NOW + 4))
    assert pulse.circuit == "closed"
    feed(pulse, fail(NOW + 5))
    assert (pulse.circuit, pulse.pause_s, pulse.moved) == ("open", 30, True)
    assert pulse.reason == "3 of 6 calls failed within a minute: overloaded"


def test_fewer_than_half_leave_it_closed() -> None:
    calls = [call for n in range(0, 40, 10) for call in (succeed(NOW + n), succeed(NOW + n + 1), fail(NOW + n + 2))]
    assert feed(Pulse(1), *calls).circuit == "closed"


def test_where_calls_are_rare_five_in_a_row_open_it() -> None:
    pulse = feed(Pulse(1), succeed(NOW), *(fail(NOW + 70 * n) for n in range(1, 5)))
    assert pulse.circuit == "closed"
    feed(pulse, fail(NOW + 350))
    assert (pulse.circuit, pulse.reason) == ("open", "5 calls in a row failed: overloaded")


def test_three_that_never_reached_it_open_it() -> None:
    pulse = feed(Pulse(1), *(succeed(NOW + n) for n in range(20)), *(fail(NOW + n, "unreachable") for n in (20, 21)))
    assert pulse.circuit == "closed"
    pulse.note_fault(fail(NOW + 22, "unreachable"), "ConnectionRefusedError")
    assert pulse.reason == "3 calls in a row did not reach it: unreachable: ConnectionRefusedError"
    assert pulse.circuit == "open"


def test_a_success_between_them_starts_the_row_anew() -> None:
    calls = [fail(NOW, "unreachable"), fail(NOW + 1, "unreachable"), succeed(NOW + 2), fail(NOW + 3, "unreachable")]
    assert feed(Pulse(1), *calls).circuit == "closed"


def test_calls_older_than_ten_minutes_are_forgotten() -> None:
    pulse = feed(Pulse(1), *(fail(NOW + n) for n in range(4)), fail(NOW + 602.5))
    assert pulse.recent == [fail(NOW + 3), fail(NOW + 602.5)]
    assert pulse.circuit == "closed"


def test_the_window_holds_fifty_calls() -> None:
    pulse = feed(Pulse(1), *(succeed(NOW + n) for n in range(60)))
    assert pulse.recent == [succeed(NOW + n) for n in range(10, 60)]


def test_what_ended_earlier_is_placed_earlier() -> None:
    pulse = feed(Pulse(1), succeed(NOW + 5), fail(NOW + 3), succeed(NOW + 4))
    assert pulse.recent == [fail(NOW + 3), succeed(NOW + 4), succeed(NOW + 5)]


def test_what_was_under_way_when_it_broke_changes_nothing_more() -> None:
    """Its failures come in long after the circuit opened, half-opened or closed again."""
    for circuit in ("open", "half_open", "closed"):
        pulse = Pulse(1, circuit=circuit, changed_at=NOW, pause_s=60)
        feed(pulse, *(fail(NOW + 5, ms=6000) for _ in range(10)))
        assert (pulse.circuit, pulse.pause_s, pulse.moved) == (circuit, 60, False)
        assert len(pulse.recent) == 10
    pulse = feed(Pulse(1, circuit="half_open", changed_at=NOW), succeed(NOW + 5, ms=6000))
    assert pulse.circuit == "half_open"


def test_one_call_closes_a_half_open_circuit() -> None:
    pulse = Pulse(
        1, circuit="half_open", changed_at=NOW, pause_s=240, recent=[fail(NOW - n) for n in range(50, 40, -1)]
    )
    feed(pulse, succeed(NOW + 9, ms=8000))
    assert (pulse.circuit, pulse.pause_s, pulse.reason) == ("closed", 0, "a call succeeded")
    pulse.changed_at = NOW + 9
    # What failed before it closed does not open it again.
    feed(pulse, *(fail(NOW + n, ms=0) for n in range(10, 14)))
    assert pulse.circuit == "closed"
    assert feed(pulse, fail(NOW + 14, ms=0)).circuit == "open"
    assert pulse.pause_s == 30


def test_one_call_opens_a_half_open_circuit_for_twice_as_long() -> None:
    pulse = Pulse(1, circuit="half_open", changed_at=NOW, pause_s=60)
    pulse.note_fault(fail(NOW + 3), "try later")
    assert (pulse.circuit, pulse.pause_s) == ("open", 120)
    assert pulse.reason == "the one call that tried it failed: overloaded: try later"


def test_a_call_on_trial_decides_whenever_it_began() -> None:
    began_before = fail(NOW + 1, ms=9000)
    pulse = Pulse(1, circuit="half_open", changed_at=NOW, pause_s=30)
    pulse.note_fault(began_before, on_trial=True)
    assert (pulse.circuit, pulse.pause_s) == ("open", 60)
    pulse = Pulse(1, circuit="half_open", changed_at=NOW, pause_s=30)
    pulse.note_success(succeed(NOW + 1, ms=9000), on_trial=True)
    assert pulse.circuit == "closed"


def test_pauses_double_up_to_ten_minutes() -> None:
    pauses = [30]
    while len(pauses) < 7:
        pauses.append(double_pause(pauses[-1]))
    assert pauses == [30, 60, 120, 240, 480, 600, 600]
    assert double_pause(0) == 30


def test_the_mean_time_is_that_of_good_calls() -> None:
    pulse = feed(Pulse(1), succeed(NOW, ms=10_000))
    assert pulse.latency_ms == 10_000
    feed(pulse, fail(NOW + 1, ms=300_000), succeed(NOW + 2, ms=20_000))
    assert pulse.latency_ms == 12_000


def test_a_reason_fits_its_column() -> None:
    pulse = Pulse(1, circuit="half_open", changed_at=NOW)
    pulse.note_fault(fail(NOW + 3), "x" * 1000)
    assert len(pulse.reason) == 300


def test_no_calls_are_no_outage() -> None:
    assert find_outage([], now=NOW) == ""


# --- cool-downs ----------------------------------------------------------------------------------------------------


def throttle(at: float) -> Seen:
    return Seen(at, 0, 200, Code.RATE_LIMITED)


def test_a_carrier_says_how_long() -> None:
    assert [choose_cooling_s(said) for said in (0.0, 7.0, 600.0, 86_400.0)] == [1.0, 7.0, 600.0, 600.0]


def test_without_a_word_it_rests_longer_each_time_up_to_a_minute() -> None:
    pulse, at, rests = Pulse(1), NOW, []
    for _ in range(5):
        pulse.note_throttle(throttle(at))
        rests.append(pulse.cooling_until - at)
        at = pulse.cooling_until
    assert rests == [10, 20, 40, 60, 60]
    assert pulse.cooling_reason == "throttled: rate_limited"


def test_a_success_makes_the_next_rest_short_again() -> None:
    pulse = Pulse(1)
    pulse.note_throttle(throttle(NOW))
    pulse.note_throttle(throttle(NOW + 11))
    feed(pulse, succeed(NOW + 40))
    assert count_throttles(pulse.recent) == 0
    pulse.note_throttle(throttle(NOW + 41))
    assert pulse.cooling_until == NOW + 51


def test_a_burst_of_refusals_is_one() -> None:
    pulse = Pulse(1)
    for n in range(20):
        pulse.note_throttle(throttle(NOW + n / 100))
    assert (pulse.cooling_until, pulse.recent) == (NOW + 10, [throttle(NOW)])


def test_the_longest_word_holds() -> None:
    pulse = Pulse(1)
    pulse.note_throttle(throttle(NOW), retry_after_s=30)
    pulse.note_throttle(throttle(NOW + 1), "slower, please", retry_after_s=60)
    pulse.note_throttle(throttle(NOW + 2), retry_after_s=5)
    assert (pulse.cooling_until, pulse.cooling_reason) == (NOW + 61, "throttled: rate_limited: slower, please")


def test_being_throttled_opens_no_circuit() -> None:
    pulse = Pulse(1)
    for n in range(20):
        pulse.note_throttle(throttle(NOW + 70 * n))
    assert (pulse.circuit, pulse.moved) == ("closed", False)
    feed(pulse, fail(NOW + 1400), fail(NOW + 1401))
    assert pulse.circuit == "closed"


def test_a_trial_without_a_word_about_the_upstream_is_free_again() -> None:
    pulse = Pulse(1, circuit="half_open", changed_at=NOW, probe_owner="gen_01#1")
    pulse.free_trial("gen_02")
    pulse.free_trial("")
    assert not pulse.freed
    pulse.free_trial("gen_01")
    assert (pulse.freed, pulse.moved) == (True, False)


# --- canaries ------------------------------------------------------------------------------------------------------


def judge(calls: list[Seen], success: int | None = None, latency_s: int | None = None) -> str:
    return judge_canary(calls, min_success=success, max_latency_s=latency_s)


def test_a_canary_falls_below_its_share_of_good_calls() -> None:
    calls = [succeed(NOW)] * 9 + [fail(NOW)]
    assert judge(calls, success=90) == ""
    assert judge(calls, success=91) == "9 of its latest 10 calls succeeded: fewer than 91 %"
    assert judge([fail(NOW)] * 10) == ""


def test_a_canary_falls_above_its_time() -> None:
    calls = [succeed(NOW, ms=9_000)] * 5 + [succeed(NOW, ms=11_000)] * 5
    assert judge(calls, latency_s=10) == ""
    calls.append(succeed(NOW, ms=11_000))
    assert judge(calls, latency_s=10) == "its latest 11 good calls took 10.1 s: more than 10"


def test_a_canary_is_not_judged_by_nine_calls_or_by_throttles() -> None:
    calls = [fail(NOW)] * 9 + [throttle(NOW)] * 5
    assert judge(calls, success=100) == ""
    assert judge([*calls, succeed(NOW)], success=100) == "1 of its latest 10 calls succeeded: fewer than 100 %"


def test_a_canary_that_only_fails_has_no_time() -> None:
    assert judge([fail(NOW, ms=300_000)] * 10, latency_s=10) == ""
