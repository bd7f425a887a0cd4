"""Every error a customer can get: status, type, code, words, and whether to try again.

How a generation may end stands in the outcome table, with its answer; here are the refusals, and the envelope.

ApiError        raised anywhere in the API; becomes `{"error": {message, type, param, code}}`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.http import HttpResponse

from crazyrouter.generation.ids import new_id
from crazyrouter.generation.outcomes import ROWS_BY_CODE


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the contract. `retry_after` is in seconds; `may_retry` False stops the SDK's automatic retry."""

    status: int
    type: str
    message: str
    retry_after: int | None = None
    may_retry: bool = True


INVALID = "invalid_request_error"
QUOTA = "insufficient_quota"
DENIED = "permission_error"
LIMIT = "rate_limit_error"
UNAVAILABLE = "service_unavailable"

#: Refusals: what `outcomes.REFUSED` stands for, and faults of ours that no generation had part in.
REFUSALS: Mapping[str, Kind] = {
    "missing_required_parameter": Kind(400, INVALID, "Missing required parameter."),
    "invalid_type": Kind(400, INVALID, "Invalid type."),
    "invalid_value": Kind(400, INVALID, "The request was refused as invalid.", may_retry=False),
    "integer_below_min_value": Kind(400, INVALID, "The value is too small."),
    "integer_above_max_value": Kind(400, INVALID, "The value is too large."),
    "string_above_max_length": Kind(400, INVALID, "The text is too long."),
    "unknown_parameter": Kind(400, INVALID, "Unknown parameter."),
    "invalid_json": Kind(400, INVALID, "The request body is not valid JSON."),
    "invalid_api_key": Kind(
        401, "authentication_error", "Incorrect API key provided. Send it as 'Authorization: Bearer YOUR_API_KEY'."
    ),
    "insufficient_quota": Kind(
        403, QUOTA, "The balance does not cover this request. Nothing was charged. Please top up.", may_retry=False
    ),
    "spend_limit_reached": Kind(
        403, QUOTA, "The spend limit does not cover this request. Nothing was charged.", may_retry=False
    ),
    "model_not_allowed": Kind(403, DENIED, "This key may not use this model.", may_retry=False),
    "ip_not_allowed": Kind(403, DENIED, "This key may not be used from this address.", may_retry=False),
    "account_suspended": Kind(403, DENIED, "This account is suspended.", may_retry=False),
    "model_not_found": Kind(404, INVALID, "The model does not exist."),
    "unknown_url": Kind(404, INVALID, "Unknown request URL."),
    "not_found": Kind(404, INVALID, "Not found."),
    "method_not_allowed": Kind(405, INVALID, "This method is not allowed here."),
    "request_too_large": Kind(413, INVALID, "The request body is too large."),
    "unsupported_media_type": Kind(415, INVALID, "Send the body as 'Content-Type: application/json'."),
    "concurrency_limit_exceeded": Kind(
        429, LIMIT, "Too many generations in flight. Nothing was charged. Please wait for one to end.", retry_after=5
    ),
    "server_error": Kind(500, "server_error", "The server had an error. Please try again."),
    "model_unavailable": Kind(503, UNAVAILABLE, "The model is not on sale right now.", retry_after=60),
    "service_unavailable": Kind(503, UNAVAILABLE, "The service is temporarily unavailable.", retry_after=5),
}
#: Every error of the contract: the refusals, and what the outcome table answers.
KINDS: Mapping[str, Kind] = {
    **REFUSALS,
    **{
        row.code: Kind(row.status or 500, row.type, row.message, row.retry_after, row.should_retry)
        for row in ROWS_BY_CODE.values()
    },
}


class ApiError(Exception):
    """`code` is a key of KINDS; a message of its own replaces the usual words."""

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        param: str | None = None,
        request_id: str = "",
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.kind = KINDS[code]
        self.message = message or self.kind.message
        self.param = param
        self.request_id = request_id
        self.extra = extra or {}
        self.headers = headers or {}


def render_error(error: ApiError) -> HttpResponse:
    """The envelope as the OpenAI SDK reads it, with the headers that steer its retries."""
    kind = error.kind
    body = {"message": error.message, "type": kind.type, "param": error.param, "code": str(error.code)}
    response = render_json({"error": body | dict(error.extra)}, request_id=error.request_id, status=kind.status)
    if kind.retry_after is not None:
        response["Retry-After"] = str(kind.retry_after)
    if not kind.may_retry:
        response["x-should-retry"] = "false"
    for name, value in error.headers.items():
        response[name] = value
    return response


def render_json(body: Any, *, request_id: str = "", status: int = 200) -> HttpResponse:
    return render_bytes(orjson.dumps(body), request_id=request_id, status=status)


def render_bytes(content: bytes, *, request_id: str = "", status: int = 200) -> HttpResponse:
    """A JSON answer with the headers that every answer under /v1 carries."""
    response = HttpResponse(content, content_type="application/json", status=status)
    response["x-request-id"] = request_id or new_id("req")
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    response["Content-Length"] = str(len(content))
    return response
