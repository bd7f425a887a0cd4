"""Times as counts in buckets: histograms of different hours add up, percentiles do not.

Bucket `i` begins at 0.1 s times 2 to the power of `i`/16 and ends where the next one begins, so that it is 4.4 % wide.
What is shorter is in bucket 0, what is longer in the last, 272, which begins at 3 h 38 min. Times are whole
milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

SHORTEST_MS = 100
PER_OCTAVE = 16
LAST = 17 * PER_OCTAVE

#: Bucket -> how many.
Histogram = Mapping[int, int]


def find_bucket(ms: int) -> int:
    """The bucket of a time. Half a millisecond more than it is: no bucket begins there, so that no rounding matters."""
    position = math.log(max(ms + 0.5, SHORTEST_MS) / SHORTEST_MS) * PER_OCTAVE / math.log(2)
    return min(int(position), LAST)


def find_bounds_s(bucket: int) -> tuple[float, float]:
    """From when to when a bucket reaches, in seconds."""
    start, end = (SHORTEST_MS / 1000 * 2 ** (edge / PER_OCTAVE) for edge in (bucket, bucket + 1))
    return (start if bucket else 0.0, end)


def read_percentile_s(histogram: Histogram, share: float) -> float | None:
    """The time at rank ceil(share * n), the quickest being the first, as if a bucket's times were spread evenly in it.

    It is off by less than the width of its bucket. None where there is no time at all.
    """
    rank = math.ceil(share * sum(histogram.values()))
    below = 0
    for bucket, count in sorted(histogram.items()):
        if below < rank <= below + count:
            start, end = find_bounds_s(bucket)
            return start + (end - start) * (rank - below - 0.5) / count
        below += count
    return None
