"""Every durable step of a generation, as operations of the lane: many items, few statements, one verdict each.

Conditional UPDATEs decide who wins; a driver that lost its lease changes nothing. Each operation may be run again
with the same items, which is what the lane does after a lost connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from billing.ledger import Charge, Reservation, Settlement, Verdict, reserve, settle
from crazyrouter.generation.order import Call, CallResult, Failure, Order
from crazyrouter.sql import Statement
from providers.routing import Route


@dataclass(frozen=True, slots=True)
class Opening:
    """An order and its first calls, owned by this process."""

    order: Order
    calls: tuple[Call, ...]
    owner: str

    @property
    def account_id(self) -> int:
        return self.order.account_id


@dataclass(frozen=True, slots=True)
class Grant:
    """A further call of a running generation."""

    order: Order
    call: Call
    owner: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The upstream took the call as a task; durable before the first poll."""

    generation_id: str
    number: int
    task_id: str
    upstream_id: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a generation: what was stored is charged, the rest of the hold released."""

    order: Order
    owner: str
    failure: str
    results: tuple[CallResult, ...]
    revised_prompts: dict[int, str]

    @property
    def account_id(self) -> int:
        return self.order.account_id


# --- open --------------------------------------------------------------------------------------------------------

INSERT_GENERATIONS = Statement(
    """
    INSERT INTO generation_generation (id, account_id, api_key_id, model_id, price_id, unit_price_micros, prompt,
        options, width, height, render_width, render_height, n, response_format, state, failure, delivered,
        lease_owner, lease_expires_at, deadline_at, created_at)
    SELECT r.id, r.account_id, r.api_key_id, r.model_id, r.price_id, r.unit_price_micros, r.prompt,
        r.options, r.width, r.height, r.render_width, r.render_height, r.n, r.response_format, 'running', '', 0,
        r.owner, {later:r.lease_s}, {later:r.deadline_s}, {now} FROM {rows}
    """,
    id="text",
    account_id="bigint",
    api_key_id="bigint",
    model_id="bigint",
    price_id="bigint",
    unit_price_micros="bigint",
    prompt="text",
    options="jsonb",
    width="integer",
    height="integer",
    render_width="integer",
    render_height="integer",
    n="integer",
    response_format="text",
    owner="text",
    lease_s="float8",
    deadline_s="float8",
)

# Conditional on the lease: a driver that lost it starts nothing more.
INSERT_ATTEMPTS = Statement(
    """
    INSERT INTO generation_attempt (generation_id, number, slots, purpose, offer_id, channel_id, credential_id,
        base_url, upstream_model, shape, cost_micros, cost_currency, state, task_id, upstream_id, code, billed, detail,
        images, routing, created_at)
    SELECT r.generation_id, r.number, r.slots, 'customer', r.offer_id, r.channel_id, r.credential_id, r.base_url,
        r.upstream_model, r.shape, r.cost_micros, r.cost_currency, 'created', '', '', '', '', '', 0, r.routing, {now}
    FROM {rows} JOIN generation_generation g ON g.id = r.generation_id
    WHERE g.state = 'running' AND g.lease_owner = r.owner
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
    routing="jsonb",
)


def open_generations(connection: BaseDatabaseWrapper, items: Sequence[Opening]) -> list[Verdict]:
    """Reserve the money and write generation and first attempts, or nothing at all for an item that cannot pay."""
    verdicts = reserve(
        connection,
        [
            Reservation(item.order.id, item.order.account_id, item.order.api_key_id, item.order.amount_micros)
            for item in items
        ],
    )
    opened = [item for item in items if verdicts[item.order.id] is Verdict.RESERVED]
    if opened:
        INSERT_GENERATIONS.run(connection, [make_generation_row(item) for item in opened])
        INSERT_ATTEMPTS.run(
            connection, [make_attempt_row(item.order, call, item.owner) for item in opened for call in item.calls]
        )
    return [verdicts[item.order.id] for item in items]


