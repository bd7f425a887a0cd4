"""Idempotency-Keys: taken by the transaction that opens a generation, freed by the one that ends it for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.generation.order import Idempotency, Order
from crazyrouter.sql import Statement

#: How long a key stands for its generation, from opening; longer while that runs.
KEY_LIFE_S = 24 * 3600

DROP_EXPIRED = Statement(
    """
    DELETE FROM generation_idempotencykey WHERE id IN (
        SELECT k.id FROM {rows}
        JOIN generation_idempotencykey k ON k.account_id = r.account_id AND k.key = r.key
        JOIN generation_generation g ON g.id = k.generation_id
        WHERE k.created_at < {later:r.age_s} AND g.state || '' <> 'running')
    """,
    account_id="bigint",
    key="text",
    age_s="float8",
)

# Whoever inserts first has it; on PostgreSQL the second waits here for the first one's commit.
INSERT_KEYS = Statement(
    """
    INSERT INTO generation_idempotencykey (account_id, key, generation_id, body_hash, order_hash, created_at)
    SELECT r.account_id, r.key, r.generation_id, r.body_hash, r.order_hash, {now} FROM {rows} WHERE true
    ON CONFLICT (account_id, key) DO NOTHING
    RETURNING generation_id
    """,
    account_id="bigint",
    key="text",
    generation_id="text",
    body_hash="text",
    order_hash="text",
)

DELETE_KEYS = Statement(
    "DELETE FROM generation_idempotencykey WHERE generation_id IN (SELECT r.id FROM {rows})", id="text"
)


def insert_keys(connection: BaseDatabaseWrapper, orders: Sequence[Order]) -> set[str]:
    """Take each order's key; the ids of those whose key stands for another generation."""
    if not orders:
        return set()
    # In one order everywhere, so that two batches over the same keys cannot deadlock.
    pairs = [(order, order.idempotency) for order in orders if order.idempotency is not None]
    rows = sorted((make_key_row(*pair) for pair in pairs), key=lambda row: (row["account_id"], row["key"]))
    DROP_EXPIRED.send(
        connection,
        [{"account_id": row["account_id"], "key": row["key"], "age_s": -float(KEY_LIFE_S)} for row in rows],
    )
    won = {generation_id for (generation_id,) in INSERT_KEYS.run(connection, rows)}
    return {order.id for order in orders} - won


def make_key_row(order: Order, idempotency: Idempotency) -> dict[str, Any]:
    return {
        "account_id": order.account_id,
        "key": idempotency.key,
        "generation_id": order.id,
        "body_hash": idempotency.body_hash,
        "order_hash": idempotency.order_hash,
    }


def free_keys(connection: BaseDatabaseWrapper, generation_ids: Sequence[str]) -> None:
    """The keys of these generations may be used again."""
    if generation_ids:
        DELETE_KEYS.send(connection, [{"id": generation_id} for generation_id in generation_ids])
