from datetime import UTC, datetime

import pytest

from models_registry.catalog import PublicModel, PublicPrice, SizeRange
from models_registry.limits import Refused, check_length, check_n, choose_render_size, choose_size

RANGE = SizeRange(512 * 512, 2048 * 2048, 16, 256, 4096)


def make_model(*, ranged: bool) -> PublicModel:
    return PublicModel(
        id=1,
        name="m",
        title="M",
        description="",
        family_id=None,
        created=0,
        execution_shape="sync",
        capability="text-to-image",
        verification="beta",
        default_size=(1664, 928),
        sizes={(1664, 928): (1664, 928), (1024, 1024): (1328, 1328)},
        size_range=RANGE if ranged else None,
        max_n=4,
        prompt_limit=800,
        negative_prompt_limit=500,
        price=PublicPrice(1, 200_000, "CNY", datetime(2026, 1, 1, tzinfo=UTC)),
    )


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        (None, (1664, 928)),
        ("auto", (1664, 928)),
        ("1024x1024", (1024, 1024)),
        ("1024*1024", (1024, 1024)),
    ],
)
def test_listed_sizes(asked: str | None, size: tuple[int, int]) -> None:
    assert choose_size(make_model(ranged=False), asked) == size


@pytest.mark.parametrize("asked", ["512x512", "2048x2048", "4096x256", "256x1024", "1024*256", "4096x1024"])
def test_sizes_within_the_range(asked: str) -> None:
    width, height = (int(side) for side in asked.replace("*", "x").split("x"))
    assert choose_size(make_model(ranged=True), asked) == (width, height)


@pytest.mark.parametrize(
    "asked",
    ["", "x", "1024", "1024X1024", "1024 x 1024", "０x０", "-512x512", "512x-512", "0x0", "520x520", "496x512",
     "4112x256", "4096x1040", "2064x2048", "240x4096", "99999999x1", "1024x1024x1024", "+512x512"],
)  # fmt: skip
def test_refused_sizes(asked: str) -> None:
    with pytest.raises(Refused) as refused:
        choose_size(make_model(ranged=True), asked)
    assert (refused.value.param, refused.value.code) == ("size", "invalid_value")


def test_what_is_rendered_for_a_size() -> None:
    model = make_model(ranged=True)
    assert choose_render_size(model, (1024, 1024)) == (1328, 1328)
    assert choose_render_size(model, (512, 512)) == (512, 512)


def test_n_and_length() -> None:
    model = make_model(ranged=False)
    assert (check_n(model, 1), check_n(model, 4)) == (1, 4)
    assert check_length("prompt", "猫" * 800, 800) == "猫" * 800
    for n, code in ((0, "integer_below_min_value"), (5, "integer_above_max_value")):
        with pytest.raises(Refused) as refused:
            check_n(model, n)
        assert refused.value.code == code
    with pytest.raises(Refused):
        check_length("prompt", "猫" * 801, 800)
