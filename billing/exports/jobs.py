"""Exports that are kept: small ones made at once, large ones by the worker, all handed out until they expire.

The row is the truth and the broker a doorbell. One export runs at a time in the whole deployment: only the oldest
unfinished one can be claimed, so whoever wants one meets the others at its row. A run writes its progress at least
every few seconds; one that has not for `STALE` died, and its export is claimed again and begun anew. `touched_at` is
also the run's token: whoever finds another's in the row has been taken over, and writes no more.
"""

from __future__ import annotations

import hashlib
import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.db import connection, transaction
from django.db.models import Min, Q, QuerySet
from kombu.exceptions import OperationalError

from billing.exports.plans import ExportError, Order, make_plan
from billing.exports.streams import BOM, stream_export
from billing.models import Export, ExportPart
from billing.periods import read_clock
from crazyrouter.sql import open_read_only_snapshot

logger = logging.getLogger(__name__)

#: Below so many rows an export is made while its reader waits: a second or two.
SMALL_ROWS = 20_000
PART_BYTES = 1 << 20
TOUCH_S = 2.0
STALE = timedelta(minutes=2)
KEPT = timedelta(days=7)
#: What was begun and has not ended by then never will, and keeps others waiting.
GIVEN_UP = timedelta(hours=6)
UNFINISHED = (Export.State.QUEUED, Export.State.RUNNING)


class TakenOver(Exception):
    """Another run has this export; this one ends without a word in the row."""


def order_export(order: Order, *, with_bom: bool, requested_by: str) -> Export:
    """A new export: done or failed if it is small, else queued, and the worker rung for. Raises ExportError."""
    rows = make_plan(order).rows
    now = read_clock(connection)
    small = rows < SMALL_ROWS
    export = Export.objects.create(
        kind=order.kind,
        first_day=order.first_day,
        last_day=order.last_day,
        account_id=order.account_id,
        with_bom=with_bom,
        state=Export.State.RUNNING if small else Export.State.QUEUED,
        rows_expected=rows,
        requested_by=requested_by[:150],
        created_at=now,
        touched_at=now if small else None,
        expires_at=now + KEPT,
    )
    if small:
        make_export(export)
    else:
        ring_worker()
    return export


def ring_worker() -> None:
    """Somebody is to look for queued exports now; the clock rings too, so a lost bell costs a minute."""
    try:
        current_app.send_task("billing.make_exports", expires=60, retry=False)
    except (OperationalError, OSError) as error:
        logger.warning("the broker does not answer, an export waits for the next minute: %s", error)


def make_next_export() -> bool:
    """Claim the oldest export that waits and make it. Whether more may be waiting."""
    export = claim_export()
    if export is None:
        return False
    make_export(export)
    return Export.objects.filter(state=Export.State.QUEUED).exists()


def claim_export() -> Export | None:
    """The oldest unfinished export, if nobody is at it."""
    oldest = Export.objects.filter(state__in=UNFINISHED).aggregate(oldest=Min("pk"))["oldest"]
    if oldest is None:
        return None
    now = read_clock(connection)
    free = Q(state=Export.State.QUEUED) | Q(state=Export.State.RUNNING, touched_at__lt=now - STALE)
    if not Export.objects.filter(free, pk=oldest).update(state=Export.State.RUNNING, touched_at=now, rows=0):
        return None
    return Export.objects.get(pk=oldest)


@dataclass
class Run:
    """One run over one claimed export: what it has written, and its token."""

    pk: int
    token: datetime | None
    parts: int = 0
    rows: int = 0
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    touched: float = field(default_factory=time.monotonic)

    def update(self, **values: Any) -> None:
        """Write to the row while it is this run's. Raises TakenOver."""
        now = read_clock(connection)
        own = Export.objects.filter(pk=self.pk, state=Export.State.RUNNING, touched_at=self.token)
        if not own.update(touched_at=now, **values):
            raise TakenOver(f"export {self.pk}")
        self.token, self.touched = now, time.monotonic()

    def begin(self, rows: int) -> None:
        """What a run before has left behind goes."""
        with transaction.atomic():
            self.update(rows=0, rows_expected=rows)
            ExportPart.objects.filter(export_id=self.pk).delete()

    def write_part(self, data: bytes) -> None:
        with transaction.atomic():
            self.update(rows=self.rows)
            ExportPart.objects.create(export_id=self.pk, number=self.parts, data=data)
        self.parts += 1

    def end(self) -> None:
        self.update(
            state=Export.State.DONE,
            rows=self.rows,
            rows_expected=self.rows,
            size_bytes=self.size,
            sha256=self.digest.hexdigest(),
            finished_at=read_clock(connection),
        )

    def fail(self, reason: str) -> None:
        with suppress(TakenOver), transaction.atomic():
            self.update(state=Export.State.FAILED, error=reason[:300], finished_at=read_clock(connection))
            ExportPart.objects.filter(export_id=self.pk).delete()


def make_export(export: Export) -> None:
    """Make what this process has claimed. The row, and the object given, say how it ended."""
    run = Run(export.pk, export.touched_at)
    try:
        write_export(run, export)
    except TakenOver as lost:
        logger.warning("%s was taken over by another run", lost)
    except ExportError as error:
        run.fail(str(error))
    except Exception as error:
        # The reader of the page can do nothing about it; who can reads the log.
        logger.exception("export %s failed", export.pk)
        run.fail(f"{type(error).__name__}: {error}")
    export.refresh_from_db()


def write_export(run: Run, export: Export) -> None:
    with open_read_only_snapshot(connection):
        plan = make_plan(read_order(export))
    run.begin(plan.rows)
    packer, packed = zlib.compressobj(level=3, wbits=31), bytearray()
    for piece, rows in stream_export(plan, bom=BOM if export.with_bom else b""):
        run.rows, run.size = rows, run.size + len(piece)
        run.digest.update(piece)
        packed += packer.compress(piece)
        if len(packed) >= PART_BYTES:
            run.write_part(bytes(packed))
            packed.clear()
        elif time.monotonic() - run.touched > TOUCH_S:
            run.update(rows=rows)
    run.write_part(bytes(packed + packer.flush()))
    run.end()


def read_order(export: Export) -> Order:
    return Order(export.kind, export.first_day, export.last_day, export.account_id)


def read_export(export: Export) -> Iterator[bytes]:
    """The file, unpacked a part at a time."""
    unpacker = zlib.decompressobj(wbits=31)
    number = 0
    while part := ExportPart.objects.filter(export=export, number=number).values_list("data", flat=True).first():
        yield unpacker.decompress(part)
        number += 1


def expire_exports() -> int:
    """Delete the bytes of what has expired, and give up what never ended; the rows stay, and say who asked for what.

    How many were expired. A part at a time: on SQLite a long delete would hold every writer up.
    """
    now = read_clock(connection)
    lost = Export.objects.filter(state=Export.State.RUNNING, created_at__lt=now - GIVEN_UP, touched_at__lt=now - STALE)
    lost.update(state=Export.State.FAILED, error="given up: it never came to its end", finished_at=now)
    expired = list_expired(now)
    for pk in expired:
        while ids := list(ExportPart.objects.filter(export_id=pk).values_list("pk", flat=True)[:8]):
            ExportPart.objects.filter(pk__in=ids).delete()
    return len(expired)


def list_expired(now: datetime) -> list[int]:
    """Exports whose time is up and whose bytes are still here."""
    rows: QuerySet[Export] = Export.objects.filter(expires_at__lte=now).exclude(state__in=UNFINISHED)
    return list(rows.filter(parts__isnull=False).order_by("pk").values_list("pk", flat=True).distinct())
