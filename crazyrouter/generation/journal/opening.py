"""Open generations: key taken, money held, the generation and its first attempts written, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from billing.ledger import Reason, Reservation, Verdict, reserve
from crazyrouter.generation.allocation import Placement
from crazyrouter.generation.journal.attempts import INSERT_ATTEMPTS, make_attempt_row
from crazyrouter.generation.journal.keys import free_keys, insert_keys
from crazyrouter.generation.journal.queue import give_back, open_allocator, write_waiting
from crazyrouter.generation.order import Ask, Order
from crazyrouter.sql import Statement
from providers.capacity import store_rooms


@dataclass(frozen=True, slots=True)
class Opening:
    """An order and the ask for its first calls, owned by this process."""

    order: Order
    ask: Ask
    owner: str

    @property
    def account_id(self) -> int:
        return self.order.account_id

    @property
    def capacity_ids(self) -> tuple[int, ...]:
        return self.ask.capacity_ids


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of an opening. Without a `placement` it was open already, from a commit whose answer was lost.

    Refused by the ledger the verdict is not granted; refused for want of room there is no verdict.
    """

    verdict: Verdict | None
    placement: Placement | None


INSERT_GENERATIONS = Statement(
    """
    INSERT INTO generation_generation (id, account_id, api_key_id, model_id, price_id, account_price_id,
        unit_price_micros, prompt,
        options, width, height, render_width, render_height, n, response_format, request_hash, retries_joined, state,
        failure, delivered, lease_owner, lease_expires_at, takeovers, deadline_at, created_at)
    SELECT r.id, r.account_id, r.api_key_id, r.model_id, r.price_id, r.account_price_id, r.unit_price_micros, r.prompt,
        r.options, r.width, r.height, r.render_width, r.render_height, r.n, r.response_format, r.request_hash, 0,
        'running', '', 0, r.owner, {later:r.lease_s}, 0, {later:r.deadline_s}, {now} FROM {rows}
    """,
    id="text",
    account_id="bigint",
    api_key_id="bigint",
    model_id="bigint",
    price_id="bigint",
    account_price_id="bigint",
    unit_price_micros="bigint",
    prompt="text",
    options="jsonb",
    width="integer",
    height="integer",
    render_width="integer",
    render_height="integer",
    n="integer",
    response_format="text",
    request_hash="text",
    owner="text",
    lease_s="float8",
    deadline_s="float8",
)

READ_OPENED = Statement(
    "SELECT g.id FROM {rows} JOIN generation_generation g ON g.id = r.id WHERE g.lease_owner = r.owner",
    id="text",
    owner="text",
)


def open_generations(connection: BaseDatabaseWrapper, items: Sequence[Opening]) -> list[Opened | None]:
    """Take the key, find room, reserve the money and write generation, first attempts and places in the queue, or
    nothing at all for an item. None means that another request holds the Idempotency-Key.
    """
    taken = insert_keys(connection, [item.order for item in items if item.order.idempotency is not None])
    items_free = [item for item in items if item.order.id not in taken]
    allocator = open_allocator(connection, [item.ask for item in items_free])
    placements = {item.order.id: allocator.place(item.ask, limit_s=settings.QUEUE_LIMIT_S) for item in items_free}
    fit = [item for item in items_free if placements[item.order.id].retry_after_s is None]
    verdicts = reserve(
        connection,
        [
            Reservation(item.order.id, item.order.account_id, item.order.api_key_id, item.order.amount_micros)
            for item in fit
        ],
    )
    opened = [item for item in fit if verdicts[item.order.id].granted]
    poor = [item for item in fit if not verdicts[item.order.id].granted]
    give_back(
        connection, allocator, [(item.order.id, call) for item in poor for call in placements[item.order.id].calls]
    )
    if opened:
        write_opened(connection, [(item, placements[item.order.id]) for item in opened])
    store_rooms(connection, allocator.rooms.values())
    results = {item.order.id: Opened(verdicts[item.order.id], placements[item.order.id]) for item in opened}
    refused = [item for item in items_free if item.order.id not in results]
    known = find_opened(connection, refused)
    results |= {
        item.order.id: Opened(Verdict(Reason.RESERVED), None)
        if item.order.id in known
        else Opened(verdicts.get(item.order.id), placements[item.order.id])
        for item in refused
    }
    keyed = [item.order for item in refused if item.order.idempotency is not None and item.order.id not in known]
    if keyed:
        free_keys(connection, [order.id for order in keyed])
    shared = {name_twins(order): results[order.id] for order in keyed}
    return [results.get(item.order.id) or shared.get(name_twins(item.order)) for item in items]


def write_opened(connection: BaseDatabaseWrapper, opened: Sequence[tuple[Opening, Placement]]) -> None:
    INSERT_GENERATIONS.send(connection, [make_generation_row(item) for item, _ in opened])
    calls = [make_attempt_row(item.order, call, item.owner) for item, placed in opened for call in placed.calls]
    if calls:
        INSERT_ATTEMPTS.send(connection, calls)
    write_waiting(connection, [ask for _, placed in opened for ask in placed.waiting])


def find_opened(connection: BaseDatabaseWrapper, items: Sequence[Opening]) -> set[str]:
    """Written again after a lost connection, an item may be refused for what it holds itself: it is open."""
    rows = [{"id": item.order.id, "owner": item.owner} for item in items]
    return {generation_id for (generation_id,) in READ_OPENED.run(connection, rows)} if rows else set()


def name_twins(order: Order) -> tuple[Any, ...]:
    """Orders of one batch with this in common are refused together: tried one by one, each would be refused alike."""
    return order.account_id, order.api_key_id, order.idempotency


def make_generation_row(item: Opening) -> dict[str, Any]:
    order = item.order
    return {
        "id": order.id,
        "account_id": order.account_id,
        "api_key_id": order.api_key_id,
        "model_id": order.model_id,
        "price_id": order.price_version,
        "account_price_id": order.account_price_version,
        "unit_price_micros": order.unit_price_micros,
        "prompt": order.prompt,
        "options": order.options,
        "width": order.size[0],
        "height": order.size[1],
        "render_width": order.render_size[0],
        "render_height": order.render_size[1],
        "n": order.n,
        "response_format": order.response_format,
        "request_hash": order.request_hash,
        "owner": item.owner,
        "lease_s": settings.LEASE_S,
        "deadline_s": settings.GENERATION_DEADLINE_S,
    }
