"""One request to an ASGI application, without a server."""

from __future__ import annotations

import asyncio
from typing import Any

from providers.simulator.app import Simulator


def ask(app: Simulator, method: str, path: str, *, body: bytes = b"", headers: Any = ()) -> tuple[int, bytes]:
    """Status and body of the answer."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": list(headers)}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:])
