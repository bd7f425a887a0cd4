"""The frame of every view under /v1, and the models; ordering stands in `generations`, money in `accounting`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from django.db import Error as AnyDatabaseError
from django.http import HttpRequest, HttpResponse
from rest_framework.views import APIView

from billing.money import format_amount
from crazyrouter.api.errors import ApiError, render_error, render_json
from crazyrouter.api.requests import authenticate, find_model
from crazyrouter.generation.lane import LaneClosed
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