def make_generation_row(item: Opening) -> dict[str, Any]:
    order = item.order
    return {
        "id": order.id,
        "account_id": order.account_id,
        "api_key_id": order.api_key_id,
        "model_id": order.model.id,
        "price_id": order.price.version,
        "unit_price_micros": order.price.amount_micros,
        "prompt": order.prompt,
        "options": order.options,
        "width": order.size[0],
        "height": order.size[1],
        "render_width": order.render_size[0],
        "render_height": order.render_size[1],
        "n": order.n,
        "response_format": order.response_format,
        "owner": item.owner,
        "lease_s": settings.LEASE_S,
        "deadline_s": settings.GENERATION_DEADLINE_S,
    }


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
        "routing": describe_choice(call.candidates),
    }


def describe_choice(candidates: Sequence[Route]) -> dict[str, Any]:
    """What an operator reads later: who else could have served it, in the order drawn."""
    return {"candidates": [{"offer": route.offer_id, "channel": route.channel_name} for route in candidates]}


# --- run ---------------------------------------------------------------------------------------------------------


def grant_attempts(connection: BaseDatabaseWrapper, items: Sequence[Grant]) -> list[bool]:
    """Write a further attempt for each item; False means that the lease is lost: submit nothing."""
    rows = [make_attempt_row(item.order, item.call, item.owner) for item in items]
    written = set(INSERT_ATTEMPTS.run(connection, rows))
    return [(item.order.id, item.call.number) in written for item in items]


ACCEPT_ATTEMPTS = Statement(
    """
    UPDATE generation_attempt
    SET state = 'accepted', task_id = r.task_id, upstream_id = r.upstream_id, accepted_at = {now}
    FROM {rows}
    WHERE generation_attempt.generation_id = r.generation_id AND generation_attempt.number = r.number
      AND generation_attempt.state = 'created'
    """,
    generation_id="text",
    number="integer",
    task_id="text",
    upstream_id="text",
)


def accept_attempts(connection: BaseDatabaseWrapper, items: Sequence[Acceptance]) -> list[None]:
    """Store the task ids."""
    ACCEPT_ATTEMPTS.run(
        connection,
        [
            {
                "generation_id": item.generation_id,
                "number": item.number,
                "task_id": item.task_id[:128],
                "upstream_id": item.upstream_id[:128],
            }
            for item in items
        ],
    )
    return [None] * len(items)


END_ATTEMPTS = Statement(
    """
    UPDATE generation_attempt
    SET state = r.state, code = r.code, billed = r.billed, detail = r.detail, images = r.images,
        upstream_id = CASE WHEN r.upstream_id = '' THEN generation_attempt.upstream_id ELSE r.upstream_id END,
        ended_at = {now}
    FROM {rows}
    WHERE generation_attempt.generation_id = r.generation_id AND generation_attempt.number = r.number
      AND generation_attempt.state IN ('created', 'accepted')
    """,
    generation_id="text",
    number="integer",
    state="text",
    code="text",
    billed="text",
    detail="text",
    images="integer",
    upstream_id="text",
)


def end_attempts(connection: BaseDatabaseWrapper, items: Sequence[tuple[str, CallResult]]) -> list[None]:
    """Record how calls ended whose generation goes on."""
    END_ATTEMPTS.run(connection, [make_end_row(generation_id, result) for generation_id, result in items])
    return [None] * len(items)


NOTHING = Failure("", "", "")


def make_end_row(generation_id: str, result: CallResult) -> dict[str, Any]:
    failure = result.failures[0] if result.failures else NOTHING
    return {
        "generation_id": generation_id,
        "number": result.number,
        "state": result.state,
        "code": failure.code,
        "billed": failure.billed,
        "detail": failure.detail[:300],
        "images": len(result.pictures),
        "upstream_id": (failure.upstream_id or result.upstream_id)[:128],
    }


# --- finish ------------------------------------------------------------------------------------------------------

CLOSE_GENERATIONS = Statement(
    """
    UPDATE generation_generation
    SET state = r.state, failure = r.failure, delivered = r.delivered, revised_prompts = r.revised_prompts,
        finished_at = {now}
    FROM {rows}
    WHERE generation_generation.id = r.id AND generation_generation.state = 'running'
      AND generation_generation.lease_owner = r.owner
    RETURNING generation_generation.id
    """,
    id="text",
    owner="text",
    state="text",
    failure="text",
    delivered="integer",
    revised_prompts="jsonb",
)

