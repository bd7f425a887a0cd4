"""System checks: what they find, and that they are silent where there is no database."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import registry, run_checks
from django.db import connection
from django.utils import timezone

from crazyrouter.ops import checks
from models_registry.models import ImageModel, Price
from models_registry.seed import seed_models
from providers.models import Channel, Offer
from tests.shop import open_shop

SIMULATOR = "http://127.0.0.1:8001"


def name_found(found: list[Any]) -> list[tuple[str, str]]:
    return [(message.id, message.msg) for message in found]


def test_an_enabled_simulated_channel_stops_a_deployment(db: None) -> None:
    open_shop(SIMULATOR)
    Channel.objects.filter(kind="dashscope_async").update(enabled=False)
    assert name_found(checks.check_simulated_channels()) == [
        (
            "crazyrouter.E003",
            "The channel 'dashscope_sync-0' is simulated and enabled: its pictures would be sold.",
        )
    ]
    Channel.objects.update(enabled=False)
    assert checks.check_simulated_channels() == []


def test_simulated_channels_are_looked_for_on_deployment_only(db: None) -> None:
    open_shop(SIMULATOR)
    assert "crazyrouter.E003" in {message.id for message in run_checks(include_deployment_checks=True)}
    assert "crazyrouter.E003" not in {message.id for message in run_checks()}


def test_a_published_shape_that_nobody_offers_is_a_warning(db: None) -> None:
    open_shop(SIMULATOR)
    assert checks.check_published_shapes() == []
    Offer.objects.filter(model__name="qwen-image-plus").update(enabled=False)
    Offer.objects.filter(model__name="qwen-image-max").update(weight=0)
    ImageModel.objects.filter(name="qwen-image-2.0").update(execution_shape="async")
    assert name_found(checks.check_published_shapes()) == [
        ("crazyrouter.W001", "The model 'qwen-image-2.0' is published as async, and no enabled offer is."),
        ("crazyrouter.W001", "The model 'qwen-image-max' is published as sync, and no enabled offer is."),
        ("crazyrouter.W001", "The model 'qwen-image-plus' is published as async, and no enabled offer is."),
    ]


def test_an_active_model_without_a_price_in_force_is_a_warning(db: None) -> None:
    seed_models()
    assert checks.check_prices() == []
    later = timezone.now() + timedelta(days=1)
    model = ImageModel.objects.create(name="new", execution_shape="sync", default_size="512x512")
    Price.objects.create(model=model, amount_micros=1, effective_from=later)
    assert name_found(checks.check_prices()) == [
        ("crazyrouter.W002", "The model 'new' is active and has no price in force: orders are refused with 503.")
    ]
    ImageModel.objects.filter(name="new").update(status=ImageModel.Status.HIDDEN)
    assert checks.check_prices() == []


def test_a_disabled_channel_offers_no_shape_and_a_hidden_model_needs_none(db: None) -> None:
    open_shop(SIMULATOR)
    Channel.objects.filter(kind="dashscope_async").update(enabled=False)
    assert [message.id for message in checks.check_published_shapes()] == ["crazyrouter.W001"]
    ImageModel.objects.filter(name="qwen-image-plus").update(status="hidden")
    assert checks.check_published_shapes() == []


def test_checks_are_silent_before_there_are_tables(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seed_models()
    monkeypatch.setattr(type(connection.introspection), "table_names", lambda self: ["django_migrations"])
    assert checks.check_published_shapes() == []
    assert checks.check_simulated_channels() == []


def test_checks_make_no_database_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("SQLite makes a file when it is looked at")
    monkeypatch.setitem(connection.settings_dict, "NAME", str(tmp_path / "none.sqlite3"))
    assert checks.check_published_shapes() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("version", "ids"), [((3, 37, 2), ["crazyrouter.E001"]), ((3, 38, 0), [])])
def test_an_old_sqlite_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], ids: list[str]
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("about SQLite")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert [message.id for message in checks.check_sqlite_version()] == ids


@pytest.mark.parametrize(("refresh", "ids"), [(5, []), (20, ["crazyrouter.E002"]), (21, ["crazyrouter.E002"])])
def test_leases_outlive_their_renewal(settings: Any, refresh: float, ids: list[str]) -> None:
    settings.LEASE_S, settings.LEASE_REFRESH_S = 20, refresh
    assert [message.id for message in checks.check_leases()] == ids


def test_all_are_registered() -> None:
    plain = registry.registry.registered_checks
    deploy = registry.registry.deployment_checks
    assert {checks.check_sqlite_version, checks.check_leases} <= plain
    assert {checks.check_simulated_channels, checks.check_published_shapes} <= deploy
