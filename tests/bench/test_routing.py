"""The bench of the schedule: every request starts, no carrier would throttle, and the ideal is never slower."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crazyrouter.management.bench.looks import count_densest_second
from crazyrouter.management.bench.routing import describe_waits, make_listing, pick
from crazyrouter.management.bench.schedule import IDEAL, POOLS, PRODUCT, Hour, Pool, count_throttled, draw_arrivals
from providers.routing import Wish, choose


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.model)
def test_an_hour_serves_everybody_within_the_limits(pool: Pool) -> None:
    arrivals = draw_arrivals(pool, seed=3)[:400]
    product, ideal = Hour(pool, PRODUCT), Hour(pool, IDEAL)
    ours, theirs = product.run(arrivals), ideal.run(arrivals)
    assert len(ours.list_all()) == len(theirs.list_all()) == len(arrivals)
    assert (ours.throttled, theirs.throttled) == (0, 0)
    assert sum(ours.list_all()) >= sum(theirs.list_all())
    assert describe_waits(ours, theirs)["requests"] == len(arrivals)
    if pool.max_running:
        assert all(count_most_at_once(pool, moments) <= pool.max_running for moments in product.sent.values())


def count_most_at_once(pool: Pool, moments: list[int]) -> int:
    """At least so many ran together: each takes the shortest time or longer."""
    return max(sum(start <= at < start + pool.call_ms[0] for start in moments) for at in moments)


def test_what_a_carrier_would_throttle_is_counted() -> None:
    pool = replace(POOLS[0], interval_ms=500, burst=2)
    assert count_throttled(pool, [0, 0, 1000, 1000]) == 0
    assert count_throttled(pool, [0, 0, 999, 1000]) == 1
    assert count_throttled(replace(pool, interval_ms=None), [0, 0, 0]) == 0


def test_percentiles_and_densest_seconds() -> None:
    assert [pick(list(range(0, 100_000, 1000)), share) for share in (0.5, 0.99)] == [50.0, 99.0]
    assert count_densest_second([0.0, 0.5, 0.9, 1.0, 1.4, 3.0]) == 4
    assert count_densest_second([]) == 0


def test_the_listing_of_the_bench_has_every_kind_of_obstacle() -> None:
    decision = choose(make_listing(), Wish((1024, 1024), frozenset({"seed"})), luck=0.0)
    reasons = {one.why.split(":")[0] for one in decision.excluded}
    assert reasons == {"the channel is disabled", "it does not render 1024x1024", "it does not take seed"}
    assert decision.candidates[0].offer_id == 25