INSERT_IMAGES = Statement(
    """
    INSERT INTO files_storedimage (name, generation_id, slot, width, height, bytes, sha256, created_at, expires_at)
    SELECT r.name, r.generation_id, r.slot, r.width, r.height, r.bytes, r.sha256, {now}, {later:r.ttl_s} FROM {rows}
    """,
    name="text",
    generation_id="text",
    slot="integer",
    width="integer",
    height="integer",
    bytes="bigint",
    sha256="text",
    ttl_s="float8",
)

READ_FINISHED = Statement(
    """
    SELECT g.id FROM generation_generation g, {rows}
    WHERE g.id = r.id AND g.lease_owner = r.owner AND g.state <> 'running'
    """,
    id="text",
    owner="text",
)


def finish_generations(connection: BaseDatabaseWrapper, items: Sequence[Finish]) -> list[bool]:
    """End each generation, book its images, charge them and release the rest, all in one transaction.

    False means that somebody else finished it or holds its lease: nothing of ours was written.
    """
    won = {generation_id for (generation_id,) in CLOSE_GENERATIONS.run(connection, [make_close_row(i) for i in items])}
    winners = [item for item in items if item.order.id in won]
    images = [make_image_row(item.order.id, picture) for item in winners for picture in list_pictures(item)]
    if images:
        INSERT_IMAGES.run(connection, images)
    ends = [make_end_row(item.order.id, result) for item in winners for result in item.results]
    if ends:
        END_ATTEMPTS.run(connection, ends)
    settle(connection, [make_settlement(item) for item in winners])
    if len(won) < len(items):
        # A finish that is run again after a lost connection may find its own earlier commit.
        rows = [{"id": item.order.id, "owner": item.owner} for item in items if item.order.id not in won]
        won |= {generation_id for (generation_id,) in READ_FINISHED.run(connection, rows)}
    return [item.order.id in won for item in items]


def list_pictures(item: Finish) -> list[Any]:
    return [picture for result in item.results for picture in result.pictures]


def make_close_row(item: Finish) -> dict[str, Any]:
    delivered = len(list_pictures(item))
    return {
        "id": item.order.id,
        "owner": item.owner,
        "state": "succeeded" if delivered else "failed",
        "failure": item.failure,
        "delivered": delivered,
        "revised_prompts": {str(slot): text for slot, text in item.revised_prompts.items()} or None,
    }


def make_image_row(generation_id: str, picture: Any) -> dict[str, Any]:
    return {
        "name": picture.name,
        "generation_id": generation_id,
        "slot": picture.slot,
        "width": picture.width,
        "height": picture.height,
        "bytes": picture.bytes,
        "sha256": picture.sha256,
        "ttl_s": settings.FILE_TTL_HOURS * 3600,
    }


def make_settlement(item: Finish) -> Settlement:
    order = item.order
    return Settlement(
        order.id,
        tuple(
            Charge(
                line=picture.slot,
                unit_price_micros=order.price.amount_micros,
                price_version=order.price.version,
                model=order.model.name,
                size=order.size_text,
                key_prefix=order.key_prefix,
            )
            for picture in list_pictures(item)
        ),
    )


# --- afterwards --------------------------------------------------------------------------------------------------

RECORD_ANSWERS = Statement(
    """
    UPDATE generation_generation SET answered_at = {now} FROM {rows}
    WHERE generation_generation.id = r.id AND generation_generation.answered_at IS NULL
    """,
    id="text",
)


def record_answers(connection: BaseDatabaseWrapper, items: Sequence[str]) -> list[None]:
    """The answers of these generations were sent completely."""
    RECORD_ANSWERS.run(connection, [{"id": generation_id} for generation_id in items])
    return [None] * len(items)


REFRESH_LEASES = Statement(
    """
    UPDATE generation_generation SET lease_expires_at = {later:%s} WHERE lease_owner = %s AND state = 'running'
    """
)


def refresh_leases(connection: BaseDatabaseWrapper, owners: Sequence[str]) -> list[None]:
    """Keep every running generation of this process: one statement, whatever their number."""
    for owner in set(owners):
        REFRESH_LEASES.execute(connection, settings.LEASE_S, owner)
    return [None] * len(owners)


def give_back_leases(connection: BaseDatabaseWrapper, owners: Sequence[str]) -> list[None]:
    """This process stops: what still runs may be taken over at once."""
    for owner in set(owners):
        REFRESH_LEASES.execute(connection, 0, owner)
    return [None] * len(owners)
