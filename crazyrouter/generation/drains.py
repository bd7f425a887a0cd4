"""The calls that run at a channel, and the end of a drain when there is none any more."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.conf import settings
from django.db.models import Count
from django.utils import timezone

from crazyrouter.generation.models import Attempt, Generation
from providers.drain import end_drain
from providers.models import Channel

#: Until every process knows of a drain, and what it had begun before stands in the database.
SETTLE_S = 10
OPEN = (Attempt.State.CREATED, Attempt.State.ACCEPTED)


def count_running_calls(channel_ids: Collection[int]) -> dict[int, int]:
    """Calls that were sent and have not ended, by channel; channels without one are left out.

    By the index of running generations and the one of shadows, so that it costs what runs and not what ever ran.
    """
    if not channel_ids:
        return {}
    open_attempts = Attempt.objects.filter(channel__in=channel_ids, state__in=OPEN).order_by()
    running = Generation.objects.filter(state=Generation.State.RUNNING).order_by().values("pk")
    # No call is waited for longer than this: a shadow older than it was lost with its process.
    oldest = timezone.now() - timedelta(seconds=settings.ASYNC_HORIZON_S + settings.SYNC_HORIZON_S)
    counts: dict[int, int] = {}
    for attempts in (
        open_attempts.filter(generation__in=running, purpose=Attempt.Purpose.CUSTOMER),
        open_attempts.filter(purpose=Attempt.Purpose.SHADOW, created_at__gte=oldest),
    ):
        for channel, calls in attempts.values_list("channel").annotate(calls=Count("pk")):
            counts[channel] = counts.get(channel, 0) + calls
    return counts


def end_drains() -> int:
    """Disable the draining channels at which nothing runs any more. How many."""
    settled = timezone.now() - timedelta(seconds=SETTLE_S)
    draining = list(Channel.objects.filter(enabled=True, draining_since__lte=settled))
    running = count_running_calls([channel.pk for channel in draining])
    return sum(
        end_drain(channel, channel.draining_since)
        for channel in draining
        if channel.draining_since is not None and channel.pk not in running
    )
