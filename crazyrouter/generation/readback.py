"""Generations read back from their rows: for answers that are given again, or later, or by another process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import F, Q

from billing.money import quote
from crazyrouter.files.models import StoredImage
from crazyrouter.generation.journal.keys import KEY_LIFE_S
from crazyrouter.generation.models import Generation, IdempotencyKey
from crazyrouter.generation.order import Outcome
from crazyrouter.generation.recovery import make_picture
from crazyrouter.sql import read_clock


@dataclass(frozen=True, slots=True)
class Record:
    """A generation of an account as its customer may see it. Amounts in micro-units."""

    id: str
    state: str
    model: str
    n: int
    response_format: str
    failure: str
    unit_price_micros: int
    outcome: Outcome
    expires_at: Mapping[int, datetime]

    @property
    def is_running(self) -> bool:
        return self.state == Generation.State.RUNNING

    @property
    def charged_micros(self) -> int:
        return quote(unit_micros=self.unit_price_micros, images=0 if self.is_running else len(self.outcome.pictures))


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The generation that an Idempotency-Key stands for."""

    generation_id: str
    body_hash: str
    order_hash: str


def find_key(account_id: int, key: str) -> KeyHolder | None:
    """Whom the key stands for, if it has not expired."""
    oldest = read_clock(connection) - timedelta(seconds=KEY_LIFE_S)
    row = (
        IdempotencyKey.objects.filter(Q(created_at__gt=oldest) | Q(generation__state=Generation.State.RUNNING))
        .filter(account_id=account_id, key=key)
        .values_list("generation_id", "body_hash", "order_hash")
        .first()
    )
    return None if row is None else KeyHolder(*row)


def find_record(account_id: int, generation_id: str) -> Record | None:
    """One generation of this account."""
    rows = Generation.objects.filter(account_id=account_id, pk=generation_id)
    return next(iter(read_records(rows.annotate(model_name=F("model__name")))), None)


def list_records(account_id: int, after: str, limit: int) -> list[Record]:
    """The newest first, from behind the generation `after`; empty begins with the newest of all."""
    rows = Generation.objects.filter(account_id=account_id).order_by("-id")
    if after:
        rows = rows.filter(pk__lt=after)
    return read_records(rows.annotate(model_name=F("model__name"))[:limit])


def read_records(rows: Iterable[Any]) -> list[Record]:
    """Two queries. What a running one has brought so far is not told: it is not charged yet."""
    found = list(rows)
    images: dict[str, list[StoredImage]] = {}
    for image in StoredImage.objects.filter(generation_id__in=[row.id for row in found]).order_by("slot"):
        images.setdefault(image.generation_id, []).append(image)
    return [make_record(row, images.get(row.id, [])) for row in found]


def make_record(row: Any, images: Sequence[StoredImage]) -> Record:
    shown = [] if row.state == Generation.State.RUNNING else images
    rewrites = {int(slot): text for slot, text in (row.revised_prompts or {}).items()}
    return Record(
        id=row.id,
        state=row.state,
        model=row.model_name,
        n=row.n,
        response_format=row.response_format,
        failure=row.failure,
        unit_price_micros=row.unit_price_micros,
        outcome=Outcome(
            row.id, row.failure, tuple(make_picture(image) for image in shown), row.response_format, rewrites
        ),
        expires_at={image.slot: image.expires_at.astimezone(UTC) for image in shown},
    )


def forget_keys() -> int:
    """Delete the keys that have expired, a thousand at a time; how many."""
    oldest = read_clock(connection) - timedelta(seconds=KEY_LIFE_S)
    expired = IdempotencyKey.objects.filter(created_at__lt=oldest).exclude(generation__state=Generation.State.RUNNING)
    forgotten = 0
    while ids := list(expired.order_by("created_at").values_list("pk", flat=True)[:1000]):
        forgotten += IdempotencyKey.objects.filter(pk__in=ids).delete()[0]
    return forgotten
