"""Who drives which generation, and whether its answer was sent. Leases go by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement

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


REFRESH_LEASES = Statement(
    """
    UPDATE generation_generation SET lease_expires_at = {later:%s} WHERE lease_owner = %s AND state = 'running'
    """
)


def refresh_leases(connection: BaseDatabaseWrapper, owners: Sequence[str]) -> list[None]:
    """Keep every running generation of this process: one statement, whatever their number."""
    for owner in set(owners):
        REFRESH_LEASES.send_values(connection, settings.LEASE_S, owner)
    return [None] * len(owners)


def give_back_leases(connection: BaseDatabaseWrapper, owners: Sequence[str]) -> list[None]:
    """This process stops: what still runs may be taken over at once."""
    for owner in set(owners):
        REFRESH_LEASES.send_values(connection, 0, owner)
    return [None] * len(owners)
