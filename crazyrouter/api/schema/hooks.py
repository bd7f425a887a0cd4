"""Where drf-spectacular is met: settings name these two functions.

`list_endpoints` brings in the views that are functions, and the order. `complete` adds what is known by operation:
errors, headers, examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.urls import get_resolver

from crazyrouter.api.schema import answers, fields, operations  # noqa: F401 - they register themselves
from crazyrouter.api.schema.examples import ANSWERS, REQUESTS
from crazyrouter.api.schema.faults import (
    API_ERRORS,
    FILE_ERRORS,
    NO_OPERATION,
    describe_group,
    group_errors,
)
from crazyrouter.api.schema.headers import HEADERS, REQUEST_ID, name_headers, refer
from crazyrouter.api.schema.service import STAND_INS
from crazyrouter.api.schema.words import INTRODUCTION, PLACEHOLDER_URL, SECURITY, TAGS

Schema = dict[str, Any]
Endpoint = tuple[str, str, str, Callable[..., Any]]

#: The order of the document; other paths follow.
ORDER = (
    "/v1/images/generations",
    "/v1/images/generations/{generation_id}",
    "/v1/models",
    "/v1/models/{name}",
    "/api/pricing",
    "/v1/balance",
    "/v1/usage",
    "/v1/usage.csv",
    "/files/{name}",
    "/healthz",
    "/readyz",
    "/openapi.json",
)


def list_endpoints(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Every operation of the API, first things first."""
    return sorted([*endpoints, *find_functions()], key=lambda endpoint: (rank(endpoint[0]), endpoint[2] != "POST"))


def rank(path: str) -> tuple[int, str]:
    return (ORDER.index(path) if path in ORDER else len(ORDER), path)


def find_functions() -> Iterator[Endpoint]:
    """The views that are no classes, where the URLconf has them."""
    routes: Any = get_resolver().reverse_dict
    for name, view in STAND_INS.items():
        [(template, parameters)], pattern, *_ = routes[name]
        path = "/" + template % {parameter: f"{{{parameter}}}" for parameter in parameters}
        yield path, pattern, "GET", view.as_view()


def complete(result: Schema, **context: Any) -> Schema:
    """The document as it is published."""
    for path in result["paths"].values():
        for operation in path.values():
            complete_operation(operation)
    components = result["components"]
    components["examples"] = {
        shown.name: shown.describe()
        for shown in sorted((*API_ERRORS.values(), *FILE_ERRORS.values()), key=lambda shown: shown.name)
    }
    components["headers"] = dict(HEADERS)
    components["responses"] = {"MethodNotAllowed": describe_other_methods()}
    components["securitySchemes"] = dict(SECURITY)
    info = result["info"] | {"description": INTRODUCTION}
    parts = {"openapi": result["openapi"], "info": info, "servers": [{"url": PLACEHOLDER_URL}], "tags": TAGS}
    return drop_marks(parts | {"paths": result["paths"], "components": dict(sorted(components.items()))})


def drop_marks(part: Any) -> Any:
    """Without what drf-spectacular notes for a hook of its own, which would take enums apart."""
    if isinstance(part, dict):
        return {name: drop_marks(value) for name, value in part.items() if name != "x-spec-enum-id"}
    return [drop_marks(value) for value in part] if isinstance(part, list) else part


def complete_operation(operation: Schema) -> None:
    name = operation["operationId"]
    for kind, value in REQUESTS.get(name, {}).items():
        examples = operation["requestBody"]["content"]["application/json"].setdefault("examples", {})
        examples[kind] = {"value": value}
    responses = operation["responses"]
    for status, response in responses.items():
        complete_answer(name, int(status), response)
    for status, errors in group_errors(name).items():
        described = describe_group(errors, headers=name_headers(name, status))
        responses[str(status)] = merge(responses[str(status)], described)
    operation["responses"] = dict(sorted(responses.items()))


def complete_answer(operation: str, status: int, response: Schema) -> None:
    headers = {name: refer("headers", name) for name in name_headers(operation, status)}
    if headers:
        response["headers"] = headers
    for kind, value in ANSWERS.get((operation, status), {}).items():
        for media in response["content"].values():
            media.setdefault("examples", {})[kind] = {"value": value}


def merge(plain: Schema, errors: Schema) -> Schema:
    """The errors of a status, beside an answer of the same status that is no error, if there is one."""
    own = {kind: media for kind, media in plain.get("content", {}).items() if kind != "application/json"}
    return errors | {"content": {**own, **errors["content"]}}


def describe_other_methods() -> Schema:
    """What no operation gives: another method of a path that exists."""
    return describe_group([API_ERRORS[NO_OPERATION]], headers=(REQUEST_ID, "Allow"))
