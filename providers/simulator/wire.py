"""HTTP as the simulator sees it: one request, one reply, and the ways in which a reply can go wrong."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Where the server leaves its transport, so that a reply can break the connection.
TRANSPORT = "simulator.transport"
MAX_BODY = 6 * 2**20
_PIECES = 20


class Manner(StrEnum):
    """How a reply travels."""

    WHOLE = "whole"
    DRIP = "drip"  # in small pieces over `seconds`
    CUT = "cut"  # the headers promise more than comes, then the connection closes
    HANG = "hang"  # nothing ever comes
    RESET = "reset"  # TCP reset instead of an answer


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` by lower-case name. `raw_path` and `raw_query` are the bytes that were sent, undecoded."""

    method: str
    path: str
    raw_path: bytes
    raw_query: bytes
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def scheme(self) -> str:
        """Of the credential, in lower case: `bearer`, fal's `key`, or an empty string."""
        return self.headers.get("authorization", "").partition(" ")[0].lower()

    @property
    def key(self) -> str:
        """The credential of either scheme, or an empty string."""
        key = self.headers.get("authorization", "").partition(" ")[2]
        return key.strip() if self.scheme in {"bearer", "key"} else ""

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.raw_query.decode("latin-1")))


@dataclass(slots=True)
class Reply:
    """`stream` replaces `body` where that would be too big; `length` is then what is announced, if anything."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    manner: Manner = Manner.WHOLE
    seconds: float = 0.0
    stream: Iterable[bytes] | None = None
    length: int | None = None


def reply_json(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, orjson.dumps(data), {"content-type": "application/json", **(headers or {})})


async def read_request(scope: Scope, receive: Receive) -> Request | None:
    """None when the client left before it had sent everything. A body over MAX_BODY is cut there, one byte too long."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if len(body) <= MAX_BODY:
            body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(
        method=scope["method"],
        path=scope["path"],
        raw_path=scope.get("raw_path") or scope["path"].encode(),
        raw_query=scope.get("query_string", b""),
        headers=headers,
        body=bytes(body[: MAX_BODY + 1]),
    )


async def send_reply(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the reply in its manner; returns when it is out or the connection is gone."""
    if reply.manner is Manner.HANG:
        await _await_departure(receive)
    elif reply.manner is Manner.RESET:
        _reset(scope)
        await _await_departure(receive)
    elif reply.manner is Manner.CUT:
        await _send_cut(reply, scope, receive, send)
    else:
        await _send_pieces(reply, scope, send)


async def _send_pieces(reply: Reply, scope: Scope, send: Send) -> None:
    length = reply.length if reply.stream is not None else len(reply.body)
    await _start(reply, send, length=length)
    if scope["method"] != "HEAD":
        pieces = reply.stream if reply.stream is not None else _slice(reply)
        pause = reply.seconds / len(pieces) if isinstance(pieces, list) and reply.seconds else 0.0
        for piece in pieces:
            if pause:
                await asyncio.sleep(pause)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _slice(reply: Reply) -> list[bytes]:
    """One piece, or about twenty; an empty body is one empty piece, so that it can drip, too."""
    step = max(1, len(reply.body) if reply.manner is Manner.WHOLE else -(-len(reply.body) // _PIECES))
    return [reply.body[start : start + step] for start in range(0, max(1, len(reply.body)), step)]


async def _send_cut(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    await _start(reply, send, length=len(reply.body))
    await send({"type": "http.response.body", "body": reply.body[: len(reply.body) // 2], "more_body": True})
    _transport(scope).close()
    await _await_departure(receive)


async def _start(reply: Reply, send: Send, *, length: int | None) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def _await_departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport = scope["extensions"][TRANSPORT]
    return transport


def _reset(scope: Scope) -> None:
    """Closing with a zero linger makes the kernel send RST; the option belongs to the socket, not to its number."""
    transport = _transport(scope)
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
