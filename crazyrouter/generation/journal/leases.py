"""Who drives which generation. Leases go by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.generation.journal.queue import clear_queues
from crazyrouter.sql import Statement

#: How many generations a process takes over at a time.
MOST_CLAIMED = 500


@dataclass(frozen=True, slots=True)
class Lease:
    """A generation that somebody drives. Whoever takes it over does so under an owner that was never used before."""

    generation_id: str
    owner: str


# By id, so that a generation whose driver broke down is kept by nobody. (`|| ''`: see finishing.)
REFRESH_LEASES = Statement(
    """
    UPDATE generation_generation SET lease_expires_at = {later:r.seconds} FROM {rows}
    WHERE generation_generation.id = r.id AND lease_owner = r.owner AND state || '' = 'running'
    RETURNING generation_generation.id, generation_generation.lease_owner
    """,
    id="text",
    owner="text",
    seconds="float8",
)


def refresh_leases(connection: BaseDatabaseWrapper, items: Sequence[frozenset[Lease]]) -> list[frozenset[Lease]]:
    """Keep all the leases of each item by one statement, whatever their number; those that are still held."""
    rows = [
        {"id": lease.generation_id, "owner": lease.owner, "seconds": settings.LEASE_S}
        for lease in frozenset().union(*items)
    ]
    held = {Lease(*row) for row in REFRESH_LEASES.run(connection, rows)}
    return [item & held for item in items]


GIVE_BACK_LEASES = Statement(
    """
    UPDATE generation_generation SET lease_expires_at = {now} FROM {rows}
    WHERE state = 'running' AND (lease_owner = r.owner OR lease_owner LIKE r.owner || '.%%')
    RETURNING id
    """,
    owner="text",
)


def give_back_leases(connection: BaseDatabaseWrapper, owners: Sequence[str]) -> list[None]:
    """These processes stop: what runs under their names, or `name.suffix`, may be taken over at once."""
    GIVE_BACK_LEASES.run(connection, [{"owner": owner} for owner in owners])
    return [None] * len(owners)


# Locked rows are being finished or taken by somebody else; what was not locked is looked at again by the UPDATE.
CLAIM_EXPIRED = Statement(
    f"""
    WITH expired AS MATERIALIZED (
        SELECT g.id FROM generation_generation g
        WHERE g.state = 'running' AND g.lease_expires_at <= {{now}}
        ORDER BY g.lease_expires_at LIMIT {MOST_CLAIMED} {{claim:g}})
    UPDATE generation_generation
    SET lease_owner = r.owner, lease_expires_at = {{later:r.seconds}}, takeovers = takeovers + 1
    FROM {{rows}}
    WHERE id IN (SELECT id FROM expired) AND state = 'running' AND lease_expires_at <= {{now}}
    RETURNING id
    """,  # noqa: S608 - a constant of this module
    owner="text",
    seconds="float8",
)


def claim_expired(connection: BaseDatabaseWrapper, owners: Sequence[str]) -> list[list[str]]:
    """Take over generations whose driver is gone: their ids. Asked twice in one batch, the first takes them all."""
    claimed = [
        [
            generation_id
            for (generation_id,) in CLAIM_EXPIRED.run(connection, [{"owner": one, "seconds": settings.LEASE_S}])
        ]
        for one in owners
    ]
    clear_queues(connection, [generation_id for ids in claimed for generation_id in ids])
    return claimed
