"""The read side of the public pages: families with their models, and since when each is what it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from models_registry.catalog import Catalog, PublicModel
from models_registry.models import ModelFamily, Verification


@dataclass(frozen=True, slots=True)
class PublicFamily:
    """A family that has something to sell. Its texts are plain text, whatever signs they hold."""

    slug: str
    title: str
    summary: str
    notes: tuple[str, ...]
    models: tuple[PublicModel, ...]


def load_families(catalog: Catalog) -> list[PublicFamily]:
    """Those with at least one public model, in the order of the registry."""
    families = [publish_family(row, catalog) for row in ModelFamily.objects.all()]
    return [family for family in families if family.models]


def publish_family(row: ModelFamily, catalog: Catalog) -> PublicFamily:
    return PublicFamily(
        slug=row.slug,
        title=row.title,
        summary=row.summary,
        notes=tuple(note.strip() for note in row.notes.splitlines() if note.strip()),
        models=tuple(sorted((one for one in catalog.values() if one.family_id == row.pk), key=lambda one: one.id)),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """Since when a model is verified or Beta, and whether it was moved there: else it was first published as that."""

    since: datetime
    was_moved: bool


def load_standings(catalog: Catalog) -> Mapping[int, Standing]:
    """Of every model of the catalog, by its id."""
    moves = dict(Verification.objects.order_by("at", "id").values_list("model_id", "at"))
    published = {model.id: datetime.fromtimestamp(model.created, UTC) for model in catalog.values()}
    return {pk: Standing(moves.get(pk, created), pk in moves) for pk, created in published.items()}
