"""The description of an order says what its validation does, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from crazyrouter.api.errors import ApiError
from crazyrouter.api.serializers import FIELDS, validate_request
from tests.api.contract import DOCUMENT, list_faults

REQUEST = DOCUMENT["components"]["schemas"]["GenerationRequest"]


def test_every_field_of_a_request_occurs_with_its_bounds() -> None:
    shown = {
        name: {k: v for k, v in field.items() if k != "description"} for name, field in REQUEST["properties"].items()
    }
    no_nul = r"^[^\u0000]*$"
    assert list(shown) == list(FIELDS)
    assert REQUEST["required"] == ["model", "prompt"]
    assert REQUEST["additionalProperties"] is False
    assert shown == {
        "model": {"type": "string", "pattern": no_nul},
        "prompt": {
            "type": "string",
            "minLength": 1,
            "pattern": r"^[^\u0000]*[^\s\u0000\u001c-\u001f\u0085][^\u0000]*$",
        },
        "size": {
            "type": ["string", "null"],
            "pattern": "^(auto|([1-9][0-9]{0,4})[x*]([1-9][0-9]{0,4}))$",
            "examples": ["1024x1024"],
        },
        "n": {"type": ["integer", "null"], "minimum": 1},
        "response_format": {"type": ["string", "null"], "enum": ["url", "b64_json", None]},
        "negative_prompt": {"type": ["string", "null"], "pattern": no_nul},
        "seed": {"type": ["integer", "null"], "minimum": 0, "maximum": 2_147_483_647},
        "prompt_extend": {"type": ["boolean", "null"]},
        "watermark": {"type": ["boolean", "null"]},
        "user": {"type": ["string", "null"], "maxLength": 256, "pattern": no_nul},
        "quality": {"type": ["string", "null"], "enum": ["auto", "standard", None]},
        "style": {"type": ["string", "null"], "enum": ["auto", "standard", None]},
        "background": {"type": ["string", "null"], "enum": ["auto", None]},
        "moderation": {"type": ["string", "null"], "enum": ["auto", None]},
        "output_format": {"type": ["string", "null"], "enum": ["png", None]},
        "output_compression": {"type": ["integer", "null"], "enum": [100, None]},
        "stream": {"type": ["boolean", "null"], "enum": [False, None]},
        "partial_images": {"type": ["integer", "null"], "enum": [0, None]},
    }
    assert all(field["description"] for field in REQUEST["properties"].values())


VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 100, 2_147_483_647, 2_147_483_648, 1.5, [], {}, ["auto"]),
    *("", " ", "\t\n", "\x1c", "\x85", "\u3000", "\ufeff", "x", " x ", "a\nb", "a\0b", "猫", "x" * 256, "x" * 257),
    *("auto", "standard", "hd", "png", "url", "b64_json", "URL"),
]


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "size"])
def test_the_schema_and_the_validation_agree(name: str) -> None:
    """Of sizes the schema says more: their form, which is the registry's to judge."""
    for value in VALUES:
        body = {"model": "m", "prompt": "p", name: value}
        assert (list_faults({"$ref": "#/components/schemas/GenerationRequest"}, body) == []) == is_taken(body), body


def is_taken(body: Any) -> bool:
    try:
        validate_request(body)
    except ApiError:
        return False
    return True
