"""The registry's part of a document: `models`, by their public names."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from crazyrouter.management.configuration.document import Item
from crazyrouter.management.configuration.edits import Edit, revise
from crazyrouter.management.configuration.entries import Entry, Shape, find_named, read_entry, read_named
from crazyrouter.management.configuration.faults import Faults
from crazyrouter.management.configuration.fields import Column, Reference, Whole
from crazyrouter.management.configuration.prices import (
    TimeLine,
    export_prices,
    find_strangers,
    load_time_lines,
    plan_prices,
)
from crazyrouter.management.configuration.sizes import RecordSizes, ReplaceSizes, export_size, read_sizes, tell_change
from crazyrouter.management.configuration.values import (
    INTEGER,
    SMALL,
    Choice,
    Moment,
    Number,
    Size,
    Text,
)
from models_registry.catalog import PublicModel, publish
from models_registry.limits import fits_range
from models_registry.models import ImageModel, ImageSize, ModelFamily

MODEL = Shape(
    "model",
    fields=(
        Column("title", Text()),
        Column("description", Text()),
        Reference("family", name="slug"),
        Column("status", Choice("status", lambda: ImageModel.Status.values)),
        Column("execution_shape", Choice("shape", lambda: ImageModel.Shape.values)),
        Column("capability", Text()),
        Column("created_at", Moment()),
        Column("default_size", Size()),
        Whole(
            "size_range",
            (
                ("min_pixels", Number(1, INTEGER)),
                ("max_pixels", Number(1, INTEGER)),
                ("multiple", Number(1, SMALL)),
                ("min_side", Number(1, SMALL)),
                ("max_side", Number(1, SMALL)),
            ),
        ),
        Column("max_n", Number(1, 10)),
        Column("prompt_limit", Number(1, INTEGER)),
        Column("negative_prompt_limit", Number(0, INTEGER)),
    ),
    parts=("sizes", "price", "price_changes"),
    refused={"verification": "is decided by evidence, in the admin and with a reason: no file can set it"},
)
NO_PRICES = TimeLine(None, {})


@dataclass(slots=True)
class Catalog:
    """The models as they will be: `rows` and `foreseen` by name, `named` are those that the file names."""

    rows: dict[str, ImageModel]
    foreseen: dict[str, PublicModel] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    edits: list[Edit] = field(default_factory=list)


def plan_models(
    section: Item | None, *, families: Mapping[str, ModelFamily], now: datetime, faults: Faults, notes: Faults
) -> Catalog:
    """What must be written for the models to be as the section says."""
    catalog = Catalog({row.name: row for row in load_models()})
    lines = load_time_lines(now)
    for name, item in read_named(section, path="models", what="model", faults=faults).items():
        catalog.named.add(name)
        row = catalog.rows.setdefault(name, ImageModel(name=name))
        entry = read_entry(item, path=f"models.{name}", shape=MODEL, faults=faults)
        if entry is not None:
            known = lines.get(row.pk, NO_PRICES)
            find_named(entry, "family", families, what="model family")
            catalog.edits.append(plan_model(entry, row, known=known, now=now))
            note_prices(entry, row, known, now=now, notes=notes)
    catalog.foreseen = {name: foresee(row) for name, row in catalog.rows.items() if row.default_size}
    return catalog


def load_models() -> QuerySet[ImageModel]:
    return ImageModel.objects.select_related("family").prefetch_related("sizes")


def plan_model(entry: Entry, row: ImageModel, *, known: TimeLine, now: datetime) -> Edit:
    before = [] if row._state.adding else list(row.sizes.all())
    if row._state.adding:
        entry.require("title", "execution_shape", "default_size")
    check_range(entry)
    edit = revise(row, entry, settled=["family"])
    wanted = read_sizes(entry, row)
    keep_sizes(row, before if wanted is None else wanted)
    check_default(entry, row)
    if wanted is not None and list(map(export_size, wanted)) != list(map(export_size, before)):
        edit.lines.append(f"sizes: {tell_change(before, wanted)}")
        recorded = [] if edit.writes else [RecordSizes(row)]
        edit.writes += [ReplaceSizes(row, wanted), *recorded]
    plan_prices(entry, row, edit, known=known, now=now)
    return edit


def check_range(entry: Entry) -> None:
    found = entry.columns
    if found.get("min_pixels") is None:
        return
    if found["min_pixels"] > found["max_pixels"] or found["min_side"] > found["max_side"]:
        entry.blame("size_range", "its least is above its most")


def check_default(entry: Entry, row: ImageModel) -> None:
    """A request without a size gets the default: it must be sold."""
    if "default_size" in entry.unfit or "sizes" in entry.unfit or "size_range" in entry.unfit or not row.default_size:
        return
    model = foresee(row)
    if model.default_size in model.sizes or (model.size_range and fits_range(model.default_size, model.size_range)):
        return
    key = "default_size" if "default_size" in entry.lines else "sizes"
    entry.blame(key, f"the default size {row.default_size} is not among the sizes")


def keep_sizes(row: ImageModel, sizes: Sequence[ImageSize]) -> None:
    """Whoever asks the row for its sizes from now on is told these."""
    row._prefetched_objects_cache = {"sizes": list(sizes)}  # type: ignore[attr-defined]


def foresee(row: ImageModel) -> PublicModel:
    """The model as customers will see it; a row that is not saved yet has no id, which Django would ask for."""
    twin = copy.copy(row)
    twin.pk = row.pk or 0
    return publish(twin, None)


def note_prices(entry: Entry, row: ImageModel, known: TimeLine, *, now: datetime, notes: Faults) -> None:
    for moment in find_strangers(entry, known, now):
        notes.add(entry.line, entry.path, f"another price begins {Moment().write(moment)}: the file does not name it")
    if row.status == ImageModel.Status.ACTIVE and known.now is None and "price" not in entry.parts:
        notes.add(entry.line, entry.path, "has no price: every request for it is refused until it has one")


def export_models(now: datetime) -> dict[str, Any]:
    lines = load_time_lines(now)
    rows = sorted(load_models(), key=lambda row: row.name)
    return {row.name: export_model(row, lines.get(row.pk, NO_PRICES)) for row in rows}


def export_model(row: ImageModel, known: TimeLine) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in MODEL.fields:
        if each.key == "default_size":
            found |= export_prices(known)
        found[each.key] = each.write(row)
        if each.key == "default_size":
            found["sizes"] = [export_size(size) for size in row.sizes.all()]
    return found
