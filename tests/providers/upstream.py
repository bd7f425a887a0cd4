"""A carrier on loopback that says, byte for byte, what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import orjson


@dataclass(frozen=True)
class Received:
    """One request as it came in; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """Counts connections and requests, and lets `answer` write to the connection or close it."""

    def __init__(self, answer: Answer, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._answer = answer
        self._address = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.received: list[Received] = []
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, *self._address)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.pair = f"{self._address[0]}:{self.port}"
        self.url = f"http://{self.pair}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def stop_listening(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                request = await read_request(reader)
                self.received.append(request)
                await self._answer(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Received(method, target, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def build_reply(body: bytes = b"", *, status: int = 200, headers: dict[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def say(body: bytes = b"", *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer every request alike."""

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(build_reply(body, status=status, headers=headers))

    return answer


def say_json(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return say(orjson.dumps(value), status=status, headers={"Content-Type": "application/json", **(headers or {})})


async def stay_silent(_: Received, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def hang_up(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def stop_halfway(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(build_reply(b"x" * 100)[:-60])
    await writer.drain()
    writer.close()
