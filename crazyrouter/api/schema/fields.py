"""The body of `POST /v1/images/generations`: every bound is read from the field that enforces it."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction

from crazyrouter.api.schema.words import NEUTRAL, ORDER_BODY
from crazyrouter.api.serializers import Choice, Flag, Nothing, Prompt, Refusing, Text, Whole
from models_registry.limits import SIZE

Schema = dict[str, Any]

NO_NUL = r"^[^\u0000]*$"
#: Something that Python's `str.strip` leaves; the controls and U+0085 are space to it, and not to every `\s`.
NOT_BLANK = r"^[^\u0000]*[^\s\u0000\u001c-\u001f\u0085][^\u0000]*$"
JSON_TYPES = {bool: "boolean", int: "integer", str: "string"}


class FieldSchema(OpenApiSerializerFieldExtension):
    target_class = "crazyrouter.api.serializers.Refusing"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> Schema:
        return describe_field(self.target)


class RequestSchema(OpenApiSerializerExtension):
    target_class = "crazyrouter.api.serializers.GenerationRequest"

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> Schema:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        properties = {name: {"description": NEUTRAL} | field for name, field in schema["properties"].items()}
        properties["size"] |= {"pattern": f"^(auto|{SIZE.pattern})$", "examples": ["1024x1024"]}
        return schema | {"description": ORDER_BODY, "properties": properties, "additionalProperties": False}


def describe_field(field: Refusing) -> Schema:
    """A value of this field; `null` stands for an optional one that is absent."""
    schema = describe_value(field)
    if field.required:
        return schema
    words = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [schema["type"], "null"]} | words


@singledispatch
def describe_value(field: Refusing) -> Schema:
    raise TypeError(f"{type(field).__name__} has no description yet")


@describe_value.register
def describe_text(field: Text) -> Schema:
    longest = {} if field.longest is None else {"maxLength": field.longest}
    return {"type": "string", **longest, "pattern": NO_NUL}


@describe_value.register
def describe_prompt(field: Prompt) -> Schema:
    return describe_text(field) | {"minLength": 1, "pattern": NOT_BLANK}


@describe_value.register
def describe_choice(field: Choice) -> Schema:
    return {"type": "string", "enum": list(field.words)}


@describe_value.register
def describe_whole(field: Whole) -> Schema:
    bounds = {"minimum": field.least, "maximum": field.largest}
    return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}


@describe_value.register
def describe_flag(field: Flag) -> Schema:
    return {"type": "boolean"}


@describe_value.register
def describe_nothing(field: Nothing) -> Schema:
    (kind,) = {JSON_TYPES[type(value)] for value in field.values}
    return {"type": kind, "enum": list(field.values)}
