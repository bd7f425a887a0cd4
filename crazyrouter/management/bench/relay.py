"""The measure of the product: the same two upstream calls over the same transport and server, and nothing else.

No key, no money, no check, no storage. `python -m … --fd N --upstream http://127.0.0.1:P/relay`
"""

from __future__ import annotations

import argparse
import gc
import socket
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from crazyrouter.management.bench.plan import GENERATE
from crazyrouter.web import build_server
from providers.transport import Transport

READ_TIMEOUT_S = 310.0
FETCH_TIMEOUT_S = 60.0
MAX_BYTES = 64 * 1024 * 1024


class Relay:
    """An ASGI application."""

    transport: Transport

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        answer = await self.relay(orjson.loads(await read_body(receive)))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def live(self, receive: Any, send: Any) -> None:
        """As the product starts, with all that will stay frozen out of the collector's sight."""
        await receive()
        self.transport = Transport(allow=[urlsplit(self.upstream).netloc])
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 50)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.transport.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def relay(self, asked: dict[str, Any]) -> bytes:
        """Raises whatever goes wrong: a 500, which is counted as an error."""
        reply = await self.transport.post(
            self.upstream + GENERATE,
            headers={"Authorization": "Bearer sk-bench"},
            json={
                "model": asked["model"],
                "input": {"messages": [{"role": "user", "content": [{"text": asked["prompt"]}]}]},
                "parameters": {"size": asked["size"].replace("x", "*"), "n": 1},
            },
            read_timeout=READ_TIMEOUT_S,
        )
        url = reply.json()["output"]["choices"][0]["message"]["content"][0]["image"]
        await self.transport.fetch(url, max_bytes=MAX_BYTES, timeout=FETCH_TIMEOUT_S)
        return orjson.dumps({"created": int(time.time()), "data": [{"url": url}]})


async def read_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a listening socket")
    parser.add_argument("--upstream", required=True)
    options = parser.parse_args(arguments)
    server = build_server()
    # The very server of production: only what it serves is another.
    server.config.app = Relay(options.upstream)
    server.run(sockets=[socket.socket(fileno=options.fd)])


if __name__ == "__main__":
    main()
