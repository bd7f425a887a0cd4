"""Nothing travels with a picture, wherever it hides: what goes out is pixels, their colours and our label."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crazyrouter.files.labels import Label
from crazyrouter.files.pictures import prepare
from tests.files import stowaways
from tests.files.dissection import dissect
from tests.files.samples import decode
from tests.files.stowaways import ALL, NAME, SIZE
from tests.files.test_labels import read_label

LABEL = Label(producer="crazyrouter", produce_id="gen_1-0")
PARTS = [NAME, NAME[:20], b"DashScope", b"Alibaba", b"0f8fad5b"]


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("target", [SIZE, (48, 32)], ids=["as it came", "resampled"])
def test_nothing_travels_with_a_picture(make: Callable[[], bytes], target: tuple[int, int]) -> None:
    picture = prepare(make(), asked=SIZE, target=target, label=LABEL)
    _, faults = dissect(picture.data)
    assert faults == []
    assert [part for part in PARTS if part in picture.data] == []
    assert read_label(picture.data)["ProduceID"] == "gen_1-0"
    assert decode(picture.data).size == target


@pytest.mark.parametrize("name", [name for name in stowaways.PNGS if "name for" not in name and "rows" not in name])
def test_the_pixels_are_what_they_were(name: str) -> None:
    picture = prepare(ALL[name](), asked=SIZE, target=SIZE, label=LABEL)
    assert decode(picture.data).convert("RGB").tobytes() == decode(stowaways.make_still()).tobytes()


def test_the_dissection_finds_what_is_there() -> None:
    """Of what came in, it passes one international text: that may be our label, which is looked at by itself."""
    passed = [name for name, make in stowaways.PNGS.items() if not find_faults(make())]
    texts = [f"PNG with {name}" for name, (kind, _) in stowaways.DESCRIPTIONS.items() if kind == b"iTXt"]
    assert passed == texts
    assert "bytes behind the compressed pixels" in find_faults(stowaways.make_tail("bytes"))
    assert f"{len(NAME)} bytes more than pixels" in find_faults(stowaways.make_extra_rows())


def find_faults(data: bytes) -> list[str]:
    return [fault for fault in dissect(data)[1] if fault != "there is not one label"]
