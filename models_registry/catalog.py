"""The read side of the registry: an immutable snapshot of what is sold now, as the hot path uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from django.utils import timezone

from models_registry.models import ImageModel, Price


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Free sizes: both sides multiples of `multiple` within the sides, their product within the pixels."""

    min_pixels: int
    max_pixels: int
    multiple: int
    min_side: int
    max_side: int


@dataclass(frozen=True, slots=True)
class PublicPrice:
    """The price version in force, and since when. `version` is its id; the amount is in micro-CNY per image."""

    version: int
    amount_micros: int
    currency: str
    effective_from: datetime


@dataclass(frozen=True, slots=True)
class PublicModel:
    """One model as customers see it. `sizes` maps public (width, height) to the size that is rendered."""

    id: int
    name: str
    title: str
    description: str
    family_id: int | None
    created: int
    execution_shape: str
    capability: str
    verification: str
    default_size: tuple[int, int]
    sizes: Mapping[tuple[int, int], tuple[int, int]]
    size_range: SizeRange | None
    max_n: int
    prompt_limit: int
    negative_prompt_limit: int
    price: PublicPrice | None


#: Public models by name.
Catalog = Mapping[str, PublicModel]


def load_catalog(now: datetime | None = None) -> Catalog:
    """Read the active models with their sizes and the price in force: three queries."""
    rows = ImageModel.objects.filter(status=ImageModel.Status.ACTIVE).prefetch_related("sizes")
    prices = load_prices(now or timezone.now())
    return MappingProxyType({row.name: publish(row, prices.get(row.pk)) for row in rows})


def load_prices(now: datetime) -> dict[int, PublicPrice]:
    """The latest price version of each model that is in force at this time."""
    versions = Price.objects.filter(effective_from__lte=now).order_by("effective_from", "id")
    return {
        price.model_id: PublicPrice(price.pk, price.amount_micros, price.currency, price.effective_from)
        for price in versions
    }


def publish(row: ImageModel, price: PublicPrice | None) -> PublicModel:
    sizes = {
        (size.width, size.height): (size.render_width or size.width, size.render_height or size.height)
        for size in row.sizes.all()
    }
    return PublicModel(
        id=row.pk,
        name=row.name,
        title=row.title,
        description=row.description,
        family_id=row.family_id,
        created=int(row.created_at.timestamp()),
        execution_shape=row.execution_shape,
        capability=row.capability,
        verification=row.verification,
        default_size=parse_stored_size(row.default_size),
        sizes=MappingProxyType(sizes),
        size_range=read_range(row),
        max_n=row.max_n,
        prompt_limit=row.prompt_limit,
        negative_prompt_limit=row.negative_prompt_limit,
        price=price,
    )


def read_range(row: ImageModel) -> SizeRange | None:
    if None in (row.min_pixels, row.max_pixels, row.multiple, row.min_side, row.max_side):
        return None
    return SizeRange(row.min_pixels, row.max_pixels, row.multiple, row.min_side, row.max_side)  # type: ignore[arg-type]


def parse_stored_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)
