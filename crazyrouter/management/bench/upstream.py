"""A carrier that is no bottleneck: DashScope's synchronous shape with a constant answer. `python -m … --fd N`

Each side that is measured calls under its own first path segment, and is counted by it:

    POST /{side}/services/aigc/multimodal-generation/generation     after the delay: one picture's URL
    GET  /{side}/picture.png                                        512x512, 10 KB
    GET  /control/counts        {side: {"submissions", "downloads"}}
    GET  /control/delay/{s}     how long each further submission takes
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import socket
import zlib
from collections.abc import Sequence
from typing import cast

import orjson
import uvloop

from crazyrouter.management.bench.plan import GENERATE, SIDES
from crazyrouter.management.bench.wire import build_response, take_message
from crazyrouter.ops.markers import set_marker
from providers.simulator.png import SIGNATURE, build_chunk, build_header

SIDE = 512
BACKLOG = 4096

NOT_FOUND = build_response("404 Not Found", b'{"code":"NotFound","message":"no such path"}')


def build_picture() -> bytes:
    """Black with a noisy edge: the pixels are few to inflate, the file is about 10 KB. Always the same."""
    noise = random.Random(SIDE)  # noqa: S311 - no secret
    rows = b"".join(b"\0" + noise.randbytes(15).ljust(SIDE * 3, b"\0") for _ in range(SIDE))
    header = build_header(SIDE, SIDE, colour=2, depth=8)
    return SIGNATURE + header + build_chunk(b"IDAT", zlib.compress(rows, 9)) + build_chunk(b"IEND", b"")


def build_answer(picture_url: str) -> bytes:
    message = {"role": "assistant", "content": [{"image": picture_url}]}
    body = {
        "request_id": "7a270c86-db58-9faf-b403-bf41c3e3c5dc",
        "output": {"choices": [{"finish_reason": "stop", "message": message}]},
        "usage": {"width": SIDE, "height": SIDE, "image_count": 1},
    }
    return build_response("200 OK", orjson.dumps(body))


class Carrier:
    """The answers, made once, and the counts."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self.counts = {side: {"submissions": 0, "downloads": 0} for side in SIDES}
        self.picture = build_response("200 OK", build_picture(), kind="image/png")
        self.orders = {f"POST /{side}{GENERATE}".encode(): side for side in SIDES}
        self.downloads = {f"GET /{side}/picture.png".encode(): side for side in SIDES}
        self.answers = {side: build_answer(f"http://127.0.0.1:{port}/{side}/picture.png") for side in SIDES}

    def control(self, line: bytes) -> bytes:
        if line == b"GET /control/counts":
            return build_response("200 OK", orjson.dumps(self.counts))
        if line.startswith(b"GET /control/delay/"):
            self.delay_s = float(line.rpartition(b"/")[2])
            return build_response("200 OK", b"{}")
        return NOT_FOUND


class Connection(asyncio.Protocol):
    """One kept connection; its messages come one at a time."""

    transport: asyncio.Transport

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while message := take_message(self.buffer):
            self.answer(message[0][: message[0].find(b" HTTP/1.1\r\n")])

    def answer(self, line: bytes) -> None:
        carrier = self.carrier
        if side := carrier.orders.get(line):
            carrier.counts[side]["submissions"] += 1
            if carrier.delay_s:
                asyncio.get_running_loop().call_later(carrier.delay_s, self.transport.write, carrier.answers[side])
            else:
                self.transport.write(carrier.answers[side])
        elif side := carrier.downloads.get(line):
            carrier.counts[side]["downloads"] += 1
            self.transport.write(carrier.picture)
        else:
            self.transport.write(carrier.control(line))


async def serve(listener: socket.socket) -> None:
    carrier = Carrier(int(listener.getsockname()[1]))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(carrier), sock=listener, backlog=BACKLOG)
    set_marker()
    # Nothing here lives in cycles, and a collection would be measured as somebody else's latency.
    gc.disable()
    await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a listening socket")
    options = parser.parse_args(arguments)
    uvloop.run(serve(socket.socket(fileno=options.fd)))


if __name__ == "__main__":
    main()
