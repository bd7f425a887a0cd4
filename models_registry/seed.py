"""The first four models, exactly as they are promised to the public. Sizes, limits: Qwen-Image API reference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction

from models_registry.models import ImageModel, ImageSize, ModelFamily, Price

#: Public size -> render size where the two differ. 1024x1024 is what most OpenAI clients send; the upstream does not
#: take it for plus and max, so it is rendered at 1328x1328 and resampled.
CLASSIC_SIZES: tuple[tuple[str, str | None], ...] = (
    ("1664x928", None),
    ("1472x1104", None),
    ("1328x1328", None),
    ("1104x1472", None),
    ("928x1664", None),
    ("1024x1024", "1328x1328"),
)
RANGE_SIZES: tuple[tuple[str, str | None], ...] = (
    ("2048x2048", None),
    ("2688x1536", None),
    ("1536x2688", None),
    ("2368x1728", None),
    ("1728x2368", None),
    ("1024x1024", None),
)
RANGE = {"min_pixels": 512 * 512, "max_pixels": 2048 * 2048, "multiple": 16, "min_side": 256, "max_side": 4096}


FAMILY = {
    "slug": "qwen",
    "title": "Qwen Image",
    "summary": "Text-to-image models that draw posters, products and people, and set Chinese and English lettering.",
    "notes": "This first batch sells text-to-image alone. Whatever else the models can do upstream has no public "
    "interface yet.\n"
    "Editing is a capability of its own, to be decided separately: the edit model qwen-image-edit-2509 is not part of "
    "this batch.",
}


@dataclass(frozen=True)
class Seed:
    name: str
    title: str
    shape: str
    verification: str
    price_micros: int
    ranged: bool

    @property
    def facts(self) -> dict[str, object]:
        """Column values of the model row."""
        common = {
            "title": self.title,
            "execution_shape": self.shape,
            "verification": self.verification,
            "created_at": datetime(2026, 3, 3, tzinfo=UTC),
        }
        if self.ranged:
            return common | RANGE | {"default_size": "2048x2048", "max_n": 6, "prompt_limit": 1300}
        return common | {"default_size": "1664x928", "max_n": 4, "prompt_limit": 800}


SEEDS = (
    Seed("qwen-image-plus", "Qwen Image Plus", "async", "verified", 200_000, ranged=False),
    Seed("qwen-image-max", "Qwen Image Max", "sync", "verified", 500_000, ranged=False),
    Seed("qwen-image-2.0", "Qwen Image 2.0", "sync", "verified", 200_000, ranged=True),
    Seed("qwen-image-2.0-pro", "Qwen Image 2.0 Pro", "sync", "beta", 500_000, ranged=True),
)


def seed_models() -> list[str]:
    """Create the models that are missing, with sizes and a first price. What exists is left as operators made it."""
    created = []
    for seed in SEEDS:
        with transaction.atomic():
            model, is_new = ImageModel.objects.get_or_create(name=seed.name, defaults=seed.facts)
            if is_new:
                family, _ = ModelFamily.objects.get_or_create(slug=FAMILY["slug"], defaults=FAMILY)
                ImageModel.objects.filter(pk=model.pk).update(family=family)
                add_sizes(model, RANGE_SIZES if seed.ranged else CLASSIC_SIZES)
                Price.objects.create(model=model, amount_micros=seed.price_micros, reason="first price", actor="seed")
                created.append(seed.name)
    return created


def add_sizes(model: ImageModel, sizes: tuple[tuple[str, str | None], ...]) -> None:
    for position, (public, render) in enumerate(sizes):
        width, height = map(int, public.split("x"))
        render_width, render_height = map(int, render.split("x")) if render else (None, None)
        ImageSize.objects.create(
            model=model,
            width=width,
            height=height,
            render_width=render_width,
            render_height=render_height,
            position=position,
        )
