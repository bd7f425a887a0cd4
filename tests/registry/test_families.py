"""Families of models: what pages are made of, and what an older database is given."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module

import pytest
from django.apps import apps

from models_registry.catalog import load_catalog
from models_registry.families import Standing, load_families, load_standings
from models_registry.models import ImageModel, ModelFamily
from models_registry.seed import FAMILY, seed_models
from models_registry.verification import move_verification

NAMES = ["qwen-image-plus", "qwen-image-max", "qwen-image-2.0", "qwen-image-2.0-pro"]


@pytest.fixture
def models(db: None) -> None:
    seed_models()


def test_the_first_four_are_one_family_in_the_order_of_their_promise(models: None) -> None:
    (family,) = load_families(load_catalog())
    assert (family.slug, family.title) == ("qwen", "Qwen Image")
    assert [model.name for model in family.models] == NAMES
    assert len(family.notes) == 2
    assert "qwen-image-edit-2509" in family.notes[1]


def test_a_family_without_anything_on_sale_is_not_shown(models: None) -> None:
    ModelFamily.objects.create(slug="empty", title="Nothing yet")
    ImageModel.objects.filter(name="qwen-image-max").update(status="hidden")
    (family,) = load_families(load_catalog())
    assert [model.name for model in family.models] == [name for name in NAMES if name != "qwen-image-max"]
    ImageModel.objects.update(status="retired")
    assert load_families(load_catalog()) == []


def test_verified_since_the_last_move_or_else_since_it_was_published(models: None, admin_user: object) -> None:
    pro = ImageModel.objects.get(name="qwen-image-2.0-pro")
    published = datetime(2026, 3, 3, tzinfo=UTC)
    assert load_standings(load_catalog())[pro.pk] == Standing(published, was_moved=False)
    move_verification(pro, to_state="verified", reason="evidence", actor=admin_user)
    move = move_verification(pro, to_state="beta", reason="no longer", actor=admin_user)
    assert load_standings(load_catalog())[pro.pk] == Standing(move.at, was_moved=True)
    assert load_standings(load_catalog())[ImageModel.objects.get(name="qwen-image-max").pk] == Standing(
        published, was_moved=False
    )


def test_an_older_database_gets_its_models_into_the_first_family(models: None) -> None:
    migration = import_module("models_registry.migrations.0004_first_family")
    assert migration.FAMILY == FAMILY
    ImageModel.objects.update(family=None)
    ModelFamily.objects.all().delete()
    other = ImageModel.objects.create(name="other", title="Other", execution_shape="sync", default_size="512x512")
    for _ in range(2):
        migration.gather_known_models(apps, None)
    assert list(ModelFamily.objects.values_list("slug", flat=True)) == ["qwen"]
    assert sorted(ImageModel.objects.exclude(family=None).values_list("name", flat=True)) == sorted(NAMES)
    other.refresh_from_db()
    assert other.family is None
