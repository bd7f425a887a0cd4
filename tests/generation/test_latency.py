"""Times in buckets, and what can be read from them."""

from __future__ import annotations

import random

import pytest

from crazyrouter.generation.latency import LAST, find_bounds_s, find_bucket, read_percentile_s


@pytest.mark.parametrize(
    ("ms", "bucket"),
    [(0, 0), (99, 0), (100, 0), (105, 1), (199, 15), (200, 16), (1_000, 53), (10_000, 106), (60_000, 147)],
)
def test_each_time_has_its_bucket(ms: int, bucket: int) -> None:
    assert find_bucket(ms) == bucket
    start, end = find_bounds_s(bucket)
    assert start <= ms / 1000 < end


def test_the_last_takes_all_that_is_longer() -> None:
    assert (find_bucket(13_107_199), find_bucket(13_107_200), find_bucket(10**9)) == (LAST - 1, LAST, LAST)
    assert find_bounds_s(LAST)[0] == 13_107.2


def test_nothing_has_no_percentile() -> None:
    assert read_percentile_s({}, 0.5) is None


def test_times_are_spread_evenly_in_their_bucket() -> None:
    # Bucket 64 reaches from 1.6 s to 1.670838 s.
    histogram = {64: 2}
    assert [round(read_percentile_s(histogram, share) or 0, 6) for share in (0.5, 1.0)] == [1.61771, 1.653129]


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 1_000])
def test_a_percentile_is_within_the_bucket_of_the_exact_one(count: int) -> None:
    dice = random.Random(count)
    times = sorted(int(dice.lognormvariate(9, 1)) for _ in range(count))
    histogram: dict[int, int] = {}
    for ms in times:
        histogram[find_bucket(ms)] = histogram.get(find_bucket(ms), 0) + 1
    for percent in (1, 50, 95, 99, 100):
        exact = times[-(-percent * count // 100) - 1]
        start, end = find_bounds_s(find_bucket(exact))
        assert start < (read_percentile_s(histogram, percent / 100) or 0) < end
