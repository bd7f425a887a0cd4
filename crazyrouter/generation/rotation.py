"""Old secrets of channels, deleted when nothing can need them any more.

An old secret is still needed

    by an attempt that has not ended       its task is polled with it, by whichever process takes it over
    by a generation that runs and was      it froze its candidates with their secrets, and may order with them until
    opened before all had the new one      it ends

and the newest of a channel is needed whatever happens: new calls use it. Deleted is the secret; its row stays, since
attempts name it for ever: what a call was sent with is part of the books.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from django.db import connection
from django.db.models import Exists, QuerySet

from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.sql import read_clock
from providers.models import Channel, Credential

#: Snapshots are two seconds old at most; the rest is for transactions that end late and clocks that disagree.
SETTLING = timedelta(seconds=60)
OPEN = (Attempt.State.CREATED, Attempt.State.ACCEPTED)


@dataclass(frozen=True, slots=True)
class Old:
    """A secret that another one replaced, and when; `needed` says by what it still is, empty if by nothing."""

    credential: Credential
    replaced_at: datetime
    needed: str = ""


def delete_unused_credentials(channels: Iterable[Channel]) -> tuple[list[Credential], list[Old]]:
    """Delete old secrets of these channels that nothing needs: those that are gone now, and those that stay.

    Each goes by one conditional UPDATE: of several who ask at the same time one deletes it.
    """
    deleted, kept = [], []
    for old in list_old(channels):
        if old.needed:
            kept.append(old)
        elif delete_unused(old):
            deleted.append(old.credential)
    return deleted, kept


def list_old(channels: Iterable[Channel]) -> list[Old]:
    """Replaced secrets that are still there, oldest first."""
    found: list[Old] = []
    for channel in channels:
        for credential, successor in pairwise(channel.credentials.order_by("pk")):
            if credential.ciphertext:
                needed = find_need(credential, successor.created_at)
                found.append(Old(credential, successor.created_at, needed))
    return found


def find_need(credential: Credential, replaced_at: datetime) -> str:
    """What needs a replaced secret, in words for an operator; empty for nothing."""
    open_attempts = list_polled(credential).count() + list_shadows(credential).count()
    if open_attempts:
        return f"attempts that were sent with it and have not ended: {open_attempts:,}"
    if read_clock(connection) < replaced_at + SETTLING:
        return f"it was replaced less than {SETTLING.total_seconds():.0f} s ago"
    running = list_older_generations(replaced_at).count()
    return f"generations that run and may still order with it: {running:,}" if running else ""


def delete_unused(old: Old) -> bool:
    """Whether this call deleted it. That it was replaced long enough ago is true for ever; the rest is asked again."""
    unneeded = Credential.objects.filter(
        ~Exists(list_polled(old.credential)),
        ~Exists(list_shadows(old.credential)),
        ~Exists(list_older_generations(old.replaced_at)),
        pk=old.credential.pk,
    )
    return unneeded.exclude(ciphertext="").update(ciphertext="") == 1


def list_polled(credential: Credential) -> QuerySet[Attempt]:
    """Open attempts of running generations; of an ended one nobody asks any more."""
    return Attempt.objects.filter(generation__state=Generation.State.RUNNING, credential=credential, state__in=OPEN)


def list_shadows(credential: Credential) -> QuerySet[Attempt]:
    """Open copies: they may outlive the generation that they were made of."""
    return Attempt.objects.filter(purpose=Attempt.Purpose.SHADOW, credential=credential, state__in=OPEN)


def list_older_generations(replaced_at: datetime) -> QuerySet[Generation]:
    """Those that run and may have been opened with a secret that was replaced at this moment."""
    return Generation.objects.filter(state=Generation.State.RUNNING, created_at__lt=replaced_at + SETTLING)
