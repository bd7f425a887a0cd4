"""The request of `POST /v1/images/generations`, as OpenAI's clients send it. Nothing is converted, cut or guessed.

One instance is shared by all requests: building a serializer costs more than validating with one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from crazyrouter.api.errors import ApiError

LARGEST_SEED = 2_147_483_647
LONGEST_USER = 256


class Refusing(serializers.Field):
    """A field whose first fault ends the validation as an ApiError that names it."""

    def refuse(self, code: str, message: str) -> None:
        raise ApiError(code, message, param=self.field_name)

    def refuse_type(self, expected: str, data: Any) -> None:
        self.refuse(
            "invalid_type", f"Invalid type for '{self.field_name}': expected {expected}, got {name_type(data)}."
        )

    def to_representation(self, value: Any) -> Any:
        return value


class Text(Refusing):
    """A JSON string; PostgreSQL cannot store a NUL, and no prompt means one."""

    def __init__(self, *, longest: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest = longest

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.refuse_type("a string", data)
        if "\0" in data:
            self.refuse("invalid_value", f"Invalid '{self.field_name}': NUL characters are not allowed.")
        if self.longest is not None and len(data) > self.longest:
            self.refuse("string_above_max_length", f"Invalid '{self.field_name}': at most {self.longest} characters.")
        return data


class Prompt(Text):
    """Not empty: an upstream would refuse it."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not text.strip():
            self.refuse("invalid_value", f"Invalid '{self.field_name}': must not be empty.")
        return text


class Choice(Text):
    """One of a few words."""

    def __init__(self, *, words: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words = words

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if text not in self.words:
            supported = ", ".join(f"'{word}'" for word in self.words)
            self.refuse("invalid_value", f"Invalid '{self.field_name}': supported is {supported}.")
        return text


class Whole(Refusing):
    """A JSON integer; 1.0 and true are none."""

    def __init__(self, *, least: int | None = None, largest: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.least = least
        self.largest = largest

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.refuse_type("an integer", data)
        if self.least is not None and data < self.least:
            self.refuse("integer_below_min_value", f"Invalid '{self.field_name}': expected at least {self.least}.")
        if self.largest is not None and data > self.largest:
            self.refuse("integer_above_max_value", f"Invalid '{self.field_name}': expected at most {self.largest}.")
        return int(data)


class Flag(Refusing):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.refuse_type("a boolean", data)
        return bool(data)


class Nothing(Refusing):
    """An OpenAI field that is accepted when it asks for nothing special, so that nobody is silently downgraded."""

    def __init__(self, *, values: tuple[Any, ...], **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)
        self.values = values

    def to_internal_value(self, data: Any) -> Any:
        if not any(type(data) is type(value) and data == value for value in self.values):
            supported = ", ".join(repr(value) if isinstance(value, str) else json.dumps(value) for value in self.values)
            self.refuse(
                "invalid_value", f"'{self.field_name}' is not supported here: leave it out or send {supported}."
            )
        return data


class GenerationRequest(serializers.Serializer):
    """The body of an image generation. Limits that depend on the model are checked against the registry."""

    model = Text(help_text="The model's public id; `GET /v1/models` lists them.")
    prompt = Prompt(help_text="What to draw. Its length is limited by the model and counted in Unicode code points.")
    size = Text(
        required=False,
        help_text="`WIDTHxHEIGHT` in pixels, one that the model is sold in. Absent or `auto`: the model's default.",
    )
    n = Whole(least=1, required=False, help_text="How many images, 1 unless said otherwise. The most is the model's.")
    response_format = Choice(
        words=("url", "b64_json"),
        required=False,
        help_text="How images come back: a link to download (`url`, the default), or Base64 in the answer.",
    )
    negative_prompt = Text(
        required=False, help_text="What not to draw. Its length is limited by the model and counted as the prompt's."
    )
    seed = Whole(
        least=0,
        largest=LARGEST_SEED,
        required=False,
        help_text="Makes similar pictures of equal requests likely; it does not promise equal ones.",
    )
    prompt_extend = Flag(
        required=False,
        help_text="Whether the model may rewrite the prompt in more detail before it draws. Absent, it usually does.",
    )
    watermark = Flag(
        required=False,
        help_text="Whether the model's own visible mark is drawn into the picture. Absent, it usually is not.",
    )
    user = Text(
        longest=LONGEST_USER,
        required=False,
        help_text="Your own name for who asked. It is erased when the prompt is, and passed on to nobody.",
    )
    quality = Nothing(values=("auto", "standard"))
    style = Nothing(values=("auto", "standard"))  # type: ignore[assignment]
    background = Nothing(values=("auto",))
    moderation = Nothing(values=("auto",))
    output_format = Nothing(values=("png",))
    output_compression = Nothing(values=(100,))
    stream = Nothing(values=(False,))
    partial_images = Nothing(values=(0,))


SHARED = GenerationRequest()
FIELDS: Mapping[str, serializers.Field] = dict(SHARED.fields)
REQUIRED = tuple(name for name, field in FIELDS.items() if field.required)


def validate_request(body: Any) -> Mapping[str, Any]:
    """The values that were sent, `null` counted as absent. Raises ApiError at the first fault, naming the field.

    Only the fields that were sent are visited: a serializer's own validation asks all of them, which costs more than
    everything else that happens to a request before it is opened.
    """
    if not isinstance(body, dict):
        raise ApiError("invalid_type", f"The body must be a JSON object, got {name_type(body)}.")
    for name in body:
        if name not in FIELDS:
            raise ApiError("unknown_parameter", f"Unknown parameter: '{name[:64]}'.", param=name[:64])
    for name in REQUIRED:
        if body.get(name) is None:
            raise ApiError("missing_required_parameter", f"Missing required parameter: '{name}'.", param=name)
    return {name: FIELDS[name].run_validation(value) for name, value in body.items() if value is not None}


def name_type(data: Any) -> str:
    """The JSON name of a value's type."""
    if data is None:
        return "null"
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array"}
    return names.get(type(data), "an object")
