"""The document's format as JSON Schema, from the tables that read it: for editors, which complete and check by it."""

from __future__ import annotations

from typing import Any

from crazyrouter.management.configuration.accounts import ACCOUNT, CAPACITY
from crazyrouter.management.configuration.applying import VERSION
from crazyrouter.management.configuration.catalog import MODEL
from crazyrouter.management.configuration.channels import CHANNEL
from crazyrouter.management.configuration.entries import Shape
from crazyrouter.management.configuration.families import FAMILY
from crazyrouter.management.configuration.offers import OFFER
from crazyrouter.management.configuration.prices import describe_prices
from crazyrouter.management.configuration.secrets import REFERENCE
from crazyrouter.management.configuration.sizes import describe_sizes
from crazyrouter.management.configuration.values import Text


def build_schema() -> dict[str, Any]:
    capacity = describe(CAPACITY)
    offer = describe(OFFER, model=Text().describe()) | {"required": ["model"]}
    channel = describe(
        CHANNEL,
        credential={"type": "string", "pattern": f"^{REFERENCE.pattern}$"},
        offers={"type": "array", "items": offer},
    )
    sections = {
        "families": name_each(describe(FAMILY)),
        "models": name_each(describe(MODEL, sizes=describe_sizes(), **describe_prices())),
        "accounts": name_each(describe(ACCOUNT, capacities=name_each(capacity), other_models=capacity)),
        "channels": name_each(channel),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Crazyrouter configuration",
        "type": "object",
        "properties": {"schema": {"const": VERSION}, **sections},
        "required": ["schema"],
        "additionalProperties": False,
    }


def describe(shape: Shape, **parts: dict[str, Any]) -> dict[str, Any]:
    """An entry; `parts` are what its table leaves to others."""
    fields = {each.key: each.describe() for each in shape.fields}
    return {"type": "object", "properties": fields | parts, "additionalProperties": False}


def name_each(entry: dict[str, Any]) -> dict[str, Any]:
    """A mapping from names to such entries; nothing at all is an empty one."""
    return {"type": ["object", "null"], "additionalProperties": entry}
