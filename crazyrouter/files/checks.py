from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error

LEAST_TTL_HOURS = 24


def check_file_ttl(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """Customers are promised a day to collect what they paid for."""
    if settings.FILE_TTL_HOURS >= LEAST_TTL_HOURS:
        return []
    return [
        Error(
            f"FILE_TTL_HOURS is {settings.FILE_TTL_HOURS:g}: delivered images must be kept for {LEAST_TTL_HOURS} hours",
            hint="Set FILE_TTL_HOURS to 24 or more; the default is 72.",
            id="files.E001",
        )
    ]
