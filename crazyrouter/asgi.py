"""The ASGI application: the API, /files and health through the lean handler, everything else through Django's own.

`gc.freeze()` after start takes what will live for ever out of the collector's sight: a third of the tail latency.
"""

from __future__ import annotations

import gc
import os
import time
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crazyrouter.settings")
django.setup(set_prefix=False)

from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.urls import get_resolver  # noqa: E402

from crazyrouter.api.lean import LeanHandler  # noqa: E402
from crazyrouter.generation.runtime import STOP_PATIENCE_S, close_runtime, get_runtime  # noqa: E402

LEAN_PREFIXES = ("/v1/", "/files/")
#: /healthz and /readyz too: whoever looks after health calls by address, under no host name of ours.
LEAN_PATHS = {"/v1", "/api/pricing", "/openapi.json", "/healthz", "/readyz"}

lean = LeanHandler()
stock = ASGIHandler()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(scope, receive, send)
    elif scope["path"].startswith(LEAN_PREFIXES) or scope["path"] in LEAN_PATHS:
        await lean(scope, receive, send)
    else:
        await stock(scope, receive, send)


async def live(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Start with everything loaded, stop by letting running generations end.

    The server has let requests end before it says so; what that took is part of the same patience.
    """
    await receive()
    get_resolver().url_patterns  # noqa: B018 - imports all views now, not in the first request
    get_runtime()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    stopping_since = scope.get("state", {}).get("stopping_since", time.monotonic())
    await close_runtime(patience_s=max(0.0, STOP_PATIENCE_S - (time.monotonic() - stopping_since)))
    await send({"type": "lifespan.shutdown.complete"})
