"""What fal's queue refuses with: a list of details for a wrong input, a text and an `error_type` for its machinery.

A failed request is COMPLETED, too: the status says why only where the machinery failed; what the model refused is told
by the response alone.
"""

from __future__ import annotations

from typing import Any

from providers.simulator.errors import ARREARS, MODERATION, Refusal
from providers.simulator.wire import Reply, reply_json

#: error_type -> status.
MACHINERY: dict[str, int] = {
    "bad_request": 400,
    "client_cancelled": 499,
    "client_disconnected": 499,
    "internal_error": 500,
    "runner_server_error": 500,
    "runner_connection_error": 502,
    "runner_incomplete_response": 502,
    "runner_scheduling_failure": 503,
    "runner_disconnected": 503,
    "request_timeout": 504,
    "startup_timeout": 504,
}
_TYPE_OF_STATUS = {502: "runner_connection_error", 503: "runner_scheduling_failure", 504: "request_timeout"}
_TIMEOUTS = frozenset({"InternalError.Timeout", "RequestTimeOut"})
_CONTENT = "content_policy_violation"
_LOCKED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
_UNKNOWN_KEY = "Cannot access application. Authentication is required to access this application."


class Invalid(Refusal):
    """An input that the model does not take."""

    def __init__(self, message: str, *, field: str, kind: str = "value_error") -> None:
        super().__init__("InvalidParameter", message, status=422)
        self.field = field
        self.kind = kind


def name_type(refusal: Refusal) -> str:
    """The `error_type` of the machinery; empty for what the model or the front door refused."""
    if refusal.code in MACHINERY:
        return refusal.code
    if refusal.code in _TIMEOUTS:
        return "request_timeout"
    return _TYPE_OF_STATUS.get(refusal.status, "internal_error") if refusal.status >= 500 else ""


def reply_refusal(refusal: Refusal, request_id: str) -> Reply:
    """Any refusal in fal's words."""
    kind, status = name_type(refusal), refusal.status
    if kind:
        status = MACHINERY[kind] if refusal.code in MACHINERY or refusal.code in _TIMEOUTS else status
        body: Any = {"detail": refusal.message, "error_type": kind}
    elif refusal.code in {_CONTENT, *MODERATION} or isinstance(refusal, Invalid) or is_about_input(refusal):
        status, body = 422, {"detail": [_describe(refusal)]}
    else:
        body = {"detail": _word(refusal)}
    headers = {"x-fal-request-id": request_id, "x-fal-retryable": "true" if status >= 500 else "false"}
    if kind:
        headers["x-fal-error-type"] = kind
    return reply_json(body, status=status, headers={**headers, **refusal.headers})


def is_about_input(refusal: Refusal) -> bool:
    return refusal.code.startswith(("InvalidParameter", "BadRequest.")) and refusal.status < 500


def _describe(refusal: Refusal) -> dict[str, Any]:
    refused = refusal.code in {_CONTENT, *MODERATION}
    field = refusal.field if isinstance(refusal, Invalid) else "prompt"
    kind = refusal.kind if isinstance(refusal, Invalid) else "value_error"
    return {
        "loc": ["body", field],
        "msg": "The content could not be processed because it was flagged by a content checker."
        if refused
        else refusal.message,
        "type": _CONTENT if refused else kind,
        "url": f"https://docs.fal.ai/errors#{_CONTENT if refused else kind}",
        "ctx": {},
        "input": None,
    }


def _word(refusal: Refusal) -> str:
    if refusal.code in ARREARS:
        return _LOCKED
    return _UNKNOWN_KEY if refusal.status == 401 else refusal.message
