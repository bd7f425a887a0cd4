"""/v1/images/generations: order, and read back what was ordered."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from billing.keys import KeyIdentity
from billing.ledger import Reason, Verdict
from billing.money import format_amount
from crazyrouter.api.errors import KINDS, ApiError, render_bytes, render_error, render_json
from crazyrouter.api.preferences import Preferences, hash_body, read_preferences
from crazyrouter.api.query import read_query, read_text, read_whole, refuse
from crazyrouter.api.requests import authenticate, build_order, find_size_text, read_json
from crazyrouter.api.serializers import validate_request
from crazyrouter.api.views import PublicView
from crazyrouter.files.errors import NotStored
from crazyrouter.files.store import StoredPicture, read_b64
from crazyrouter.generation.engine import Run
from crazyrouter.generation.ids import is_id, read_time
from crazyrouter.generation.journal.answers import Retry, join_retries
from crazyrouter.generation.order import Idempotency, Outcome
from crazyrouter.generation.outcomes import (
    KEY_REUSED,
    NO_CAPACITY,
    NO_CHANNEL,
    TIMEOUT,
    KeyTaken,
    LeaseLost,
    OrderRefused,
)
from crazyrouter.generation.readback import KeyHolder, Record, find_key, find_record, list_records
from crazyrouter.generation.runtime import Runtime, get_runtime
from crazyrouter.generation.snapshot import View

#: How soon a running generation is worth asking for again, in seconds.
ASK_AGAIN_S = 2
#: A key may be freed between finding it taken and looking it up; then it is tried for again.
TRIES_FOR_A_KEY = 3
MOST_LISTED = 100
REFUSALS_BY_REASON = {
    Reason.ACCOUNT_SUSPENDED: "account_suspended",
    Reason.KEY_UNUSABLE: "invalid_api_key",
    Reason.INSUFFICIENT_QUOTA: "insufficient_quota",
    Reason.SPEND_LIMIT_REACHED: "spend_limit_reached",
    Reason.RATE_LIMITED: NO_CAPACITY.code,
    Reason.CONCURRENCY_LIMITED: "concurrency_limit_exceeded",
}
TOO_MANY_REQUESTS = "Too many requests in a minute. Nothing was charged. Please try again when the window has passed."
USUALLY_LISTED = 20
LONGEST_ID = 40


@dataclass(frozen=True, slots=True)
class Asked:
    """One POST: who asks, for what, and how it is to be answered."""

    runtime: Runtime
    view: View
    identity: KeyIdentity
    values: Any
    body_hash: str
    preferences: Preferences


@dataclass(frozen=True, slots=True)
class Ticket:
    """The generation that answers a request, and whether it was there before."""

    id: str
    run: Run | None = None
    replayed: bool = False


class GenerationsView(PublicView):
    """POST and GET /v1/images/generations"""

    async def post(self, request: HttpRequest) -> HttpResponse:
        runtime = get_runtime()
        view = await runtime.snapshot.get()
        identity = await authenticate(request, runtime.snapshot, view)
        preferences = read_preferences(request)
        values = validate_request(read_json(request))
        asked = Asked(runtime, view, identity, values, hash_body(values), preferences)
        ticket = await find_ticket(asked)
        if preferences.respond_async:
            response = await answer_later(asked, ticket)
        else:
            response = await answer_now(asked, ticket)
        for name, value in describe_ticket(ticket).items():
            response[name] = value
        return response

    async def get(self, request: HttpRequest) -> HttpResponse:
        """The account's, newest first: `limit`, and `after` the last id of the page before."""
        runtime = get_runtime()
        identity = await authenticate(request, runtime.snapshot, await runtime.snapshot.get())
        query = read_query(request, ("limit", "after"))
        limit = read_whole(query, "limit", least=1, largest=MOST_LISTED, default=USUALLY_LISTED)
        after = read_after(query)
        records = await runtime.reader.read(list_records, identity.account_id, after, limit + 1)
        page = records[:limit]
        return render_json(
            {
                "object": "list",
                "data": [describe_record(record) for record in page],
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": len(records) > limit,
            }
        )


class GenerationView(PublicView):
    """GET /v1/images/generations/{id}"""

    async def get(self, request: HttpRequest, generation_id: str) -> HttpResponse:
        runtime = get_runtime()
        identity = await authenticate(request, runtime.snapshot, await runtime.snapshot.get())
        read_query(request, ())
        # What is no id is not looked up: PostgreSQL cannot compare a NUL with anything.
        known = is_id(generation_id, "gen")
        record = await runtime.reader.read(find_record, identity.account_id, generation_id) if known else None
        if record is None:
            raise ApiError("not_found", "There is no such generation.")
        response = await render_record(record)
        return response if record.is_running else note_delivery(response, runtime, record.id)


def read_after(query: Mapping[str, str]) -> str:
    """The last id of the page before; empty for the first page."""
    after = read_text(query, "after", longest=LONGEST_ID)
    if after is not None and not is_id(after, "gen"):
        refuse("after", "use 'last_id' of the page before")
    return after or ""


