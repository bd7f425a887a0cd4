"""Who drives which generation. Leases go by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement

#: How many generations a process takes over at a time.
MOST_CLAIMED = 500

REFRESH_LEASES = Statement(
    """
    UPDATE generation_generation SET lease_expires_at = {later:r.seconds} FROM {rows}
    WHERE lease_owner = r.owner AND state = 'running'
    RETURNING id
    """,
    owner="text",
    seconds="float8",
)


def refresh_leases(connection: BaseDatabaseWrapper, owners: Sequence[str]) -> list[frozenset[str]]:
    """Keep every running generation of this process by one statement, whatever their number; which ones they are."""
    rows = [{"owner": owner, "seconds": settings.LEASE_S} for owner in set(owners)]
    ours = frozenset(generation_id for (generation_id,) in REFRESH_LEASES.run(connection, rows))
    return [ours] * len(owners)


def give_back_leases(connection: BaseDatabaseWrapper, owners: Sequence[str]) -> list[None]:
    """This process stops: what still runs may be taken over at once."""
    REFRESH_LEASES.run(connection, [{"owner": owner, "seconds": 0.0} for owner in set(owners)])
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
    return [
        [
            generation_id
            for (generation_id,) in CLAIM_EXPIRED.run(connection, [{"owner": one, "seconds": settings.LEASE_S}])
        ]
        for one in owners
    ]
