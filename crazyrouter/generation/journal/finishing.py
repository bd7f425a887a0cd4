"""Finish generations: images booked and charged, the rest of the hold released, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from billing.ledger import Charge, Settlement, settle
from crazyrouter.files.store import StoredPicture
from crazyrouter.generation.journal.keys import free_keys
from crazyrouter.generation.journal.results import Ended, write_results
from crazyrouter.generation.order import CallResult, Order
from crazyrouter.generation.outcomes import Key, Row
from crazyrouter.sql import Statement


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a generation: what was stored is charged, the rest of the hold released."""

    order: Order
    owner: str
    row: Row
    results: tuple[CallResult, ...]
    revised_prompts: dict[int, str]

    @property
    def account_id(self) -> int:
        return self.order.account_id

    @property
    def capacity_ids(self) -> list[int]:
        return [one.capacity_id for one in self.results if one.capacity_id is not None and not one.booked]


# `|| ''` keeps PostgreSQL from walking the index of running generations, whose dead entries are many, to find one id.
CLOSE_GENERATIONS = Statement(
    """
    UPDATE generation_generation
    SET state = r.state, failure = r.failure, delivered = r.delivered, revised_prompts = r.revised_prompts,
        finished_at = {now}
    FROM {rows}
    WHERE generation_generation.id = r.id AND generation_generation.state || '' = 'running'
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
    write_results(
        connection,
        [Ended(item.order.id, item.owner, result) for item in winners for result in item.results if not result.booked],
    )
    free_keys(connection, [item.order.id for item in winners if item.row.key is Key.FREED and item.order.idempotency])
    settle(connection, [make_settlement(item) for item in winners])
    if len(won) < len(items):
        # A finish that is run again after a lost connection may find its own earlier commit.
        rows = [{"id": item.order.id, "owner": item.owner} for item in items if item.order.id not in won]
        won |= {generation_id for (generation_id,) in READ_FINISHED.run(connection, rows)}
    return [item.order.id in won for item in items]


def list_pictures(item: Finish) -> list[StoredPicture]:
    """By slot: so its charges stand in the ledger."""
    return sorted((picture for result in item.results for picture in result.pictures), key=lambda one: one.slot)


def make_close_row(item: Finish) -> dict[str, Any]:
    delivered = len(list_pictures(item))
    return {
        "id": item.order.id,
        "owner": item.owner,
        "state": "succeeded" if delivered else "failed",
        "failure": item.row.code,
        "delivered": delivered,
        "revised_prompts": {str(slot): text for slot, text in item.revised_prompts.items()} or None,
    }


def make_settlement(item: Finish) -> Settlement:
    order = item.order
    return Settlement(
        order.id,
        tuple(
            Charge(
                line=picture.slot,
                unit_price_micros=order.unit_price_micros,
                price_version=order.price_version,
                account_price_version=order.account_price_version,
                model=order.model_name,
                size=order.size_text,
                key_prefix=order.key_prefix,
            )
            for picture in list_pictures(item)
        ),
    )
