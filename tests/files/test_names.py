from __future__ import annotations

import re

import pytest

from crazyrouter.files.errors import InvalidName
from crazyrouter.files.names import is_name, new_name, shard_of


def test_names_carry_160_random_bits():
    names = {new_name() for _ in range(2000)}

    assert len(names) == 2000
    assert all(re.fullmatch(r"qwen_image_[a-z2-7]{32}\.png", name) for name in names)
    assert all(is_name(name) for name in names)


def test_shard_is_the_beginning_of_the_random_part():
    assert shard_of("qwen_image_ab34567abcdefghijklmnopqrs.png") == "ab"


WRONG = [
    "",
    ".",
    "..",
    "qwen_image_abc123.png",
    "../qwen_image_ab34567abcdefghijklmnopqrs.png",
    "qwen_image_../../../../../../etc/passwd.png",
    "qwen_image_ab34567abcdefghijklmnopqrs.png/..",
    "qwen_image_ab34567abcdefghijklmnopqrs.png\n",
    "qwen_image_ab34567abcdefghijklmnopqrs.png\0",
    "qwen_image_AB34567ABCDEFGHIJKLMNOPQRS.png",
    "qwen_image_ab34567abcdefghijklmnopqrs.jpg",
    "qwen_image_ab34567abcdefghijklmnopqr1.png",
    "qwen_image_" + "a" * 65 + ".png",
    ".qwen_image_ab34567abcdefghijklmnopqrs.png.0123456789abcdef.part",
]


@pytest.mark.parametrize("name", WRONG)
def test_nothing_else_is_a_name(name):
    assert not is_name(name)
    with pytest.raises(InvalidName):
        shard_of(name)
