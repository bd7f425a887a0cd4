"""Which errors each operation can give, and how they are described: each with its real envelope as an example."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.http import HttpResponse

from crazyrouter.api.errors import KINDS, ApiError, render_error
from crazyrouter.api.schema.headers import refer
from crazyrouter.files.faults import FAULTS, describe_fault
from crazyrouter.generation.outcomes import ROWS_BY_CODE, TIMEOUT

Schema = dict[str, Any]

#: Around every view: a request that cannot be read, one that is too large, and faults of ours.
AROUND = ("invalid_value", "request_too_large", "server_error")
#: Whoever asks for a key's sake; the database is asked who it is.
CALLER = (*AROUND, "invalid_api_key", "account_suspended", "ip_not_allowed", "service_unavailable")
#: Behind the question mark.
QUERY = ("unknown_parameter",)
TEXTS = (*QUERY, "string_above_max_length")
NUMBERS = (*TEXTS, "invalid_type", "integer_below_min_value", "integer_above_max_value")
BODY = (*NUMBERS, "missing_required_parameter", "invalid_json", "unsupported_media_type")
#: Of the model that was named, and of what its order would cost.
ORDER = (
    "model_not_found",
    "model_not_allowed",
    "model_unavailable",
    "insufficient_quota",
    "spend_limit_reached",
    "concurrency_limit_exceeded",
)
#: A path with a variable part is another path, and none of ours, when that part holds a slash.
PATH = ("unknown_url",)

ERRORS: Mapping[str, Collection[str]] = {
    "createImage": (*CALLER, *BODY, *ORDER, *ROWS_BY_CODE),
    "listGenerations": (*CALLER, *NUMBERS),
    "getGeneration": (*CALLER, *QUERY, *PATH, "not_found"),
    "listModels": CALLER,
    "getModel": (*CALLER, *PATH, "model_not_found"),
    "getBalance": CALLER,
    "getUsage": (*CALLER, *NUMBERS),
    "downloadUsage": (*CALLER, *TEXTS),
    "getPricing": (*AROUND, "service_unavailable"),
    "getOpenapi": AROUND,
    "getFile": (*AROUND, *PATH),  # and what its view words itself: FILE_ERRORS
    "getHealth": AROUND,
    "getReadiness": AROUND,
}
#: No operation's: what another method of a path gets.
NO_OPERATION = "method_not_allowed"

SAMPLE_ID = "gen_01kb3v8m2r6q4x0t7w9y5c1d3e"
#: Headers of an error that steer what a client does next.
STEERING = ("Retry-After", "x-should-retry")


@dataclass(frozen=True, slots=True)
class Shown:
    """One error as it is answered: its example's name, envelope and steering headers, and what to do about it."""

    name: str
    status: int
    code: str
    envelope: Schema
    headers: tuple[str, ...]
    advice: str

    @property
    def line(self) -> str:
        return f"- `{self.code}`: {self.envelope['error']['message']}"

    def describe(self) -> Schema:
        return {"summary": self.code, "description": self.advice, "value": self.envelope}


def show_error(code: str) -> Shown:
    """An error of the API, in its usual words."""
    extra = {"generation_id": SAMPLE_ID} if code == TIMEOUT.code else {}
    response = render_error(ApiError(code, request_id=SAMPLE_ID, extra=extra))
    headers = tuple(name for name in STEERING if name in response)
    return Shown(code, response.status_code, code, json.loads(response.content), headers, advise(response))


def show_fault(code: str) -> Shown:
    """An error of /files, which has words of its own."""
    fault = FAULTS[code]
    response = HttpResponse(status=fault.status, headers=fault.headers)
    headers = tuple(name for name in STEERING if name in response)
    return Shown(f"file_{code}", fault.status, code, describe_fault(code), headers, advise(response))


def advise(response: HttpResponse) -> str:
    if "x-should-retry" in response:
        return "OpenAI's SDKs do not repeat the request by themselves."
    if "Retry-After" in response:
        return f"Try again after the seconds that `Retry-After` says, usually {response['Retry-After']}."
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "Try again."
    return "The same request will be refused again."


API_ERRORS = {code: show_error(code) for code in sorted(KINDS)}
FILE_ERRORS = {code: show_fault(code) for code in sorted(FAULTS) if code != NO_OPERATION}


def list_errors(operation: str) -> list[Shown]:
    own = FILE_ERRORS.values() if operation == "getFile" else ()
    return [*own, *(API_ERRORS[code] for code in sorted({*ERRORS[operation]}))]


def group_errors(operation: str) -> Mapping[int, list[Shown]]:
    """An operation's errors by status."""
    groups: dict[int, list[Shown]] = {}
    for shown in sorted(list_errors(operation), key=lambda shown: shown.status):
        groups.setdefault(shown.status, []).append(shown)
    return groups


def describe_group(errors: list[Shown], *, headers: Collection[str]) -> Schema:
    """One response of an operation: the errors that have this status."""
    codes = sorted(shown.code for shown in errors)
    narrowed = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    sent = dict.fromkeys([*headers, *(name for shown in errors for name in shown.headers)])
    return {
        "description": "\n".join(shown.line for shown in errors),
        "headers": {name: refer("headers", name) for name in sent},
        "content": {
            "application/json": {
                "schema": {"allOf": [refer("schemas", "Error"), narrowed]},
                "examples": {shown.name: refer("examples", shown.name) for shown in errors},
            }
        },
    }
