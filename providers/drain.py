"""Taking a channel out of service without dropping a call: nothing new goes there, and when its calls have ended it is
disabled. Every move is a conditional UPDATE, with a version in the channel's history."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from providers.models import Channel

DRAINED = "drained"


def start_drain(channel: Channel) -> bool:
    """Send it nothing new, in every process within 2 s. False if it is disabled or draining already."""
    return move(channel, "drain", {"enabled": True, "draining_since": None}, draining_since=timezone.now())


def stop_drain(channel: Channel) -> bool:
    """Back into service. False if it does not drain (any more)."""
    return move(channel, "drain stopped", {"enabled": True, "draining_since__isnull": False}, draining_since=None)


def end_drain(channel: Channel, since: datetime) -> bool:
    """Disable it, its calls having ended. False if the drain that began then was stopped meanwhile."""
    return move(
        channel,
        DRAINED,
        {"enabled": True, "draining_since": since},
        enabled=False,
        disabled_reason=DRAINED,
        draining_since=None,
    )


def move(channel: Channel, reason: str, condition: dict[str, Any], **values: Any) -> bool:
    """Set these columns if the row still is as expected; whoever made the request stands in the history."""
    with transaction.atomic():
        if not Channel.objects.filter(pk=channel.pk, **condition).update(**values):
            return False
        channel.refresh_from_db()
        Channel.history.bulk_history_create([channel], update=True, default_change_reason=reason)
    return True
