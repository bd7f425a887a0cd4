"""The published description of the API, to hold answers against: nothing may be sent that it does not name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

PATH = Path(__file__).resolve().parent.parent.parent / "openapi.json"


def load_document() -> dict[str, Any]:
    return json.loads(PATH.read_text(encoding="utf-8"))


def tighten(document: dict[str, Any]) -> dict[str, Any]:
    """Clients are told to ignore fields that they do not know; we may not send any that are not described."""
    strict = deepcopy(document)
    for schema in strict["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return strict


DOCUMENT = load_document()
STRICT = tighten(DOCUMENT)


def list_operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


OPERATIONS = {operation["operationId"]: operation for _, _, operation in list_operations()}


def list_codes(operation: str) -> dict[str, list[str]]:
    """The codes of an operation's errors by status, as its schemas narrow them."""
    return {
        status: narrowed["properties"]["error"]["properties"]["code"]["enum"]
        for status, response in OPERATIONS[operation]["responses"].items()
        if "allOf" in (response.get("content", {}).get("application/json", {}).get("schema", {}))
        for narrowed in response["content"]["application/json"]["schema"]["allOf"][1:]
    }


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` into the document means."""
    if "$ref" not in part:
        return part
    found: Any = DOCUMENT
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def list_faults(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with a value, by the strict document."""
    root = {**schema, "components": STRICT["components"]}
    return [error.message for error in Draft202012Validator(root, format_checker=FormatChecker()).iter_errors(value)]
