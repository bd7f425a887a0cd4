"""Whether the answer of a generation was sent, and which automatic retry may have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement

#: How old a first try may be for an automatic retry to be joined to it.
JOIN_WINDOW_S = 15 * 60

RECORD_ANSWERS = Statement(
    """
    UPDATE generation_generation SET answered_at = {now} FROM {rows}
    WHERE generation_generation.id = r.id AND generation_generation.answered_at IS NULL
    """,
    id="text",
)


def record_answers(connection: BaseDatabaseWrapper, items: Sequence[str]) -> list[None]:
    """The answers of these generations were sent completely."""
    RECORD_ANSWERS.send(connection, [{"id": generation_id} for generation_id in items])
    return [None] * len(items)


@dataclass(frozen=True, slots=True)
class Retry:
    """An SDK's automatic retry without an Idempotency-Key: `number` is what it says of itself, 1 or more.

    `joined` are generations that it was joined to by transactions of which nobody knows whether they were committed.
    """

    api_key_id: int
    request_hash: str
    number: int
    joined: list[str] = field(default_factory=list, compare=False)


# Each generation is joined by one retry of each number: of two customers' identical first tries, each gets its own.
JOIN_RETRY = Statement(
    """
    UPDATE generation_generation SET retries_joined = r.number
    FROM {rows}
    WHERE id = (SELECT g.id FROM generation_generation g
                WHERE g.api_key_id = r.api_key_id AND g.request_hash = r.request_hash AND g.answered_at IS NULL
                  AND g.retries_joined < r.number AND g.created_at > {later:r.age_s}
                ORDER BY g.id DESC LIMIT 1)
      AND answered_at IS NULL AND retries_joined < r.number
    RETURNING id
    """,
    api_key_id="bigint",
    request_hash="text",
    number="integer",
    age_s="float8",
)


READ_JOINED = Statement(
    """
    SELECT g.id FROM {rows} JOIN generation_generation g ON g.id = r.id WHERE g.retries_joined = r.number
    """,
    id="text",
    number="integer",
)


def join_retries(connection: BaseDatabaseWrapper, items: Sequence[Retry]) -> list[str | None]:
    """The generation that each retry waits for: the newest of its kind whose answer nobody got. None is a new order.

    One statement each: two retries of one batch must not find the same generation.
    """
    return [find_joined(connection, item) or join_retry(connection, item) for item in items]


def find_joined(connection: BaseDatabaseWrapper, item: Retry) -> str | None:
    """What it was joined to before a connection was lost, if that was committed: nothing is ordered a second time."""
    if not item.joined:
        return None
    found = READ_JOINED.run(connection, [{"id": one, "number": item.number} for one in item.joined])
    return found[0][0] if found else None


def join_retry(connection: BaseDatabaseWrapper, item: Retry) -> str | None:
    row = {
        "api_key_id": item.api_key_id,
        "request_hash": item.request_hash,
        "number": item.number,
        "age_s": -float(JOIN_WINDOW_S),
    }
    # Once more: whoever was a moment faster may have left an older one.
    found = JOIN_RETRY.run(connection, [row]) or JOIN_RETRY.run(connection, [row])
    if not found:
        return None
    item.joined.append(found[0][0])
    return item.joined[-1]
