"""How an offer comes back: one probe over all processes, then one real call, and claims that outlive nobody."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from crazyrouter.sql import read_clock
from providers.health import Probed, Trial, claim_probes, claim_trials, finish_probes, release_trials
from providers.models import Channel, Offer, OfferHealth
from tests.providers.clinic import count_seconds, make_health, open_offer, read_health, record, report, write
from tests.race import race
from tests.server import ROOT, build_environment


@pytest.fixture
def offer(database: None) -> Offer:
    return open_offer()


def move(offer: Offer, **seconds: float) -> None:
    """Set moments of the row, in seconds from now."""
    now = read_clock(connection)
    OfferHealth.objects.filter(offer=offer).update(
        **{column: now + timedelta(seconds=by) for column, by in seconds.items()}
    )


def open_circuit(offer: Offer, *, since_s: float = 1.0, pause_s: int = 30) -> None:
    """A circuit whose pause is over since so many seconds."""
    make_health(offer, "open", pause_s=pause_s, reason="5 calls in a row failed")
    move(offer, retry_at=-since_s, changed_at=-since_s - pause_s)


def claim(owner: str) -> tuple[int, ...]:
    (claimed,) = write(claim_probes, [owner])
    return claimed


def finish(offer: Offer, owner: str, *, ok: bool, detail: str = "") -> bool:
    (written,) = write(finish_probes, [Probed(offer.pk, owner, ok, detail)])
    return written


def try_out(*trials: Trial) -> list[bool]:
    return write(claim_trials, trials)


# --- probes --------------------------------------------------------------------------------------------------------


def test_an_open_circuit_waits_for_its_pause(offer: Offer) -> None:
    open_circuit(offer, since_s=-5)
    assert claim("a") == ()
    move(offer, retry_at=-0.1)
    assert claim("a") == (offer.pk,)
    health = read_health(offer)
    assert (health.circuit, health.probe_owner, health.pause_s) == ("half_open", "probe.a", 30)
    assert 29 < count_seconds(offer, "probe_until") <= 30
    assert -1 < count_seconds(offer, "changed_at") <= 0
    assert claim("a") == claim("b") == ()


def test_what_serves_nobody_is_not_probed(offer: Offer) -> None:
    open_circuit(offer)
    for model, change, back in (
        (Offer, {"enabled": False}, {"enabled": True}),
        (Channel, {"enabled": False}, {"enabled": True}),
        (Channel, {"draining_since": read_clock(connection)}, {"draining_since": None}),
    ):
        model.objects.update(**change)
        assert claim("a") == ()
        model.objects.update(**back)
    assert claim("a") == (offer.pk,)


def test_a_probe_that_fails_opens_it_for_twice_as_long(offer: Offer) -> None:
    open_circuit(offer, pause_s=480)
    for pause in (600, 600):
        assert claim("a") == (offer.pk,)
        assert finish(offer, "a", ok=False, detail="unreachable: refused") is True
        health = read_health(offer)
        assert (health.circuit, health.pause_s, health.probe_owner) == ("open", pause, "")
        assert health.reason == "the probe failed: unreachable: refused"
        assert pause - 1 < count_seconds(offer, "retry_at") <= pause
        assert claim("a") == ()
        move(offer, retry_at=-1)


def test_a_prober_that_died_is_followed_by_another(offer: Offer) -> None:
    open_circuit(offer)
    assert claim("dead") == (offer.pk,)
    since = read_health(offer).changed_at
    move(offer, probe_until=-0.1)
    # Nobody knows what its probe would have said: no real call yet.
    assert try_out(Trial(offer.pk, "gen_1#1")) == [False]
    assert claim("next") == (offer.pk,)
    assert finish(offer, "dead", ok=False) is False
    assert read_health(offer).changed_at == since
    assert finish(offer, "next", ok=True) is True
    assert (read_health(offer).probe_owner, read_health(offer).probe_until) == ("", None)


def test_a_probe_that_was_overtaken_by_a_reset_says_nothing(offer: Offer) -> None:
    open_circuit(offer)
    assert claim("a") == (offer.pk,)
    OfferHealth.objects.update(circuit="closed", probe_owner="", probe_until=None)
    assert finish(offer, "a", ok=False) is False
    assert read_health(offer).circuit == "closed"


# --- trials --------------------------------------------------------------------------------------------------------


def half_open(offer: Offer) -> None:
    open_circuit(offer)
    assert claim("a") == (offer.pk,)
    assert finish(offer, "a", ok=True)


def test_one_real_call_is_let_through(offer: Offer) -> None:
    half_open(offer)
    first, second = Trial(offer.pk, "gen_1#1"), Trial(offer.pk, "gen_2#1")
    assert try_out(second, first) == [True, False]
    assert try_out(first, second) == [False, True]  # the second's again: its commit was lost
    health = read_health(offer)
    assert (health.circuit, health.probe_owner) == ("half_open", "gen_2#1")
    assert 119 < count_seconds(offer, "probe_until") <= 120
    assert claim("a") == ()


def test_a_trial_is_granted_where_it_is_needed_no_more(offer: Offer) -> None:
    other = open_offer(name="other")
    make_health(offer, "closed")
    trials = [Trial(offer.pk, "gen_1#1"), Trial(other.pk, "gen_1#2"), Trial(offer.pk, "gen_2#1")]
    assert try_out(*trials) == [True, True, True]
    OfferHealth.objects.update(circuit="open")
    assert try_out(*trials) == [False, True, False]


def test_a_trial_whose_process_died_is_followed_by_another(offer: Offer) -> None:
    half_open(offer)
    assert try_out(Trial(offer.pk, "gen_1#1")) == [True]
    move(offer, probe_until=-0.1)
    assert try_out(Trial(offer.pk, "gen_2#1")) == [True]
    assert try_out(Trial(offer.pk, "gen_1#1")) == [False]


def test_a_trial_that_is_not_made_is_given_back(offer: Offer) -> None:
    half_open(offer)
    trial = Trial(offer.pk, "gen_1#1")
    assert try_out(trial) == [True]
    write(release_trials, [Trial(offer.pk, "gen_2#1")])
    assert try_out(Trial(offer.pk, "gen_2#1")) == [False]
    write(release_trials, [trial])
    assert try_out(Trial(offer.pk, "gen_2#1")) == [True]


def test_the_whole_way_round(offer: Offer) -> None:
    """closed, open, half-open, open for longer, half-open, closed."""
    seen = []

    def note() -> None:
        health = read_health(offer)
        seen.append((health.circuit, health.pause_s))

    record(*[report(offer, "overloaded") for _ in range(5)])
    note()
    for end in ("overloaded", ""):
        move(offer, retry_at=-1)
        assert claim("a") == (offer.pk,)
        assert finish(offer, "a", ok=True)
        note()
        assert try_out(Trial(offer.pk, f"gen_{end}#1")) == [True]
        record(report(offer, end, trial=True))
        note()
    assert seen == [("open", 30), ("half_open", 30), ("open", 60), ("half_open", 60), ("closed", 0)]


# --- at the same time ----------------------------------------------------------------------------------------------


def count_winners(results: Sequence[object], won: Callable[[object], bool]) -> int:
    assert not [one for one in results if isinstance(one, Exception)], results
    return sum(won(one) for one in results)


def test_one_of_many_threads_probes_each_circuit(offer: Offer) -> None:
    offers = [offer, *(open_offer(name=f"other-{number}") for number in range(4))]
    for one in offers:
        open_circuit(one)
    claimed: list[Any] = race(6, lambda number: claim(f"p{number}"))
    assert sorted(pk for pks in claimed for pk in pks) == sorted(one.pk for one in offers)


def test_one_of_many_threads_has_the_trial(offer: Offer) -> None:
    half_open(offer)
    granted = race(6, lambda number: try_out(Trial(offer.pk, f"gen_{number}#1")))
    assert count_winners(granted, lambda one: one == [True]) == 1


def test_one_of_many_threads_follows_a_dead_one(offer: Offer) -> None:
    half_open(offer)
    assert try_out(Trial(offer.pk, "gen_dead#1")) == [True]
    move(offer, probe_until=-0.1)

    def work(number: int) -> bool:
        return (
            claim(f"p{number}") == (offer.pk,) if number % 2 else try_out(Trial(offer.pk, f"gen_{number}#1")) == [True]
        )

    assert count_winners(race(6, work), bool) == 1


def test_one_of_many_processes_probes_each_circuit(offer: Offer) -> None:
    other = open_offer(name="other")
    for one in (offer, other):
        open_circuit(one)
    moment = time.time() + 6
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.providers.prober", f"p{number}", str(moment)],
            cwd=ROOT,
            env=build_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    claimed = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(int(pk) for pks in claimed for pk in pks) == sorted((offer.pk, other.pk))


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_a_trial_waits_for_nobody(offer: Offer) -> None:
    """Customers' money stands behind it in the same transaction."""
    half_open(offer)
    locked, done = threading.Event(), threading.Event()

    def work(number: int) -> object:
        if number == 0:
            with transaction.atomic():
                OfferHealth.objects.select_for_update().get()
                locked.set()
                assert done.wait(20)
            return None
        assert locked.wait(20)
        try:
            return try_out(Trial(offer.pk, "gen_1#1"))
        finally:
            done.set()

    assert race(2, work) == [None, [False]]
    assert try_out(Trial(offer.pk, "gen_1#1")) == [True]
