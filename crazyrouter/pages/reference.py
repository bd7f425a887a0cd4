"""The API reference: the checked-in OpenAPI description, arranged for a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from django.conf import settings
from django.utils.text import slugify

from crazyrouter.files.faults import FAULTS

Schema = Mapping[str, Any]
REQUEST_ID = "x-request-id"
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Member:
    """A parameter, or a member of an object; `kind` and `text` are Markdown."""

    name: str
    place: str
    kind: str
    required: bool
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One status of an operation; `codes` are the errors that it may be, each with its place on the page of errors."""

    status: str
    text: str
    headers: tuple[str, ...]
    codes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Operation:
    title: str
    method: str
    path: str
    text: str
    needs_key: bool
    parameters: tuple[Member, ...]
    body: tuple[Member, ...]
    replies: tuple[Reply, ...]

    @property
    def headers(self) -> list[str]:
        """Of any of its answers, without the one that every answer has."""
        found = dict.fromkeys(name for reply in self.replies for name in reply.headers)
        return [name for name in found if name != REQUEST_ID]


@dataclass(frozen=True, slots=True)
class Object:
    """A JSON object that several answers share."""

    name: str
    text: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """`usual` are the errors that every operation with a key may answer; an operation's own are without them."""

    operations: tuple[Operation, ...]
    usual: tuple[Reply, ...]
    objects: tuple[Object, ...]
    headers: tuple[Member, ...]


@cache
def read_reference() -> Reference:
    """Read once: the file is part of the release."""
    document = json.loads((settings.BASE_DIR / "openapi.json").read_text())
    components = document["components"]
    operations = [
        describe_operation(document, method, path, item[method])
        for path, item in document["paths"].items()
        for method in item
        if method in METHODS
    ]
    objects = [
        Object(name, flatten(schema.get("description", "")), tuple(list_members(schema)))
        for name, schema in components["schemas"].items()
        if schema.get("properties") and name != "GenerationRequest"
    ]
    headers = [
        Member(name, "header", describe_kind(each["schema"]), bool(each.get("required")), flatten(each["description"]))
        for name, each in components["headers"].items()
    ]
    usual = find_usual(operations)
    return Reference(tuple(leave_out(usual, one) for one in operations), usual, tuple(objects), tuple(headers))


def find_usual(operations: Sequence[Operation]) -> tuple[Reply, ...]:
    keyed = [one for one in operations if one.needs_key]
    found = [{(reply.status, code) for reply in one.replies for code in reply.codes} for one in keyed]
    common = set.intersection(*found)
    statuses = sorted({status for status, _ in common})
    return tuple(
        Reply(status, "", (), tuple(sorted(code for other, code in common if other == status))) for status in statuses
    )


def leave_out(usual: Sequence[Reply], operation: Operation) -> Operation:
    """Without the usual errors, where the operation needs a key and so may answer all of them."""
    if not operation.needs_key:
        return operation
    known = {(reply.status, code) for reply in usual for code in reply.codes}
    replies = [
        replace(reply, codes=tuple(code for code in reply.codes if (reply.status, code) not in known))
        for reply in operation.replies
    ]
    return replace(operation, replies=tuple(reply for reply in replies if reply.codes or reply.text))


def describe_operation(document: Schema, method: str, path: str, operation: Schema) -> Operation:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return Operation(
        title=operation["summary"],
        method=method.upper(),
        path=path,
        text=operation.get("description", "").strip(),
        needs_key=bool(operation.get("security", document.get("security"))),
        parameters=tuple(describe_parameter(resolve(document, one)) for one in operation.get("parameters", [])),
        body=tuple(list_members(resolve(document, body))),
        replies=tuple(
            describe_reply(path, status, resolve(document, one))
            for status, one in sorted(operation["responses"].items())
        ),
    )


def describe_parameter(one: Schema) -> Member:
    kind = describe_kind(one["schema"])
    return Member(one["name"], one["in"], kind, bool(one.get("required")), flatten(one.get("description", "")))


def describe_reply(path: str, status: str, reply: Schema) -> Reply:
    """Errors are told by their codes, which their description only lists again."""
    codes = tuple((code, find_place(path, code)) for code in find_codes(reply))
    text = "" if codes else flatten(reply.get("description", ""))
    return Reply(status, text, tuple(reply.get("headers", {})), codes)


def find_place(path: str, code: str) -> str:
    """Pictures have errors of their own words."""
    return f"file-{code}" if path.startswith("/files/") and code in FAULTS else f"error-{code}"


def find_codes(reply: Schema) -> tuple[str, ...]:
    schema = reply.get("content", {}).get("application/json", {}).get("schema", {})
    for part in schema.get("allOf", []):
        error = part.get("properties", {}).get("error", {}).get("properties", {})
        if "code" in error:
            return tuple(error["code"]["enum"])
    return ()


def list_members(schema: Schema) -> Iterator[Member]:
    required = schema.get("required", [])
    for name, each in schema.get("properties", {}).items():
        yield Member(name, "", describe_kind(each), name in required, flatten(each.get("description", "")))


def describe_kind(schema: Schema) -> str:
    """The type in words: `integer, 1 to 1000`, `list of [Model](#model)`, `"a" or "b"`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{slugify(name)})"
    if "oneOf" in schema:
        return " or ".join(map(describe_kind, schema["oneOf"]))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {describe_kind(schema['items'])}"
    types = schema.get("type", "any")
    words = " or ".join(types) if isinstance(types, list) else str(types)
    return ", ".join([words, *describe_bounds(schema)])


def describe_bounds(schema: Schema) -> Iterator[str]:
    if "format" in schema:
        yield str(schema["format"])
    if "minimum" in schema and "maximum" in schema:
        yield f"{schema['minimum']} to {schema['maximum']}"
    elif "minimum" in schema:
        yield f"at least {schema['minimum']}"
    if "maxLength" in schema:
        yield f"at most {schema['maxLength']} characters"
    if "default" in schema:
        yield f"{json.dumps(schema['default'])} if absent"


def resolve(document: Schema, node: Schema) -> Schema:
    """The node itself, or what its reference leads to."""
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def flatten(text: str) -> str:
    """In one line, for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
