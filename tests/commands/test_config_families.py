"""`families` of a configuration file: made before the models that name them, and left alone where it is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crazyrouter.management.configuration import applying
from crazyrouter.management.configuration.edits import Author
from models_registry.models import ImageModel, ModelFamily
from models_registry.seed import FAMILY, seed_models
from tests.commands.test_config_apply import read_everything, run

FAMILIES = """
schema: 1
models:
  qwen-image-max: {family: flux, max_n: 3}
  qwen-image-2.0: {family: null}
  new: {title: New, family: flux, execution_shape: sync, default_size: 64x64, sizes: [64x64], price: "1"}
families:
  flux: {title: Flux, notes: "one\\ntwo", position: 3}
  qwen: {summary: Pictures., position: 1}
"""


@pytest.fixture
def apply(database: None, tmp_path: Path) -> Any:
    return lambda text, *arguments: run(text, *arguments, folder=tmp_path)


def read_families() -> dict[str, str | None]:
    """By the names of models."""
    return dict(ImageModel.objects.values_list("name", "family__slug"))


def test_families_come_before_the_models_that_name_them(apply: Any) -> None:
    seed_models()
    ModelFamily.objects.update(summary="")
    assert (
        apply(FAMILIES)
        == """\
+ families.flux
    title: Flux
    notes: "one\\ntwo"
    position: 3
~ families.qwen
    summary: "" -> Pictures.
    position: 0 -> 1
~ models.qwen-image-max
    family: qwen -> flux
    max_n: 4 -> 3
~ models.qwen-image-2.0
    family: qwen -> none
+ models.new
    title: New
    family: flux
    execution_shape: sync
    default_size: 64x64
    sizes: +64x64
    price: 1.00
2 made, 3 changed, 0 as they were
"""
    )
    assert list(ModelFamily.objects.values_list("slug", "title", "summary", "notes", "position")) == [
        ("qwen", "Qwen Image", "Pictures.", FAMILY["notes"], 1),
        ("flux", "Flux", "", "one\ntwo", 3),
    ]
    assert read_families() == {
        "new": "flux",
        "qwen-image-max": "flux",
        "qwen-image-2.0": None,
        "qwen-image-2.0-pro": "qwen",
        "qwen-image-plus": "qwen",
    }


def test_families_again_change_nothing(apply: Any) -> None:
    seed_models()
    dry = apply(FAMILIES, "--dry-run").splitlines()
    assert ModelFamily.objects.count() == 1
    assert apply(FAMILIES).splitlines()[:-1] == dry[:-1]
    before = read_everything()
    assert apply(FAMILIES) == "0 made, 0 changed, 5 as they were\n"
    assert read_everything() == before


def test_a_family_that_the_file_does_not_name_stays_with_its_models(apply: Any) -> None:
    seed_models()
    for text in (
        "families:",
        "families: {}",
        "families: {other: {title: Other}}",
        "models: {qwen-image-max: {max_n: 3}}",
    ):
        apply(f"schema: 1\n{text}\n")
    assert sorted(ModelFamily.objects.values_list("slug", flat=True)) == ["other", "qwen"]
    assert set(read_families().values()) == {"qwen"}


def test_the_history_of_a_family_and_of_its_models_says_which_file(apply: Any) -> None:
    seed_models()
    apply(FAMILIES)
    versions = ModelFamily.history.order_by("slug", "history_id")
    assert [
        (each.slug, each.history_type, each.position, (each.history_change_reason or "").partition(",")[0])
        for each in versions
    ] == [
        ("flux", "+", 3, "config: shop.yaml"),
        ("qwen", "+", 0, ""),
        ("qwen", "~", 1, "config: shop.yaml"),
    ]
    assert all(
        each.history_change_reason.split(", by ")[1].startswith("shell") for each in versions.exclude(position=0)
    )
    model = ImageModel.history.filter(name="qwen-image-max").latest()
    assert (model.family.slug, model.history_change_reason.partition(",")[0]) == ("flux", "config: shop.yaml")


def test_a_family_that_goes_meanwhile_makes_the_plan_anew(apply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seed_models()
    ModelFamily.objects.create(slug="flux", title="Flux")
    carry_out, tries = applying.carry_out, []

    def lose_and_carry_out(plan: Any, author: Author) -> None:
        tries.append(plan)
        if len(tries) == 1:
            ModelFamily.objects.filter(slug="flux").delete()
        carry_out(plan, author)

    monkeypatch.setattr(applying, "carry_out", lose_and_carry_out)
    out = apply("schema: 1\nmodels: {qwen-image-max: {family: flux}}\n")
    assert out == "~ models.qwen-image-max\n    family: qwen -> flux\n0 made, 1 changed, 0 as they were\n"
    assert len(tries) == 2
    assert read_families()["qwen-image-max"] == "flux"
