"""Outcomes, records and refusals as answers of the contract."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpResponse

from billing.ledger import Reason, Verdict
from billing.money import format_amount
from crazyrouter.api.errors import KINDS, ApiError, render_bytes, render_error, render_json
from crazyrouter.files.errors import NotStored
from crazyrouter.files.store import StoredPicture, read_b64
from crazyrouter.generation.ids import read_time
from crazyrouter.generation.order import Outcome
from crazyrouter.generation.outcomes import NO_CAPACITY, NO_CHANNEL, OrderRefused
from crazyrouter.generation.readback import Record

#: How soon a running generation is worth asking for again, in seconds.
ASK_AGAIN_S = 2
REFUSALS_BY_REASON = {
    Reason.ACCOUNT_SUSPENDED: "account_suspended",
    Reason.KEY_UNUSABLE: "invalid_api_key",
    Reason.INSUFFICIENT_QUOTA: "insufficient_quota",
    Reason.SPEND_LIMIT_REACHED: "spend_limit_reached",
    Reason.RATE_LIMITED: NO_CAPACITY.code,
    Reason.CONCURRENCY_LIMITED: "concurrency_limit_exceeded",
}
TOO_MANY_REQUESTS = "Too many requests in a minute. Nothing was charged. Please try again when the window has passed."


def make_refusal(refused: OrderRefused) -> ApiError:
    """What the ledger refused, in the words of the contract."""
    verdict = refused.verdict
    if verdict is None and refused.retry_after_s is not None:
        return ApiError(NO_CAPACITY.code, headers={"Retry-After": str(refused.retry_after_s)})
    if verdict is None:
        return ApiError(NO_CHANNEL.code)
    code = REFUSALS_BY_REASON[verdict.reason]
    message = TOO_MANY_REQUESTS if verdict.reason is Reason.RATE_LIMITED else ""
    return ApiError(code, message, headers=describe_window(verdict))


def describe_window(verdict: Verdict | None) -> dict[str, str]:
    """The tightest window of requests, in the headers of OpenAI's API; nothing where there is none."""
    if verdict is None or verdict.limit is None:
        return {}
    seconds = math.ceil(verdict.reset_s or 0)
    headers = {
        "x-ratelimit-limit-requests": str(verdict.limit),
        "x-ratelimit-remaining-requests": str(verdict.remaining or 0),
        "x-ratelimit-reset-requests": f"{seconds}s",
    }
    if verdict.reason is Reason.RATE_LIMITED:
        headers["Retry-After"] = str(max(1, seconds))
    return headers


async def render_outcome(outcome: Outcome) -> HttpResponse:
    """The images, or the error that the outcome's row says."""
    if outcome.failure:
        retry = {} if outcome.retry_after_s is None else {"Retry-After": str(outcome.retry_after_s)}
        return render_error(ApiError(outcome.failure, request_id=outcome.id, headers=retry))
    items = b",".join([await render_item(picture, outcome) for picture in outcome.pictures])
    return render_bytes(b'{"created":%d,"data":[' % read_time(outcome.id) + items + b"]}", request_id=outcome.id)


async def render_item(picture: StoredPicture, outcome: Outcome) -> bytes:
    """Base64 is JSON as it stands, so megabytes of it are spliced in, not encoded."""
    if outcome.response_format == "b64_json":
        item = b'{"b64_json":"' + await read_b64(picture.name) + b'"'
    else:
        item = b'{"url":' + orjson.dumps(make_url(picture))
    if picture.slot in outcome.revised_prompts:
        item += b',"revised_prompt":' + orjson.dumps(outcome.revised_prompts[picture.slot])
    return item + b"}"


async def render_record(record: Record, *, running_status: int = 200) -> HttpResponse:
    """The generation object, its images in the form in which they were ordered."""
    body = describe_record(record)
    if record.response_format == "b64_json":
        for item, picture in zip(body["data"], record.outcome.pictures, strict=True):
            # Expired bytes are gone; the link says so to whoever follows it.
            with contextlib.suppress(NotStored):
                item["b64_json"] = (await read_b64(picture.name)).decode()
                del item["url"]
    response = render_json(body, request_id=record.id, status=running_status if record.is_running else 200)
    if record.is_running:
        response["Retry-After"] = str(ASK_AGAIN_S)
    return response


def describe_record(record: Record) -> dict[str, Any]:
    """The generation object; its images by URL, as in a list."""
    pictures = record.outcome.pictures
    charged = 0 if record.is_running else len(pictures)
    return {
        "id": record.id,
        "object": "image.generation",
        "status": record.state,
        "model": record.model,
        "created": read_time(record.id),
        "n": record.n,
        "data": [describe_picture(picture, record) for picture in pictures],
        "charged": {"images": charged, "amount": format_amount(record.charged_micros), "currency": "CNY"},
        "error": describe_failure(record.failure),
    }


def describe_picture(picture: StoredPicture, record: Record) -> dict[str, Any]:
    item: dict[str, Any] = {
        "url": make_url(picture),
        "expires_at": int(record.expires_at[picture.slot].timestamp()),
    }
    if picture.slot in record.outcome.revised_prompts:
        item["revised_prompt"] = record.outcome.revised_prompts[picture.slot]
    return item


def describe_failure(code: str) -> dict[str, Any] | None:
    if not code:
        return None
    kind = KINDS[code]
    return {"message": kind.message, "type": kind.type, "param": None, "code": code}


def make_url(picture: StoredPicture) -> str:
    return f"{settings.PUBLIC_BASE_URL}/files/{picture.name}"
