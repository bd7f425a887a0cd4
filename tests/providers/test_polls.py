"""Moments for task queries: one rate for an account, whichever process asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from django.db import connection, transaction

from crazyrouter.generation import lane as lane_module
from crazyrouter.generation.lane import Entry
from crazyrouter.sql import read_epoch_ms
from providers import polls
from providers.models import UpstreamAccount
from providers.polls import SPAN_MS, Reservation, Window, get_spacing_s, reserve_polls
from tests.race import race

pytestmark = pytest.mark.usefixtures("database")

NOW = 1_800_000_000_000


class Clock:
    """The database's clock as the tests set it."""

    def __init__(self) -> None:
        self.ms = NOW

    def __call__(self, _: object) -> int:
        return self.ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(polls, "read_epoch_ms", clock)
    return clock


def open_account(polls_per_s: int | None = 20, *, until: int = 0, name: str = "acme") -> UpstreamAccount:
    return UpstreamAccount.objects.create(name=name, polls_per_s=polls_per_s, polls_reserved_until_ms=until)


def reserve(*items: Reservation) -> list[Window]:
    with transaction.atomic():
        return reserve_polls(connection, items)


def read_until(account: UpstreamAccount) -> int:
    return UpstreamAccount.objects.get(pk=account.pk).polls_reserved_until_ms


def test_moments_follow_each_other_at_the_rate(clock: Clock) -> None:
    account = open_account(20)
    (window,) = reserve(Reservation(account.pk, 4))
    assert window.delays == (0.0, 0.0625, 0.125, 0.1875)
    assert (window.polls_per_s, get_spacing_s(20)) == (20, 0.0625)
    assert read_until(account) == NOW + 250
    clock.ms += 100
    (window,) = reserve(Reservation(account.pk, 2))
    assert window.delays == (0.15, 0.2125)
    assert read_until(account) == NOW + 375


def test_what_nobody_used_is_gone(clock: Clock) -> None:
    account = open_account(20)
    reserve(Reservation(account.pk, 1))
    clock.ms += 10_000
    (window,) = reserve(Reservation(account.pk, 2, ahead_ms=30))
    assert window.delays == (0.03, 0.0925)
    assert read_until(account) == NOW + 10_000 + 30 + 125


@pytest.mark.parametrize("polls_per_s", [1, 3, 7, 20, 99])
def test_one_more_than_the_rate_never_fits_into_a_second(clock: Clock, polls_per_s: int) -> None:
    account = open_account(polls_per_s)
    moments: list[float] = []
    for step in range(60):
        (window,) = reserve(Reservation(account.pk, 1 + step % 5))
        moments += [clock.ms + delay * 1000 for delay in window.delays]
        clock.ms += 37 * (step % 4)
    assert len(moments) > polls_per_s
    spans = [moments[at + polls_per_s] - moments[at] for at in range(len(moments) - polls_per_s)]
    assert min(spans) >= SPAN_MS - 0.01


def test_several_of_one_process_share_in_their_order(clock: Clock) -> None:
    one, other = open_account(20), open_account(10, name="other")
    windows = reserve(Reservation(one.pk, 2), Reservation(other.pk, 1), Reservation(one.pk, 1))
    assert [window.delays for window in windows] == [(0.0, 0.0625), (0.0,), (0.125,)]
    assert [window.polls_per_s for window in windows] == [20, 10, 20]
    assert (read_until(one), read_until(other)) == (NOW + 188, NOW + 125)


def test_one_reservation_is_bounded(clock: Clock) -> None:
    account = open_account(1)
    first, second = reserve(Reservation(account.pk, 1000), Reservation(account.pk, 1))
    assert (len(first.delays), second.delays, second.retry_s) == (40, (), 0.03)
    assert read_until(account) == NOW + 50_000


def test_without_a_limit_there_is_nothing_to_reserve(clock: Clock) -> None:
    account = open_account(None)
    windows = reserve(Reservation(account.pk, 2), Reservation(account.pk + 1, 2))
    assert [(window.delays, window.polls_per_s) for window in windows] == [((), None), ((), None)]
    assert read_until(account) == 0


def test_far_ahead_nothing_is_handed_out(clock: Clock) -> None:
    account = open_account(20, until=NOW + 12_500)
    (window,) = reserve(Reservation(account.pk, 1))
    assert (window.delays, window.polls_per_s, window.retry_s) == ((), 20, 2.5)
    assert read_until(account) == NOW + 12_500


def test_a_clock_that_was_set_back_does_not_stop_the_account(clock: Clock) -> None:
    account = open_account(20, until=NOW + 3_600_000)
    (window,) = reserve(Reservation(account.pk, 1, ahead_ms=10))
    assert window.delays == (0.01,)
    assert read_until(account) == NOW + 10 + 63


def test_moments_are_told_from_when_the_clock_was_read() -> None:
    account = open_account(20)
    before = time.monotonic()
    (window,) = reserve(Reservation(account.pk, 1))
    assert before <= window.read_at <= time.monotonic()
    assert abs(read_until(account) - 63 - read_epoch_ms(connection)) < 60_000  # the real clock, in milliseconds


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_a_row_that_is_taken_is_not_waited_for(clock: Clock) -> None:
    account, other = open_account(20), open_account(20, name="other")
    held, over = threading.Event(), threading.Event()

    def work(number: int) -> object:
        if number == 0:
            with transaction.atomic():
                reserve_polls(connection, [Reservation(account.pk, 3)])
                held.set()
                assert over.wait(10)
            return None
        assert held.wait(10)
        try:
            return reserve(Reservation(account.pk, 1), Reservation(other.pk, 1))
        finally:
            over.set()

    _, windows = race(2, work)
    assert isinstance(windows, list)
    assert [(window.delays, window.polls_per_s, window.retry_s) for window in windows] == [
        ((), 20, 0.03),
        ((0.0,), 20, 0.03),
    ]
    assert read_until(account) == NOW + 188


def test_a_reservation_takes_no_account_of_a_customer() -> None:
    """What the lane locks first are rows of those who pay."""
    assert not hasattr(Reservation(1, 1), "account_id")


def test_processes_share_one_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the lane's own transactions, by the database's own clock."""
    account = open_account(50)
    clocks = threading.local()

    def read_and_keep(connection: object) -> int:
        clocks.ms = read_epoch_ms(connection)  # type: ignore[arg-type]
        return clocks.ms

    monkeypatch.setattr(polls, "read_epoch_ms", read_and_keep)

    def work(number: int) -> list[float]:
        moments: list[float] = []
        for _ in range(400):
            if len(moments) >= 60:
                break
            entry = Entry(reserve_polls, Reservation(account.pk, 1 + number), None)
            lane_module.write_batch([entry])
            assert entry.error is None, entry.error
            moments += [clocks.ms + delay * 1000 for delay in entry.result.delays]
            if not entry.result.delays:
                time.sleep(entry.result.retry_s)
        return moments

    given: Sequence[object] = race(6, work)
    assert all(isinstance(moments, list) and len(moments) >= 60 for moments in given), given
    everybody = sorted(moment for moments in given for moment in moments)  # type: ignore[attr-defined]
    assert min(later - sooner for sooner, later in pairwise(everybody)) >= get_spacing_s(50) * 1000 - 0.01
