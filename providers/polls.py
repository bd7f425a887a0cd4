"""Task queries at an upstream account: one rate, shared exactly by all processes.

Carriers count the queries of an account in a sliding second, over all of its keys and models (20 a second: Model
Studio, asynchronous task API, 2026). The account's row says up to which moment queries have been handed out; the next
moments are handed out by one conditional UPDATE, evenly spaced, whichever process asks. Nothing else writes that
column. Of an account with P queries a second, any P + 1 moments in a row are SPAN_MS apart, over all processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement, read_epoch_ms

#: The carrier's second, and how much later than its moment a query may arrive: by a late sender, by the network.
SPAN_MS = 1250
#: Moments that one reservation gives at most.
MOST_POLLS = 40
#: Nothing is handed out while the next moment is this far ahead: what is handed out early is more often not used.
FURTHEST_MS = 10_000
#: No reservation reaches this far: the database's clock was set back, and the row counts as free.
CLOCK_LEAP_MS = 120_000
#: Another transaction has the row; it is not waited for.
TAKEN_RETRY_S = 0.03


@dataclass(frozen=True, slots=True)
class Reservation:
    """So many moments, none sooner than `ahead_ms` from now.

    Not `account_id`: what has one moves the money of a customer's account (see `Lane`).
    """

    upstream_account_id: int
    count: int
    ahead_ms: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """The moments handed out: seconds after `read_at`, which is in `time.monotonic()` seconds of this process.

    As many as asked for, or fewer; none means to ask again after `retry_s`. `polls_per_s` is the account's limit as its
    row says it; None: it has none (any more), and is asked without reserving.
    """

    delays: tuple[float, ...]
    read_at: float
    polls_per_s: int | None
    retry_s: float = 0.0


def get_spacing_s(polls_per_s: int) -> float:
    """Seconds between two moments of an account."""
    return SPAN_MS / polls_per_s / 1000


# A row that another transaction holds is left alone: nobody ever waits here, so that no two batches of writes, which
# take other rows in any order, can deadlock over it. The UPDATE reads what the last one left.
RESERVE = Statement(
    f"""
    WITH free AS MATERIALIZED (
        SELECT a.id, r.polls, r.now_ms, r.now_ms + r.ahead_ms AS first_ms
        FROM {{rows}} JOIN providers_upstreamaccount a ON a.id = r.id {{claim:a}})
    UPDATE providers_upstreamaccount
    SET polls_reserved_until_ms = (free.polls * {SPAN_MS} + polls_per_s - 1) / polls_per_s
        + CASE WHEN polls_reserved_until_ms BETWEEN free.first_ms AND free.now_ms + {CLOCK_LEAP_MS}
            THEN polls_reserved_until_ms ELSE free.first_ms END
    FROM free
    WHERE providers_upstreamaccount.id = free.id AND polls_per_s IS NOT NULL
        AND polls_reserved_until_ms NOT BETWEEN free.now_ms + {FURTHEST_MS} AND free.now_ms + {CLOCK_LEAP_MS}
    RETURNING providers_upstreamaccount.id, polls_per_s, polls_reserved_until_ms
    """,  # noqa: S608 - constants of this module
    id="bigint",
    polls="bigint",
    now_ms="bigint",
    ahead_ms="bigint",
)

READ_LIMITS = Statement(
    """
    SELECT a.id, a.polls_per_s, a.polls_reserved_until_ms
    FROM {rows} JOIN providers_upstreamaccount a ON a.id = r.id WHERE a.polls_per_s IS NOT NULL
    """,
    id="bigint",
)


def reserve_polls(connection: BaseDatabaseWrapper, items: Sequence[Reservation]) -> list[Window]:
    """An operation of the lane. Several for one account share what it gets, in their order."""
    counts, ahead = add_up(items)
    now_ms = read_epoch_ms(connection)
    read_at = monotonic()
    rows = [{"id": one, "polls": counts[one], "now_ms": now_ms, "ahead_ms": ahead[one]} for one in sorted(counts)]
    granted = {row[0]: (row[1], row[2]) for row in RESERVE.run(connection, rows)}
    refused = read_refusals(connection, [one for one in counts if one not in granted], now_ms=now_ms, read_at=read_at)
    delays = {
        one: spread(counts[one], polls_per_s=rate, until_ms=until_ms - now_ms)
        for one, (rate, until_ms) in granted.items()
    }
    windows = []
    for item in items:
        one = item.upstream_account_id
        if one in refused:
            windows.append(refused[one])
            continue
        windows.append(Window(tuple(delays[one][: item.count]), read_at, granted[one][0], TAKEN_RETRY_S))
        del delays[one][: item.count]
    return windows


def add_up(items: Sequence[Reservation]) -> tuple[dict[int, int], dict[int, int]]:
    """By account: how many moments are asked for, and how far ahead of now the first may be."""
    counts: dict[int, int] = {}
    ahead: dict[int, int] = {}
    for item in items:
        one = item.upstream_account_id
        counts[one] = min(counts.get(one, 0) + item.count, MOST_POLLS)
        ahead[one] = max(ahead.get(one, 0), item.ahead_ms)
    return counts, ahead


def spread(count: int, *, polls_per_s: int, until_ms: int) -> list[float]:
    """Moments in seconds from now, where the next after them would be at `until_ms`."""
    first_ms = until_ms - -(-count * SPAN_MS // polls_per_s)
    return [(first_ms + number * SPAN_MS / polls_per_s) / 1000 for number in range(count)]


def read_refusals(
    connection: BaseDatabaseWrapper, ids: Sequence[int], *, now_ms: int, read_at: float
) -> Mapping[int, Window]:
    """Why these got nothing: no limit, no such account, a row that is taken or handed out too far ahead."""
    if not ids:
        return {}
    limits = {row[0]: (row[1], row[2]) for row in READ_LIMITS.run(connection, [{"id": one} for one in ids])}
    refused = {}
    for one in ids:
        polls_per_s, until_ms = limits.get(one, (None, 0))
        too_far_s = (until_ms - now_ms - FURTHEST_MS) / 1000
        refused[one] = Window((), read_at, polls_per_s, max(too_far_s, TAKEN_RETRY_S))
    return refused
