"""What DashScope's endpoints share: envelopes, headers, and how parts of a body are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.simulator.catalogue import NEGATIVE_PROMPT_LIMIT
from providers.simulator.errors import Refusal
from providers.simulator.wire import Reply, Request, reply_json

#: What stands in front of the vendor's API says so in every answer.
CARRIER_HEADERS = {"server": "istio-envoy", "x-dashscope-call-gateway": "true"}


def reply_native(
    body: Mapping[str, Any], request_id: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    return reply_json(body, status=status, headers={**CARRIER_HEADERS, "x-request-id": request_id, **(headers or {})})


def reply_refusal(refusal: Refusal, request_id: str) -> Reply:
    """The flat error envelope."""
    body = {"code": refusal.code, "message": refusal.message, "request_id": request_id}
    return reply_native(body, request_id, status=refusal.status, headers=refusal.headers)


def wants_task(request: Request) -> bool:
    return request.headers.get("x-dashscope-async", "").lower() == "enable"


def read_object(body: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """A part of the body that must be an object, if it is there. Raises Refusal."""
    value = body.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal("InvalidParameter", f"{field} must be an object")
    return value


def check_negative_prompt(*places: Mapping[str, Any]) -> str:
    """The reference names `input` and shows `parameters`: the first that has it counts. Raises Refusal.

    Too long a text is cut without a word, as the vendor does.
    """
    for place in places:
        text = place.get("negative_prompt")
        if text is not None and not isinstance(text, str):
            raise Refusal("InvalidParameter", "negative_prompt must be a string")
        if text:
            return text[:NEGATIVE_PROMPT_LIMIT]
    return ""
