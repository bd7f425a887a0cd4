"""What ended calls brought, booked while other calls of their generation still run: a crash then loses less.

The charge of a picture is booked with the end of its generation, never before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.files.store import StoredPicture
from crazyrouter.generation.journal.attempts import end_attempts
from crazyrouter.generation.order import CallResult
from crazyrouter.sql import Statement


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that is over, of a generation that goes on."""

    generation_id: str
    owner: str
    result: CallResult

    @property
    def capacity_ids(self) -> tuple[int, ...]:
        return () if self.result.capacity_id is None else (self.result.capacity_id,)


# Locked, so that whoever takes the generation over sees either these pictures, or that they are not there.
HOLD_LEASES = Statement(
    """
    SELECT g.id FROM {rows} JOIN generation_generation g ON g.id = r.id
    WHERE g.lease_owner = r.owner AND g.state || '' = 'running'
    {lock:g}
    """,
    id="text",
    owner="text",
)

# Written again after a lost connection, the rows are there already.
INSERT_IMAGES = Statement(
    """
    INSERT INTO files_storedimage (name, generation_id, slot, width, height, bytes, sha256, created_at, expires_at)
    SELECT r.name, r.generation_id, r.slot, r.width, r.height, r.bytes, r.sha256, {now}, {later:r.ttl_s} FROM {rows}
    WHERE true
    ON CONFLICT (generation_id, slot) DO NOTHING
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


def book_results(connection: BaseDatabaseWrapper, items: Sequence[Ended]) -> list[bool]:
    """End the attempts and write the rows of their pictures; False means that the lease is lost: nothing was written.

    By generation in order of id, so that two batches over the same generations cannot deadlock.
    """
    wanted = sorted({(item.generation_id, item.owner) for item in items})
    rows = [{"id": generation_id, "owner": owner} for generation_id, owner in wanted]
    held = {generation_id for (generation_id,) in HOLD_LEASES.run(connection, rows)}
    ours = [item for item in items if item.generation_id in held]
    write_results(connection, ours)
    return [item.generation_id in held for item in items]


def write_results(connection: BaseDatabaseWrapper, items: Sequence[Ended]) -> None:
    """Rows of pictures and ends of attempts; the caller holds the generations' rows."""
    images = [make_image_row(item.generation_id, picture) for item in items for picture in item.result.pictures]
    if images:
        INSERT_IMAGES.send(connection, images)
    if items:
        end_attempts(connection, [(item.generation_id, item.owner, item.result) for item in items])


def make_image_row(generation_id: str, picture: StoredPicture) -> dict[str, Any]:
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
