"""The parameters of an order, read from the very fields that check them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rest_framework.serializers import Field

from crazyrouter.api.serializers import FIELDS, Choice, Flag, Nothing, Text, Whole


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: str
    required: bool
    text: str
    bounds: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A field of OpenAI's that is taken while it asks for nothing special; `values` are JSON."""

    name: str
    values: tuple[str, ...]


def list_parameters() -> list[Parameter]:
    """In the order of the contract, without those that change nothing."""
    return [
        Parameter(name, name_type(field), field.required, str(field.help_text or ""), describe_bounds(field))
        for name, field in FIELDS.items()
        if not isinstance(field, Nothing)
    ]


def list_ignored() -> list[Ignored]:
    return [
        Ignored(name, tuple(map(json.dumps, field.values)))
        for name, field in FIELDS.items()
        if isinstance(field, Nothing)
    ]


def name_type(field: Field) -> str:
    if isinstance(field, Whole):
        return "integer"
    return "boolean" if isinstance(field, Flag) else "string"


def describe_bounds(field: Field) -> str:
    """What the field itself demands; what the model demands is the registry's to say."""
    if isinstance(field, Choice):
        return " or ".join(f"`{word}`" for word in field.words)
    if isinstance(field, Text) and field.longest is not None:
        return f"at most {field.longest} characters"
    if isinstance(field, Whole) and field.largest is not None:
        return f"{field.least} to {field.largest}"
    return ""
