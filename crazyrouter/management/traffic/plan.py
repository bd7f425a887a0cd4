"""How much traffic, in which time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils import timezone


@dataclass(frozen=True, slots=True)
class Plan:
    """`share` of all generations belong to the first account; the others divide the rest."""

    generations: int
    accounts: int
    days: int
    seed: int
    until: datetime
    share: float = 0.6
    batch: int = 10_000

    @property
    def since(self) -> datetime:
        return self.until - timedelta(days=self.days)


def find_latest_end() -> datetime:
    """The last midnight (UTC) before which every picture has expired: the rows own no files."""
    moment = timezone.now().astimezone(UTC) - timedelta(hours=settings.FILE_TTL_HOURS)
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
