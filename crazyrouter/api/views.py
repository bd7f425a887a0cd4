"""The endpoints under /v1."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.http import HttpRequest, HttpResponse
from rest_framework.views import APIView

from billing.money import format_amount
from crazyrouter.api.errors import ApiError, render_bytes, render_error, render_json
from crazyrouter.api.requests import authenticate, build_order, find_model, read_json
from crazyrouter.files.store import read_b64
from crazyrouter.generation.engine import Engine
from crazyrouter.generation.lane import LaneClosed
from crazyrouter.generation.order import Order, Outcome
from crazyrouter.generation.outcomes import Failure, LeaseLost, OrderRefused
from crazyrouter.generation.runtime import Runtime, get_runtime
from crazyrouter.generation.snapshot import Unavailable
from models_registry.catalog import PublicModel

logger = logging.getLogger(__name__)


class PublicView(APIView):
    """A DRF view whose dispatch stays on the event loop.

    DRF's own dispatch, and async wrappers around it, cost half a millisecond of thread hops a request. What it would
    do is done here: content negotiation is fixed (JSON), and every exception becomes the error envelope.
    """

    http_method_names = ["get", "post"]

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        try:
            return await self._find_handler(request)(request, *args, **kwargs)
        except ApiError as error:
            return render_error(error)
        except (Unavailable, LaneClosed, AnyDatabaseError):
            logger.exception("the database did not answer")
            return render_error(ApiError("service_unavailable"))
        except Exception:
            logger.exception("unexpected error in %s", request.path)
            return render_error(ApiError("server_error"))

    def _find_handler(self, request: HttpRequest) -> Callable[..., Awaitable[HttpResponse]]:
        name = (request.method or "").lower()
        handler = getattr(self, name, None) if name in self.http_method_names else None
        if handler is None:
            allowed = [method.upper() for method in self.http_method_names if hasattr(self, method)]
            raise ApiError(
                "method_not_allowed", f"Use {' or '.join(allowed)} here.", headers={"Allow": ", ".join(allowed)}
            )
        return handler


class GenerationsView(PublicView):
    """POST /v1/images/generations"""

    async def post(self, request: HttpRequest) -> HttpResponse:
        runtime = get_runtime()
        view = await runtime.snapshot.get()
        identity = await authenticate(request, runtime.snapshot, view)
        order = build_order(read_json(request), identity, view)
        outcome = await wait_for_outcome(runtime.engine, order)
        if outcome.failure:
            response = render_error(ApiError(outcome.failure, request_id=order.id))
        else:
            response = render_bytes(await render_outcome(outcome, order), request_id=order.id)
        response.after_send = lambda: runtime.engine.note_answered(order.id)  # type: ignore[attr-defined]
        return response


async def wait_for_outcome(engine: Engine, order: Order) -> Outcome:
    """Run the order and wait until the deadline; the work itself goes on behind a 504."""
    task = engine.start(order)
    try:
        async with asyncio.timeout(settings.GENERATION_DEADLINE_S):
            return await asyncio.shield(task)
    except OrderRefused as refused:
        raise ApiError(refused.failure) from None
    except (TimeoutError, LeaseLost):
        raise ApiError(Failure.TIMEOUT, request_id=order.id, extra={"generation_id": order.id}) from None


async def render_outcome(outcome: Outcome, order: Order) -> bytes:
    """OpenAI's answer. Base64 is JSON as it stands, so megabytes of it are spliced in, not encoded."""
    items = []
    for picture in outcome.pictures:
        if order.response_format == "b64_json":
            item = b'{"b64_json":"' + await read_b64(picture.name) + b'"'
        else:
            item = b'{"url":' + orjson.dumps(f"{settings.PUBLIC_BASE_URL}/files/{picture.name}")
        if picture.slot in outcome.revised_prompts:
            item += b',"revised_prompt":' + orjson.dumps(outcome.revised_prompts[picture.slot])
        items.append(item + b"}")
    return b'{"created":%d,"data":[' % outcome.created + b",".join(items) + b"]}"


class ModelsView(PublicView):
    """GET /v1/models"""

    async def get(self, request: HttpRequest) -> HttpResponse:
        runtime = get_runtime()
        view = await runtime.snapshot.get()
        await authenticate(request, runtime.snapshot, view)
        return render_json({"object": "list", "data": [describe_model(model) for model in view.catalog.values()]})


class ModelView(PublicView):
    """GET /v1/models/{id}"""

    async def get(self, request: HttpRequest, name: str) -> HttpResponse:
        runtime: Runtime = get_runtime()
        view = await runtime.snapshot.get()
        await authenticate(request, runtime.snapshot, view)
        return render_json(describe_model(find_model(view, name)))


def describe_model(model: PublicModel) -> dict[str, Any]:
    """OpenAI's fields, and what a customer needs to order."""
    price, allowed = model.price, model.size_range
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "crazyrouter",
        "capability": model.capability,
        "verification": model.verification,
        "pricing": price
        and {"unit": "image", "amount": format_amount(price.amount_micros), "currency": price.currency},
        "sizes": [f"{width}x{height}" for width, height in model.sizes],
        "default_size": "{}x{}".format(*model.default_size),
        "size_range": allowed
        and {"min_pixels": allowed.min_pixels, "max_pixels": allowed.max_pixels, "multiple": allowed.multiple},
        "max_n": model.max_n,
    }


class UnknownView(PublicView):
    """Anything else under /v1."""

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return render_error(ApiError("unknown_url", f"Unknown request URL: {request.method} {request.path[:200]}."))
