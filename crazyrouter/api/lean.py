"""The ASGI handler of /v1 and /files: Django's URL resolver, requests, views and responses, and nothing around them.

Django's own handler spends a millisecond and keeps one OS thread for every request in flight (a thread-sensitive
context, request signals through it, middleware hooks), and cancels the view when the client leaves. This one does
neither. It leans on methods of Django 5.2's ASGIHandler, so that version is pinned and the tests drive a real server.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from io import BytesIO
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import BadRequest, DisallowedHost, RequestAborted, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, get_resolver

from crazyrouter.api.errors import ApiError, render_error

logger = logging.getLogger(__name__)


MALFORMED = ApiError("invalid_value", "The request is malformed.")


class BodyTooLarge(Exception):
    """More than MAX_BODY_BYTES; reading stopped there."""


class LeanHandler(ASGIHandler):
    """Serves requests on the event loop: no middleware, no signals, no thread, no cancelling."""

    def load_middleware(self, is_async: bool = False) -> None:
        """There is none; see `answer`."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await read_body(receive, scope)
        except RequestAborted:
            return
        except BodyTooLarge:
            limit = f"The request body is larger than {settings.MAX_BODY_BYTES} bytes."
            await self.send_response(render_error(ApiError("request_too_large", limit)), send)
            return
        request, _ = self.create_request(scope, body)
        # Django would say in HTML why a request cannot even be built.
        response = await self.answer(request) if request is not None else render_error(MALFORMED)
        # A server takes what is sent to a client that has left without a word, so it is asked first.
        if is_gone(receive):
            return
        await self.send_response(response, while_heard(receive, send) if response.streaming else send)
        after_send = getattr(response, "after_send", None)
        if after_send is not None:
            after_send()

    async def send_response(self, response: HttpResponseBase, send: Any) -> None:
        """A whole body in two messages; Django's own way serves streams, and costs twice as much."""
        if response.streaming:
            with suppress(RequestAborted):
                await super().send_response(response, send)
            return
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": cast("HttpResponse", response).content})

    async def answer(self, request: ASGIRequest) -> HttpResponse:
        """The view's response; whatever goes wrong around the view is an error in the envelope."""
        try:
            match = resolve(request.path_info)
            request.resolver_match = match
            return await match.func(request, *match.args, **match.kwargs)
        except Http404:
            return render_error(ApiError("unknown_url"))
        except (BadRequest, SuspiciousOperation, DisallowedHost):
            return render_error(MALFORMED)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("unexpected error in %s", request.path)
            return render_error(ApiError("server_error"))


FIXED: dict[str, ResolverMatch] = {}


def resolve(path: str) -> ResolverMatch:
    """The view of a path; paths without a variable part, of which there are few, are looked up once."""
    match = FIXED.get(path)
    if match is None:
        match = get_resolver().resolve(path)
        if not match.args and not match.kwargs and match.route == path[1:]:
            FIXED[path] = match
    return match


async def read_body(receive: Any, scope: Any) -> BytesIO:
    """The whole body, bounded before it is held in memory."""
    limit = settings.MAX_BODY_BYTES
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise BodyTooLarge
    body = BytesIO()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestAborted
        body.write(message.get("body", b""))
        if body.tell() > limit:
            raise BodyTooLarge
        if not message.get("more_body", False):
            body.seek(0)
            return body


def while_heard(receive: Any, send: Any) -> Any:
    """`send` for a stream: raises RequestAborted as soon as nobody listens, or a long file would be made to its end."""

    async def send_if_heard(message: Any) -> None:
        if is_gone(receive):
            raise RequestAborted
        await send(message)

    return send_if_heard


def is_gone(receive: Any) -> bool:
    """Whether the client has left. `receive` answers at once only when it has; otherwise it is not waited for."""
    waiting = receive()
    try:
        waiting.send(None)
    except StopIteration as stop:
        return bool(stop.value["type"] == "http.disconnect")
    waiting.close()
    return False
