from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from models_registry.catalog import load_catalog
from models_registry.models import ImageModel, Price
from models_registry.seed import seed_models


def test_the_price_in_force_is_the_latest_that_has_begun(db: None) -> None:
    seed_models()
    model = ImageModel.objects.get(name="qwen-image-max")
    now = timezone.now()
    Price.objects.create(model=model, amount_micros=600_000, effective_from=now + timedelta(hours=1))
    Price.objects.create(model=model, amount_micros=700_000, effective_from=now + timedelta(hours=2))
    found = [load_catalog(now + timedelta(hours=hours))["qwen-image-max"].price for hours in (0, 1, 3)]
    assert [price and price.amount_micros for price in found] == [500_000, 600_000, 700_000]


def test_a_price_cannot_be_edited_or_deleted_below_the_orm(db: None) -> None:
    seed_models()
    for statement in ("UPDATE models_registry_price SET amount_micros = 1", "DELETE FROM models_registry_price"):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert Price.objects.count() == 4
