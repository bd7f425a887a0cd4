"""Copies of customers' requests, once opened: accepted, and ended once.

No lease is about them: the process that opened a copy ends it, or, when that is gone, whoever finds it past its
horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.generation.journal.attempts import render_transitions
from crazyrouter.generation.models import Attempt
from crazyrouter.generation.order import Failure
from crazyrouter.sql import Statement
from providers.capacity import end_calls
from providers.contract import Billed, Code, Scope


@dataclass(frozen=True, slots=True)
class AcceptedCopy:
    """The upstream took the copy as a task."""

    generation_id: str
    number: int
    task_id: str
    upstream_id: str


# Without a lease to go by: a copy that was given up past its horizon is over, and stays so. (`|| ''` keeps PostgreSQL
# from walking the index of all copies to find one.)
ACCEPT_COPIES = Statement(
    """
    UPDATE generation_attempt
    SET state = 'accepted', task_id = r.task_id, upstream_id = r.upstream_id, accepted_at = {now}
    FROM {rows}
    WHERE generation_attempt.generation_id = r.generation_id AND generation_attempt.number = r.number
      AND generation_attempt.purpose || '' = 'shadow' AND generation_attempt.state IN ('created', 'accepted')
    RETURNING generation_attempt.generation_id, generation_attempt.number
    """,
    generation_id="text",
    number="integer",
    task_id="text",
    upstream_id="text",
)


def accept_shadows(connection: BaseDatabaseWrapper, items: Sequence[AcceptedCopy]) -> list[bool]:
    """Store the task ids; False for a copy that has ended."""
    rows = [
        {
            "generation_id": item.generation_id,
            "number": item.number,
            "task_id": item.task_id[:128],
            "upstream_id": item.upstream_id[:128],
        }
        for item in items
    ]
    written = set(ACCEPT_COPIES.run(connection, rows))
    return [(item.generation_id, item.number) in written for item in items]


@dataclass(frozen=True, slots=True)
class EndedCopy:
    """How a copy ended. `images` are those that could have been delivered; the comparison is JSON for the attempt.

    `took_ms` None says nothing of how long calls take there.
    """

    generation_id: str
    number: int
    state: str
    failure: Failure | None = None
    images: int = 0
    upstream_id: str = ""
    comparison: Mapping[str, Any] | None = None
    capacity_id: int | None = None
    took_ms: int | None = None

    @property
    def capacity_ids(self) -> tuple[int, ...]:
        return () if self.capacity_id is None else (self.capacity_id,)


END_COPIES = Statement(
    f"""
    UPDATE generation_attempt
    SET state = r.state, code = r.code, billed = r.billed, detail = r.detail, images = r.images,
        upstream_id = CASE WHEN r.upstream_id = '' THEN generation_attempt.upstream_id ELSE r.upstream_id END,
        comparison = r.comparison, ended_at = {{now}}
    FROM {{rows}}
    WHERE generation_attempt.generation_id = r.generation_id AND generation_attempt.number = r.number
      AND generation_attempt.purpose || '' = 'shadow' AND ({render_transitions()})
    RETURNING generation_attempt.generation_id, generation_attempt.number
    """,  # noqa: S608 - states are constants of this code base
    generation_id="text",
    number="integer",
    state="text",
    code="text",
    billed="text",
    detail="text",
    images="integer",
    upstream_id="text",
    comparison="jsonb",
)


def end_shadows(connection: BaseDatabaseWrapper, items: Sequence[EndedCopy]) -> list[bool]:
    """End the copies; each that ends here gives back the room that it had, once. False for one that had ended.

    The caller holds the locks of the capacities.
    """
    written = set(END_COPIES.run(connection, [make_end_row(item) for item in items])) if items else set()
    ended = [item for item in items if (item.generation_id, item.number) in written]
    end_calls(connection, [(one, item.took_ms) for item in ended for one in item.capacity_ids])
    return [(item.generation_id, item.number) in written for item in items]


def make_end_row(item: EndedCopy) -> dict[str, Any]:
    failure = item.failure or Failure("", "", "")
    return {
        "generation_id": item.generation_id,
        "number": item.number,
        "state": item.state,
        "code": failure.code,
        "billed": failure.billed,
        "detail": failure.detail[:300],
        "images": item.images,
        "upstream_id": (failure.upstream_id or item.upstream_id)[:128],
        "comparison": item.comparison,
    }


# --- those whose process is gone ---

GIVEN_UP = Failure(Code.CONNECTION_LOST, Billed.UNKNOWN, Scope.OFFER, "its process stopped before an answer")

# By the index of copies, between two moments.
FIND_LOST = Statement(
    """
    SELECT generation_id, number, capacity_id FROM generation_attempt
    WHERE purpose = 'shadow' AND state IN ('created', 'accepted') AND created_at >= %s AND created_at < %s
      AND (shape = 'sync' OR created_at < %s)
    ORDER BY created_at LIMIT 500
    """
)


def find_lost(
    connection: BaseDatabaseWrapper, *, since: datetime, sync_until: datetime, async_until: datetime
) -> list[EndedCopy]:
    """Copies that have not ended, opened since then, and before the moment that counts for their shape."""
    moments = [connection.ops.adapt_datetimefield_value(one) for one in (since, sync_until, async_until)]
    return [
        EndedCopy(generation_id, number, Attempt.State.UNKNOWN, GIVEN_UP, capacity_id=capacity_id)
        for generation_id, number, capacity_id in FIND_LOST.fetch(connection, *moments)
    ]
