"""System checks of the whole product. Those that read the database run with `check --deploy` alone, and say nothing
where there is no database yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import DatabaseError, connection
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from models_registry.models import ImageModel, Price
from providers.models import Channel, Offer

#: `->>` on JSON is the youngest thing that crazyrouter/sql.py needs (UPDATE … FROM 3.33, RETURNING 3.35).
LEAST_SQLITE = (3, 38, 0)


def check_sqlite_version(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    if connection.vendor != "sqlite" or sqlite3.sqlite_version_info >= LEAST_SQLITE:
        return []
    least = ".".join(map(str, LEAST_SQLITE))
    return [
        Error(
            f"SQLite {sqlite3.sqlite_version} is too old: {least} or newer is needed.",
            hint="Use a Python that is built with a newer SQLite, or PostgreSQL.",
            id="crazyrouter.E001",
        )
    ]


def check_leases(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """A lease that ends before it is renewed lets a second process take over living work."""
    if settings.LEASE_REFRESH_S < settings.LEASE_S:
        return []
    return [
        Error(
            f"LEASE_REFRESH_S ({settings.LEASE_REFRESH_S:g}) must be shorter than LEASE_S ({settings.LEASE_S:g}).",
            hint="The defaults are 5 and 20.",
            id="crazyrouter.E002",
        )
    ]


def check_simulated_channels(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """A simulated picture is never sold."""
    if not has_tables(Channel):
        return []
    names = Channel.objects.filter(simulated=True, enabled=True).order_by("name").values_list("name", flat=True)
    return [
        Error(
            f"The channel {name!r} is simulated and enabled: its pictures would be sold.",
            hint="Disable it in the admin, or delete it.",
            id="crazyrouter.E003",
        )
        for name in names
    ]


def check_published_shapes(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """What is published of a model should be what at least one enabled offer does."""
    if not has_tables(ImageModel, Offer, Channel):
        return []
    fitting = Offer.objects.filter(
        model=OuterRef("pk"), shape=F("model__execution_shape"), enabled=True, weight__gt=0, channel__enabled=True
    )
    lonely = ImageModel.objects.filter(~Exists(fitting), status=ImageModel.Status.ACTIVE).order_by("name")
    return [
        checks.Warning(
            f"The model {model.name!r} is published as {model.execution_shape}, and no enabled offer is.",
            hint="Enable an offer of that shape, or publish another one.",
            id="crazyrouter.W001",
        )
        for model in lonely
    ]


def check_prices(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """A model without a price in force refuses every order."""
    if not has_tables(ImageModel, Price):
        return []
    in_force = Price.objects.filter(model=OuterRef("pk"), effective_from__lte=timezone.now())
    unpriced = ImageModel.objects.filter(~Exists(in_force), status=ImageModel.Status.ACTIVE).order_by("name")
    return [
        checks.Warning(
            f"The model {model.name!r} is active and has no price in force: orders are refused with 503.",
            hint="Append a price in the admin, or hide the model.",
            id="crazyrouter.W002",
        )
        for model in unpriced
    ]


def has_tables(*models: type[ImageModel | Channel | Offer | Price]) -> bool:
    """False without a database, too: checks run before there is one, and must not make an empty file of it."""
    if connection.vendor == "sqlite" and not is_there(str(connection.settings_dict["NAME"])):
        return False
    try:
        present = set(connection.introspection.table_names())
    except DatabaseError:
        return False
    return {model._meta.db_table for model in models} <= present


def is_there(database: str) -> bool:
    return database.startswith("file:") or ":memory:" in database or Path(database).exists()