# --- which generation answers ---


def describe_ticket(ticket: Ticket) -> dict[str, str]:
    """Headers of an answer that belong to the request and not to the generation."""
    if ticket.replayed:
        return {"Idempotent-Replayed": "true"}
    return {} if ticket.run is None else describe_window(ticket.run.opened.result())


async def find_ticket(asked: Asked) -> Ticket:
    """One that stands for the key, the first try that an SDK repeats, or a new one."""
    if asked.preferences.key is not None:
        return await find_keyed(asked, asked.preferences.key)
    if asked.preferences.retry:
        retry = Retry(asked.identity.key_id, asked.body_hash, asked.preferences.retry)
        joined = await asked.runtime.lane.write(join_retries, retry)
        if joined is not None:
            return Ticket(joined)
    return start(asked)


async def find_keyed(asked: Asked, key: str) -> Ticket:
    """Limits, prices and models of today are not looked at for a key that was used before."""
    for _ in range(TRIES_FOR_A_KEY):
        holder = await asked.runtime.reader.read(find_key, asked.identity.account_id, key)
        if holder is not None:
            check_same_body(asked, holder)
            return Ticket(holder.generation_id, replayed=True)
        ticket = start(asked, idempotency=make_idempotency(asked, key))
        try:
            await wait_until_open(ticket)
        except KeyTaken:
            continue
        return ticket
    raise ApiError("service_unavailable")


def make_idempotency(asked: Asked, key: str) -> Idempotency:
    return Idempotency(key, asked.body_hash, hash_body(asked.values, size=find_size_text(asked.view, asked.values)))


def check_same_body(asked: Asked, holder: KeyHolder) -> None:
    """The same as it was sent, or the same with the model's default size written out."""
    if asked.body_hash == holder.body_hash:
        return
    size = find_size_text(asked.view, asked.values)
    if size is None or hash_body(asked.values, size=size) != holder.order_hash:
        raise ApiError(KEY_REUSED.code)


def start(asked: Asked, *, idempotency: Idempotency | None = None) -> Ticket:
    """A new order. Raises ApiError where it is refused before anything is written."""
    order = build_order(asked.values, asked.identity, asked.view, request_hash=asked.body_hash, idempotency=idempotency)
    return Ticket(order.id, asked.runtime.engine.start(order))


async def wait_until_open(ticket: Ticket) -> None:
    """Raises ApiError where it is refused, KeyTaken where another request has its key."""
    if ticket.run is not None:
        try:
            await asyncio.shield(ticket.run.opened)
        except OrderRefused as refused:
            raise make_refusal(refused) from None


def make_refusal(refused: OrderRefused) -> ApiError:
    """What the ledger refused, in the words of the contract."""
    verdict = refused.verdict
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


# --- answers ---


def note_delivery(response: HttpResponse, runtime: Runtime, generation_id: str) -> HttpResponse:
    """Once this response is sent completely, no automatic retry may have it any more."""
    response.after_send = lambda: runtime.engine.note_answered(generation_id)  # type: ignore[attr-defined]
    return response


async def answer_now(asked: Asked, ticket: Ticket) -> HttpResponse:
    """OpenAI's answer, when the generation has ended; the work itself goes on behind a 504."""
    try:
        async with asyncio.timeout(settings.GENERATION_DEADLINE_S):
            outcome = await wait_for_outcome(asked, ticket)
    except OrderRefused as refused:
        raise make_refusal(refused) from None
    except TimeoutError:
        return render_error(ApiError(TIMEOUT.code, request_id=ticket.id, extra={"generation_id": ticket.id}))
    return note_delivery(await render_outcome(outcome), asked.runtime, ticket.id)


async def wait_for_outcome(asked: Asked, ticket: Ticket) -> Outcome:
    """From the task where it runs here, from the rows where it ran elsewhere, or another process has taken it over."""
    task = ticket.run.task if ticket.run is not None else asked.runtime.engine.find(ticket.id)
    if task is not None:
        try:
            return await asyncio.shield(task)
        except LeaseLost:
            pass
    await asked.runtime.watcher.wait(ticket.id)
    record = await asked.runtime.reader.read(find_record, asked.identity.account_id, ticket.id)
    if record is None:
        raise ApiError("service_unavailable")
    return record.outcome


async def answer_later(asked: Asked, ticket: Ticket) -> HttpResponse:
    """202 and the generation object as soon as it is durable; 200 for one that has ended before."""
    await wait_until_open(ticket)
    record = await asked.runtime.reader.read(find_record, asked.identity.account_id, ticket.id)
    if record is None:
        raise ApiError("service_unavailable")
    response = await render_record(record, running_status=202)
    response["Preference-Applied"] = "respond-async"
    response["Location"] = f"/v1/images/generations/{ticket.id}"
    return note_delivery(response, asked.runtime, ticket.id)


async def render_outcome(outcome: Outcome) -> HttpResponse:
    """The images, or the error that the outcome's row says."""
    if outcome.failure:
        return render_error(ApiError(outcome.failure, request_id=outcome.id))
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
