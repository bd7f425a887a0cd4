"""HTTP as a customer speaks it: each request on a connection of its own, and the whole answer or why there is none.

Written anew and not with the product's own client, whose faults would hide here.

    Unanswered      no whole answer came
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import orjson

#: Longer than any head of ours.
MOST_HEAD_BYTES = 64 * 1024


class Why(StrEnum):
    """What became of the connection."""

    REFUSED = "refused"  # nobody listens
    BROKEN = "broken"  # it ended before the answer did
    SILENT = "silent"  # nothing came in time


class Unanswered(Exception):
    def __init__(self, why: Why, detail: str = "") -> None:
        super().__init__(f"{why}: {detail}" if detail else str(why))
        self.why = why


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def read_object(self) -> dict[str, Any]:
        """The JSON object of the body; an empty one where it is none."""
        try:
            body = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return body if isinstance(body, dict) else {}


async def call(
    method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"", timeout_s: float
) -> Answer:
    """Raises Unanswered."""
    parts = urlsplit(url)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    own = {"Host": parts.netloc, "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in own.items())])
    try:
        async with asyncio.timeout(timeout_s):
            return await exchange(parts.hostname or "", parts.port or 80, head.encode() + b"\r\n\r\n" + body)
    except TimeoutError:
        raise Unanswered(Why.SILENT, f"for {timeout_s:.0f} s") from None


async def exchange(host: str, port: int, request: bytes) -> Answer:
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=MOST_HEAD_BYTES)
    except OSError as error:
        raise Unanswered(Why.REFUSED, str(error)) from error
    try:
        writer.write(request)
        await writer.drain()
        status, headers = read_head(await reader.readuntil(b"\r\n\r\n"))
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Unanswered(Why.BROKEN, str(error)) from error
    except (KeyError, ValueError) as error:
        raise Unanswered(Why.BROKEN, f"not HTTP as we know it: {error!r}") from error
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def read_head(raw: bytes) -> tuple[int, dict[str, str]]:
    """Raises ValueError."""
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return int(first.partition(" ")[2][:3]), {name.strip().lower(): value.strip() for name, _, value in fields}
