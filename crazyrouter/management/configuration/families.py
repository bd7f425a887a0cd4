"""Families of models, which are documented together: `families`, by slug."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crazyrouter.management.configuration.document import Item
from crazyrouter.management.configuration.edits import Edit, revise
from crazyrouter.management.configuration.entries import Shape, read_entry, read_named
from crazyrouter.management.configuration.faults import Faults
from crazyrouter.management.configuration.fields import Column
from crazyrouter.management.configuration.values import SMALL, Number, Text
from models_registry.models import ModelFamily

FAMILY = Shape(
    "model family",
    fields=(
        Column("title", Text()),
        Column("summary", Text()),
        Column("notes", Text()),
        Column("position", Number(0, SMALL)),
    ),
)


@dataclass(slots=True)
class Families:
    """The families as they will be, by slug."""

    rows: dict[str, ModelFamily]
    edits: list[Edit] = field(default_factory=list)


def plan_families(section: Item | None, *, faults: Faults) -> Families:
    """What must be written for the families to be as the section says."""
    families = Families({row.slug: row for row in ModelFamily.objects.all()})
    for slug, item in read_named(section, path="families", what="model family", faults=faults).items():
        row = families.rows.setdefault(slug, ModelFamily(slug=slug))
        entry = read_entry(item, path=f"families.{slug}", shape=FAMILY, faults=faults)
        if entry is None:
            continue
        if row._state.adding:
            entry.require("title")
        families.edits.append(revise(row, entry))
    return families


def export_families() -> dict[str, Any]:
    rows = sorted(ModelFamily.objects.all(), key=lambda row: row.slug)
    return {row.slug: {each.key: each.write(row) for each in FAMILY.fields} for row in rows}
