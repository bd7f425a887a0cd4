"""/v1/images/generations: order, and read back what was ordered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from crazyrouter.api.errors import ApiError, render_error, render_json
from crazyrouter.api.preferences import hash_body, read_preferences
from crazyrouter.api.query import read_query, read_text, read_whole, refuse
from crazyrouter.api.rendering import describe_record, make_refusal, render_outcome, render_record
from crazyrouter.api.requests import authenticate, read_json
from crazyrouter.api.serializers import validate_request
from crazyrouter.api.tickets import Asked, Ticket, describe_ticket, find_ticket, wait_until_open
from crazyrouter.api.views import PublicView
from crazyrouter.generation.ids import is_id
from crazyrouter.generation.order import Outcome
from crazyrouter.generation.outcomes import TIMEOUT, LeaseLost, OrderRefused
from crazyrouter.generation.readback import find_record, list_records
from crazyrouter.generation.runtime import Runtime, get_runtime

MOST_LISTED = 100
USUALLY_LISTED = 20
LONGEST_ID = 40


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
