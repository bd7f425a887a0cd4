"""The published description of the API, to hold answers against: nothing may be sent that it does not name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
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


# --- an answer as a whole ---

#: What the server and the lean handler put on any answer; no part of the contract.
INFRASTRUCTURE = {
    *("content-type", "content-length", "transfer-encoding", "date", "server", "connection"),
    *("cache-control", "x-content-type-options", "content-security-policy", "cross-origin-resource-policy"),
}
TEMPLATES = {
    path: re.compile(re.sub(r"\{\w+\}", "[^/]+", re.escape(path).replace(r"\{", "{").replace(r"\}", "}")))
    for path in DOCUMENT["paths"]
}


def find_operation(method: str, path: str) -> dict[str, Any] | None:
    """The operation that a request is; None for a path or a method that has none."""
    for template, pattern in TEMPLATES.items():
        if pattern.fullmatch(path):
            return DOCUMENT["paths"][template].get(method.lower())
    return None


def list_breaches(operation: dict[str, Any], status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
    """In what an answer is not as its operation is described. `headers`: whose look-up minds no case."""
    described = operation["responses"].get(str(status))
    if described is None:
        return [f"status {status} is not described"]
    return [*list_header_breaches(described, headers), *list_body_breaches(described, headers, body)]


def list_header_breaches(described: dict[str, Any], headers: Mapping[str, str]) -> Iterator[str]:
    known = {name.lower(): resolve(header) for name, header in described.get("headers", {}).items()}
    # /files and health answer some statuses themselves, and leave others to what stands around them.
    yield from (
        f"header {name} is not described"
        for name in headers
        if name.lower() not in {*known, *INFRASTRUCTURE, "x-request-id"}
    )
    for name, header in known.items():
        value = headers.get(name)
        if value is None:
            yield from [f"header {name} is missing"] if header.get("required") else []
        else:
            read = int(value) if header["schema"].get("type") == "integer" else value
            yield from (f"header {name}: {fault}" for fault in list_faults(header["schema"], read))


def list_body_breaches(described: dict[str, Any], headers: Mapping[str, str], body: bytes) -> list[str]:
    if "content" not in described:
        return [] if body == b"" else ["a body is not described"]
    kind = headers["content-type"].partition(";")[0]
    if kind not in described["content"]:
        return [f"{kind} is not described"]
    if kind == "image/png":
        return [] if body else ["an empty picture"]
    value = json.loads(body) if kind == "application/json" else body.decode()
    return list_faults(described["content"][kind]["schema"], value)
