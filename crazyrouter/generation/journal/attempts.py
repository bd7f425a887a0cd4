"""Attempts: granted before their submit, accepted before their first poll, ended once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.generation.models import Attempt
from crazyrouter.generation.order import Call, CallResult, Failure, Order
from crazyrouter.sql import Statement
from providers.capacity import end_calls
from providers.contract import Billed


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The upstream took the call as a task; durable before the first poll."""

    generation_id: str
    owner: str
    number: int
    task_id: str
    upstream_id: str


# Conditional on the lease: a driver that lost it starts nothing more. Whoever holds it has given this number to one
# call only, so a row that is there already is the same, written before a lost connection. (`|| ''`: see finishing.)
INSERT_ATTEMPTS = Statement(
    """
    INSERT INTO generation_attempt (generation_id, number, slots, purpose, offer_id, channel_id, credential_id,
        base_url, upstream_model, shape, cost_micros, cost_currency, capacity_id, state, task_id, upstream_id, code,
        billed, detail, images, routing, created_at)
    SELECT r.generation_id, r.number, r.slots, 'customer', r.offer_id, r.channel_id, r.credential_id, r.base_url,
        r.upstream_model, r.shape, r.cost_micros, r.cost_currency, r.capacity_id, 'created', '', '', '',
        '', '', 0, r.routing, {now}
    FROM {rows} JOIN generation_generation g ON g.id = r.generation_id
    WHERE g.state || '' = 'running' AND g.lease_owner = r.owner
    {lock:g}
    ON CONFLICT (generation_id, number) DO UPDATE SET number = excluded.number
    RETURNING generation_id, number
    """,
    generation_id="text",
    owner="text",
    number="integer",
    slots="jsonb",
    offer_id="bigint",
    channel_id="bigint",
    credential_id="bigint",
    base_url="text",
    upstream_model="text",
    shape="text",
    cost_micros="bigint",
    cost_currency="text",
    capacity_id="bigint",
    routing="jsonb",
)


def make_attempt_row(order: Order, call: Call, owner: str) -> dict[str, Any]:
    route = call.route
    return {
        "generation_id": order.id,
        "owner": owner,
        "number": call.number,
        "slots": call.slots,
        "offer_id": route.offer_id,
        "channel_id": route.channel_id,
        "credential_id": route.credential_id,
        "base_url": route.base_url,
        "upstream_model": route.upstream_model,
        "shape": route.shape,
        "cost_micros": route.cost_micros,
        "cost_currency": route.cost_currency,
        "capacity_id": route.capacity_id,
        "routing": call.routing,
    }


#: A driver that has lost its lease writes nothing more.
LEASE_IS_OURS = """
    EXISTS (SELECT 1 FROM generation_generation g WHERE g.id = r.generation_id AND g.lease_owner = r.owner)
"""

ACCEPT_ATTEMPTS = Statement(
    f"""
    UPDATE generation_attempt
    SET state = 'accepted', task_id = r.task_id, upstream_id = r.upstream_id, accepted_at = {{now}}
    FROM {{rows}}
    WHERE generation_attempt.generation_id = r.generation_id AND generation_attempt.number = r.number
      AND generation_attempt.state IN ('created', 'accepted') AND {LEASE_IS_OURS}
    RETURNING generation_attempt.generation_id, generation_attempt.number
    """,  # noqa: S608 - a constant of this module
    generation_id="text",
    owner="text",
    number="integer",
    task_id="text",
    upstream_id="text",
)


def accept_attempts(connection: BaseDatabaseWrapper, items: Sequence[Acceptance]) -> list[bool]:
    """Store the task ids; False means that the lease is lost. Written again after a lost connection it is the same."""
    rows = [
        {
            "generation_id": item.generation_id,
            "owner": item.owner,
            "number": item.number,
            "task_id": item.task_id[:128],
            "upstream_id": item.upstream_id[:128],
        }
        for item in items
    ]
    written = set(ACCEPT_ATTEMPTS.run(connection, rows))
    return [(item.generation_id, item.number) in written for item in items]


def render_transitions() -> str:
    """The attempt's transition table as a condition: which state a row may leave for the one it is given."""
    return " OR ".join(
        f"generation_attempt.state = '{start}' AND r.state IN ({', '.join(repr(str(end)) for end in ends)})"
        for start, ends in Attempt.TRANSITIONS.items()
        if ends
    )


END_ATTEMPTS = Statement(
    f"""
    UPDATE generation_attempt
    SET state = r.state, code = r.code, billed = r.billed, detail = r.detail, images = r.images,
        upstream_id = CASE WHEN r.upstream_id = '' THEN generation_attempt.upstream_id ELSE r.upstream_id END,
        ended_at = {{now}}
    FROM {{rows}}
    WHERE generation_attempt.generation_id = r.generation_id AND generation_attempt.number = r.number
      AND ({render_transitions()}) AND {LEASE_IS_OURS}
    RETURNING generation_attempt.generation_id, generation_attempt.number
    """,  # noqa: S608 - states are constants of this code base
    generation_id="text",
    owner="text",
    number="integer",
    state="text",
    code="text",
    billed="text",
    detail="text",
    images="integer",
    upstream_id="text",
)

NOTHING = Failure("", "", "")
#: What a failure may have cost, least first.
BILLED_BY_COST = ("", Billed.NO, Billed.UNKNOWN, Billed.YES)


def end_attempts(connection: BaseDatabaseWrapper, items: Sequence[tuple[str, str, CallResult]]) -> None:
    """End the attempts of (generation id, owner, result); each that ends here gives back the room that it had."""
    limited = [item for item in items if item[2].capacity_id is not None]
    free = [item for item in items if item[2].capacity_id is None]
    if free:
        END_ATTEMPTS.send(connection, [make_end_row(*item) for item in free])
    if limited:
        ended = set(END_ATTEMPTS.run(connection, [make_end_row(*item) for item in limited]))
        end_calls(
            connection,
            [
                # A refusal is over at once, and what nobody answers is given up after hours: neither is a call's time.
                (result.capacity_id, result.took_ms if result.pictures else None)
                for generation_id, _, result in limited
                if result.capacity_id is not None and (generation_id, result.number) in ended
            ],
        )


def choose_told(failures: Sequence[Failure]) -> Failure:
    """The failure that the row keeps of several: by it alone whoever takes the generation over decides what may be
    ordered again, so none that may be charged hides behind one that is not."""
    return max(failures, key=lambda one: BILLED_BY_COST.index(one.billed), default=NOTHING)


def make_end_row(generation_id: str, owner: str, result: CallResult) -> dict[str, Any]:
    failure = choose_told(result.failures)
    return {
        "generation_id": generation_id,
        "owner": owner,
        "number": result.number,
        "state": result.state,
        "code": failure.code,
        "billed": failure.billed,
        "detail": failure.detail[:300],
        "images": len(result.pictures),
        "upstream_id": (failure.upstream_id or result.upstream_id)[:128],
    }
