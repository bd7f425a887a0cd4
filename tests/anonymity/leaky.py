"""The product with a leak in every place that a canary looks at: `uvicorn tests.anonymity.leaky:application`.

What leaks is what a mistake would let through: the carrier's own words, ids and files, and the channel's name.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crazyrouter.settings")

from crazyrouter import asgi
from crazyrouter.api import errors, rendering
from crazyrouter.files import store
from crazyrouter.generation import upstream

#: What carriers have said last: their words, and their id of a call.
heard = {"words": "", "id": ""}


def plant(owner: Any, name: str, leak: Any) -> None:
    """Put `leak(original, …)` in the place of a function."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **options: leak(original, *args, **options))


def describe(original: Any, error: Any) -> Any:
    heard["words"], heard["id"] = error.detail, error.upstream_id or heard["id"]
    return original(error)


def keep_revised_prompt(original: Any, text: str | None, route: Any) -> str | None:
    return text and f"{text} ({route.channel_name}, {route.upstream_model})"


def prepare(original: Any, data: bytes, **options: Any) -> Any:
    picture = original(data, **options)
    return replace(picture, data=data) if data.startswith(b"\x89PNG") else picture


def render_error(original: Any, error: Any) -> Any:
    error.message = f"{error.message} {heard['words']}"
    return original(error)


def make_url(original: Any, picture: Any) -> str:
    return f"{original(picture)}?from=dashscope-result-bj"


plant(upstream, "describe", describe)
plant(upstream, "keep_revised_prompt", keep_revised_prompt)
plant(store, "prepare", prepare)
plant(errors, "render_error", render_error)
plant(rendering, "render_error", render_error)
plant(rendering, "make_url", make_url)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    async def tell(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-upstream-id", heard["id"].encode())]
        await send(message)

    await asgi.application(scope, receive, tell)
