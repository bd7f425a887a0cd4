"""The only module that knows the HTTP client: the httpx API over aiohttp's connections.

httpx's own pool is quadratic in open calls (measured: 1,000 held calls wait 15 s for nothing), so its
default transport is refused at start-up. What follows a failed call is decided by one question, and it is
answered where it is certain, in the connector, not by the class of an exception:

    NotSent         nothing was written: no address, refused, TLS, an egress rule; free of charge
    ReplyLost       something was written and no whole answer came; the carrier may have acted on it
    FetchFailed     a picture could not be downloaded; `permanent` says whether trying again is useless
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urljoin

import aiohttp
import httpx
import orjson
from yarl import URL

from providers.connections import CALL, Call, NotSent, Wire, describe, find_refusal, refuse_default_transport
from providers.egress import EgressRefused, Guard, parse
from providers.redaction import redact

__all__ = ["FetchFailed", "NotSent", "Reply", "ReplyLost", "Transport", "redact"]

#: Six pictures of 4 Mpx as base64 fit; an answer beyond it is not read to its end.
MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_REDIRECTS = 3

_DEFAULT_HEADERS = {"User-Agent": "image-client/1", "Accept": "*/*", "Accept-Encoding": "identity"}
_JSON = {"Content-Type": "application/json"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A host that is still preparing the file, or is busy: the same URL may answer later.
_PASSING_STATUSES = frozenset({404, 408, 409, 425, 429})


class ReplyLost(Exception):
    """The request was sent, at least in part, and its answer is not known. `timeout`: it did not come in time."""

    def __init__(self, detail: str, *, timeout: bool = False) -> None:
        super().__init__(detail)
        self.timeout = timeout


class FetchFailed(Exception):
    """No picture. `permanent`: the same URL will not bring it later either."""

    def __init__(self, detail: str, *, permanent: bool = False) -> None:
        super().__init__(detail)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of any status, read to its end. Header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The parsed body. Raises ValueError."""
        return orjson.loads(self.body)


class _TooLarge(Exception):
    pass


class Transport:
    """HTTP for adapters and downloads; one per event loop. Connections open with the first call.

    `allow` holds the exact `host:port` pairs that may be plain http or private; everything else must be
    public, https and port 443. Redirects are answers here, cookies and environment proxies do not exist.
    """

    def __init__(
        self, *, allow: Iterable[str] = (), build_wire: Callable[..., httpx.AsyncBaseTransport] = Wire
    ) -> None:
        self._guard = Guard(allow)
        self._open = refuse_default_transport(build_wire(guarded=False))
        self._guarded = refuse_default_transport(build_wire(guarded=True))

    async def aclose(self) -> None:
        await self._open.aclose()
        await self._guarded.aclose()

    async def post(
        self, url: str, *, headers: Mapping[str, str], json: Mapping[str, Any], read_timeout: float
    ) -> Reply:
        """Send once, whatever happens. `read_timeout` bounds the whole call. Raises NotSent, ReplyLost."""
        return await self._call("POST", url, _JSON | dict(headers), orjson.dumps(json), read_timeout)

    async def get(self, url: str, *, headers: Mapping[str, str], read_timeout: float) -> Reply:
        """Ask; a connection that turns out dead is replaced once. Raises NotSent, ReplyLost."""
        return await self._call("GET", url, headers, None, read_timeout)

    async def fetch(self, url: str, *, max_bytes: int, timeout: float) -> bytes:
        """Download a picture without any credential, within `timeout` seconds in all. Raises FetchFailed."""
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(url, max_bytes)
        except TimeoutError as error:
            raise FetchFailed("the download took too long") from error
        except EgressRefused as error:
            raise FetchFailed(str(error), permanent=True) from error
        except NotSent as error:
            raise FetchFailed(str(error), permanent=find_refusal(error) is not None) from error
        except _TooLarge as error:
            raise FetchFailed("the download is too large", permanent=True) from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(describe(error)) from error

    async def _call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, read_timeout: float
    ) -> Reply:
        call = Call()
        token = CALL.set(call)
        try:
            wire, request = self._compose(method, url, headers, body)
            async with asyncio.timeout(read_timeout):
                return await _exchange(wire, request, MAX_REPLY_BYTES)
        except _TooLarge as error:
            raise ReplyLost("the answer is too large") from error
        except TimeoutError as error:
            if not call.connected:
                raise NotSent("no connection in time") from error
            raise ReplyLost("no answer in time", timeout=True) from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError, ValueError) as error:
            if not call.connected:
                raise NotSent(describe(error)) from error
            raise ReplyLost(describe(error)) from error
        finally:
            CALL.reset(token)

    def _compose(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[httpx.AsyncBaseTransport, httpx.Request]:
        target = parse(url)
        wire = self._guarded if self._guard.judge(target) else self._open
        return wire, _build_request(method, target, headers, body)

    async def _follow(self, url: str, max_bytes: int) -> bytes:
        guarded = False
        for _ in range(MAX_REDIRECTS + 1):
            wire, request = self._compose("GET", url, {}, None)
            if guarded and wire is self._open:
                raise EgressRefused("egress refused: a redirect into the allowed hosts")
            guarded = wire is self._guarded
            reply = await _exchange(wire, request, max_bytes)
            if reply.status == 200:
                return reply.body
            if reply.status not in _REDIRECTS or not (location := reply.headers.get("location")):
                permanent = 400 <= reply.status < 500 and reply.status not in _PASSING_STATUSES
                raise FetchFailed(f"the download answered {reply.status}", permanent=permanent)
            # urljoin would tidy an absolute address that may be signed.
            url = location if location.startswith(("http://", "https://")) else urljoin(url, location)
        raise FetchFailed("the download redirects too often", permanent=True)


async def _exchange(wire: httpx.AsyncBaseTransport, request: httpx.Request, max_bytes: int) -> Reply:
    response = await wire.handle_async_request(request)
    try:
        return Reply(response.status_code, response.headers, await _read(response, max_bytes))
    finally:
        await response.aclose()


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    if int(response.headers.get("content-length", 0)) > max_bytes:
        raise _TooLarge
    size, chunks = 0, []
    async for chunk in cast("httpx.AsyncByteStream", response.stream):
        size += len(chunk)
        if size > max_bytes:
            raise _TooLarge
        chunks.append(chunk)
    body = b"".join(chunks)
    # "identity" was asked for; a server that compresses all the same is understood.
    if response.headers.get("content-encoding", "identity").lower() in ("gzip", "deflate"):
        return _inflate(body, max_bytes)
    return body


def _inflate(body: bytes, max_bytes: int) -> bytes:
    try:
        inflated = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise ValueError("the answer is not what its Content-Encoding says") from error
    if len(inflated) > max_bytes:
        raise _TooLarge
    return inflated


def _build_request(method: str, target: URL, headers: Mapping[str, str], body: bytes | None) -> httpx.Request:
    sent = _DEFAULT_HEADERS | dict(headers)
    if any(sign in value for value in sent.values() for sign in "\r\n\0"):
        raise ValueError("a header holds a line break")
    return httpx.Request(
        method,
        _read_origin(target.scheme, target.raw_host or "", target.port),
        headers=sent,
        stream=httpx.ByteStream(body or b""),
        extensions={"target": target, "body": body},
    )


@lru_cache(maxsize=256)
def _read_origin(scheme: str, host: str, port: int | None) -> httpx.URL:
    return httpx.URL(scheme=scheme, host=host, port=port)
