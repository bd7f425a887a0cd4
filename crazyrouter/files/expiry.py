"""The end of stored pictures: bytes go when they expire, and files that nobody owns go an hour later.

Any number of runs may overlap or die half way: each step is repeated harmlessly by the next run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from crazyrouter.files.errors import StorageUnavailable
from crazyrouter.files.models import StoredImage
from crazyrouter.files.storage import Storage, StoredFile, get_storage

logger = logging.getLogger(__name__)

ORPHAN_AGE = timedelta(hours=1)
BATCH = 500


def expires_after(created_at: datetime) -> datetime:
    """When a picture of this moment expires."""
    return created_at + timedelta(hours=settings.FILE_TTL_HOURS)


def expire_files(now: datetime | None = None, *, batch: int = BATCH) -> int:
    """Delete the bytes of every picture whose time is up, then mark its row; how many rows this run marked.

    In this order: a crash in between leaves a row that says too little and is found again, never bytes
    that no row knows to be there. A file that will not go is logged and left for the next run.
    """
    moment = now or timezone.now()
    storage = get_storage()
    return sum(_expire(storage, rows, moment) for rows in _list_expired(moment, batch))


def sweep_orphans(older_than: timedelta = ORPHAN_AGE) -> int:
    """Remove files that no live row names, and temporaries of writers that died; how many were removed.

    Only what is older than `older_than`, by its own clock: a picture is written before its row, and
    whoever needs longer than that touches it.
    """
    cutoff = time.time() - older_than.total_seconds()
    storage = get_storage()
    old = (file for file in storage.iterate() if file.modified < cutoff)
    return sum(_sweep(storage, files, cutoff) for files in _split(old, BATCH))


def _list_expired(moment: datetime, batch: int) -> Iterator[list[tuple[int, str]]]:
    """Ids and names in batches, oldest first, each row once even if it could not be expired."""
    rest = StoredImage.objects.filter(deleted_at__isnull=True, expires_at__lte=moment).order_by("expires_at", "id")
    after = Q()
    while rows := list(rest.filter(after).values_list("id", "name", "expires_at")[:batch]):
        yield [(row_id, name) for row_id, name, _ in rows]
        last_id, _, last_expiry = rows[-1]
        after = Q(expires_at__gt=last_expiry) | Q(expires_at=last_expiry, id__gt=last_id)


def _expire(storage: Storage, rows: list[tuple[int, str]], moment: datetime) -> int:
    gone = [row_id for row_id, name in rows if _delete(storage, name)]
    return StoredImage.objects.filter(id__in=gone, deleted_at__isnull=True).update(deleted_at=moment)


def _delete(storage: Storage, name: str) -> bool:
    try:
        storage.delete(name)
    except StorageUnavailable:
        logger.exception("expired image %s cannot be deleted", name)
        return False
    return True


def _sweep(storage: Storage, files: list[StoredFile], cutoff: float) -> int:
    names = {file.name for file in files if not file.temporary}
    owned = set(StoredImage.objects.filter(name__in=names, deleted_at__isnull=True).values_list("name", flat=True))
    orphans = [file for file in files if file.temporary or file.name not in owned]
    return sum(_discard(storage, file, cutoff) for file in orphans)


def _discard(storage: Storage, file: StoredFile, cutoff: float) -> bool:
    try:
        return storage.discard(file, older_than=cutoff)
    except StorageUnavailable:
        logger.exception("orphan of %s cannot be deleted", file.name)
        return False


def _split(files: Iterable[StoredFile], size: int) -> Iterator[list[StoredFile]]:
    remaining = iter(files)
    while part := list(islice(remaining, size)):
        yield part
