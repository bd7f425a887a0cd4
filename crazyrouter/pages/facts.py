"""What pages say of the models: the registry's facts as words, frames and figures.

The registry is read anew for every page; how well a model is served, once a minute.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from billing.money import format_amount
from crazyrouter.generation.service import Service, Services, read_service
from crazyrouter.pages.site import Entry, list_docs, list_pages, name_family, name_model
from models_registry.catalog import PublicModel, SizeRange, load_catalog
from models_registry.families import PublicFamily, Standing, load_families, load_standings

#: How long the longest side of a page's frames is drawn, in pixels.
LONGEST_SIDE = 112
IN_CARDS = 0.37
SHAPES = {"sync": "sync generation", "async": "async generation"}
VERIFICATIONS = {"verified": "verified", "beta": "Beta"}


@dataclass(frozen=True, slots=True)
class Frame:
    """A size as it is drawn: `width` and `height` in pixels of the page, at one scale for all of a model."""

    text: str
    width: int
    height: int
    is_default: bool

    @property
    def small(self) -> tuple[int, int]:
        """As cards show it: all sizes in one line."""
        return max(4, round(self.width * IN_CARDS)), max(4, round(self.height * IN_CARDS))


@dataclass(frozen=True, slots=True)
class Figures:
    """How a model is served, in words; empty where too little is known."""

    typical: str
    slow: str
    availability: str
    days: Sequence[DayBar]


@dataclass(frozen=True, slots=True)
class DayBar:
    """One day of the availability strip: `level` is none, full, high or low."""

    label: str
    level: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model, as every page shows it."""

    model: PublicModel
    entry: Entry
    family: Entry | None
    price: str
    verification: str
    standing: Standing
    shape: str
    frames: tuple[Frame, ...]
    figures: Figures

    @property
    def is_beta(self) -> bool:
        return self.model.verification == "beta"

    @property
    def sizes(self) -> tuple[str, ...]:
        return tuple(frame.text for frame in self.frames)

    @property
    def default_size(self) -> str:
        return spell_size(self.model.default_size)

    @property
    def size_range(self) -> SizeRange | None:
        return self.model.size_range


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    family: PublicFamily
    entry: Entry
    models: tuple[ModelFacts, ...]


@dataclass(frozen=True, slots=True)
class Shop:
    """Everything on sale, in the order of the registry: families first, then what belongs to none."""

    families: tuple[FamilyFacts, ...]
    models: tuple[ModelFacts, ...]

    @property
    def docs(self) -> list[Entry]:
        return list_docs([one.family for one in self.families])

    @property
    def pages(self) -> list[Entry]:
        return list(list_pages([one.family for one in self.families], [one.model for one in self.models]))

    @property
    def strays(self) -> list[ModelFacts]:
        return [one for one in self.models if one.family is None]

    def find_model(self, name: str) -> ModelFacts | None:
        return next((one for one in self.models if one.model.name == name), None)

    def find_family(self, slug: str) -> FamilyFacts | None:
        return next((one for one in self.families if one.family.slug == slug), None)


class Kept:
    """The latest figures of this process. Reading them costs a tenth of a second."""

    fresh_s = 60.0

    def __init__(self) -> None:
        self._services: Services | None = None
        self._read_at = 0.0

    def get(self) -> Services:
        services, now = self._services, time.monotonic()
        if services is None or now - self._read_at > self.fresh_s:
            services = self._services = read_service()
            self._read_at = now
        return services

    def forget(self) -> None:
        self._services = None


FIGURES = Kept()


def load_shop() -> Shop:
    """The same few queries, whatever is on sale and however much was sold."""
    catalog, services = load_catalog(), FIGURES.get()
    families, standings = load_families(catalog), load_standings(catalog)
    named = {model.id: family for family in families for model in family.models}
    ordered = [*(model for family in families for model in family.models)]
    ordered += sorted((model for model in catalog.values() if model.id not in named), key=lambda model: model.id)
    facts = {model.id: gather_facts(model, named, standings, services[model.id]) for model in ordered}
    return Shop(
        families=tuple(
            FamilyFacts(family, name_family(family), tuple(facts[model.id] for model in family.models))
            for family in families
        ),
        models=tuple(facts.values()),
    )


def gather_facts(
    model: PublicModel, families: Mapping[int, PublicFamily], standings: Mapping[int, Standing], service: Service
) -> ModelFacts:
    family = families.get(model.id)
    return ModelFacts(
        model=model,
        entry=name_model(model),
        family=name_family(family) if family else None,
        price=f"¥{format_amount(model.price.amount_micros)}" if model.price else "",
        verification=VERIFICATIONS[model.verification],
        standing=standings[model.id],
        shape=SHAPES[model.execution_shape],
        frames=draw_frames(model),
        figures=describe_service(service),
    )


def draw_frames(model: PublicModel) -> tuple[Frame, ...]:
    """The listed sizes, and before them the default where a range of sizes alone allows it."""
    sizes = [*model.sizes] if model.default_size in model.sizes else [model.default_size, *model.sizes]
    longest = max(side for size in sizes for side in size)
    return tuple(
        Frame(
            spell_size((width, height)),
            max(8, round(width * LONGEST_SIDE / longest)),
            max(8, round(height * LONGEST_SIDE / longest)),
            is_default=(width, height) == model.default_size,
        )
        for width, height in sizes
    )


def spell_size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def describe_service(service: Service) -> Figures:
    return Figures(
        typical=describe_seconds(service.p50_s),
        slow=describe_seconds(service.p95_s),
        availability=describe_percent(service.availability),
        days=tuple(
            DayBar(
                f"{day.date:%-d %B}: {describe_percent(day.availability) or 'too few orders'}", rate(day.availability)
            )
            for day in service.days
        ),
    )


def describe_seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:g} s"


def describe_percent(percent: float | None) -> str:
    return "" if percent is None else f"{percent:g} %"


def rate(percent: float | None) -> str:
    if percent is None:
        return "none"
    return "full" if percent >= 99.9 else "high" if percent >= 99 else "low"
