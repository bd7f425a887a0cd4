"""The ASGI application: /v1 and /files through the lean handler, everything else through Django's own.

`gc.freeze()` after start takes what will live for ever out of the collector's sight: a third of the tail latency.
"""

from __future__ import annotations

import gc
import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crazyrouter.settings")
django.setup(set_prefix=False)

from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.urls import get_resolver  # noqa: E402

from crazyrouter.api.lean import LeanHandler  # noqa: E402
from crazyrouter.generation.runtime import close_runtime, get_runtime  # noqa: E402

LEAN_PREFIXES = ("/v1/", "/files/")

lean = LeanHandler()
stock = ASGIHandler()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["path"].startswith(LEAN_PREFIXES) or scope["path"] == "/v1":
        await lean(scope, receive, send)
    else:
        await stock(scope, receive, send)


async def live(receive: Any, send: Any) -> None:
    """Start with everything loaded, stop by letting running generations end."""
    await receive()
    get_resolver().url_patterns  # noqa: B018 - imports all views now, not in the first request
    get_runtime()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await close_runtime()
    await send({"type": "lifespan.shutdown.complete"})
