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
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast
from urllib.parse import urljoin

import aiohttp
import httpx
import orjson
from yarl import URL

from providers.connections import CALL, Call, NotSent, Wire, describe, find_refusal, refuse_default_transport
from providers.egress import Check, EgressRefused, Guard, Reach, is_public, parse
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

    `allow` holds the entries of EGRESS_ALLOW (see `providers.allowance`), which may be plain http or private;
    everything else must be public, https and port 443. Redirects are answers here, cookies and environment proxies
    do not exist.
    """

    def __init__(
        self, *, allow: Iterable[str] = (), build_wire: Callable[..., httpx.AsyncBaseTransport] = Wire
    ) -> None:
        self._guard = Guard(allow)
        # Each reach keeps connections of its own: one that was opened under a wider rule is not used under a stricter.
        self._wires = {reach: refuse_default_transport(build_wire(check=self._make_check(reach))) for reach in Reach}
        #: Carriers (scheme, host, port) that answered from an allowed network, by the name that a channel has for them.
        self._insiders: set[tuple[str, str, int | None]] = set()

    def _make_check(self, reach: Reach) -> Check | None:
        return None if reach is Reach.LISTED else partial(self._guard.check, reach)

    async def aclose(self) -> None:
        for wire in self._wires.values():
            await wire.aclose()

    async def post(
        self, url: str, *, headers: Mapping[str, str], json: Mapping[str, Any], read_timeout: float
    ) -> Reply:
        """Send once, whatever happens. `read_timeout` bounds the whole call. Raises NotSent, ReplyLost."""
        return await self._call("POST", url, _JSON | dict(headers), orjson.dumps(json), read_timeout)

    async def get(self, url: str, *, headers: Mapping[str, str], read_timeout: float) -> Reply:
        """Ask; a connection that turns out dead is replaced once. Raises NotSent, ReplyLost."""
        return await self._call("GET", url, headers, None, read_timeout)

    async def fetch(self, url: str, *, max_bytes: int, timeout: float, source: str = "") -> bytes:
        """Download a picture without any credential, within `timeout` seconds in all. Raises FetchFailed.

        `source` is the base URL of the carrier that named the picture. One on the open net is a stranger: what only
        the allow-list opens is not for it to name, as it is not for a redirect from there.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(url, max_bytes, stranger=bool(source) and not self._is_insider(source))
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
        try:
            async with asyncio.timeout(read_timeout):
                return await self._ask(call, method, url, headers, body)
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

    async def _ask(self, call: Call, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        target = parse(url)
        reach = self._guard.judge(target)
        reply = await self._exchange(call, reach, _build_request(method, target, headers, body), MAX_REPLY_BYTES)
        if is_inside(reach, call):
            self._insiders.add(_read_origin(target))
        return reply

    async def _follow(self, url: str, max_bytes: int, *, stranger: bool) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            call, target = Call(), parse(url)
            reach = self._guard.judge(target, stranger=stranger)
            reply = await self._exchange(call, reach, _build_request("GET", target, {}, None), max_bytes)
            if reply.status == 200:
                return reply.body
            url = _read_redirect(url, reply)
            stranger = not is_inside(reach, call)
        raise FetchFailed("the download redirects too often", permanent=True)

    async def _exchange(self, call: Call, reach: Reach, request: httpx.Request, max_bytes: int) -> Reply:
        token = CALL.set(call)
        try:
            response = await self._wires[reach].handle_async_request(request)
            try:
                return Reply(response.status_code, response.headers, await _read(response, max_bytes))
            finally:
                await response.aclose()
        finally:
            CALL.reset(token)

    def _is_insider(self, source: str) -> bool:
        """Whether a carrier is one that the allow-list opens: by its URL, or seen in an allowed network."""
        with suppress(EgressRefused):
            target = parse(source)
            reach = self._guard.judge(target)
            return reach in (Reach.LISTED, Reach.INSIDE) or _read_origin(target) in self._insiders
        return False


def is_inside(reach: Reach, call: Call) -> bool:
    """Whether who answered is one that only the allow-list opens."""
    if reach is Reach.EITHER:
        return bool(call.peer) and not is_public(call.peer)
    return reach is not Reach.PUBLIC


def _read_redirect(url: str, reply: Reply) -> str:
    """Where the answer leads. Raises FetchFailed if it leads nowhere, and EgressRefused."""
    location = reply.headers.get("location")
    if reply.status not in _REDIRECTS or not location:
        permanent = 400 <= reply.status < 500 and reply.status not in _PASSING_STATUSES
        raise FetchFailed(f"the download answered {reply.status}", permanent=permanent)
    # urljoin would tidy an absolute address that may be signed.
    try:
        return location if location.startswith(("http://", "https://")) else urljoin(url, location)
    except ValueError as error:
        raise EgressRefused("egress refused: not a URL") from error


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    if int(response.headers.get("content-length", 0)) > max_bytes:
        raise _TooLarge
    body = bytearray()
    async for chunk in cast("httpx.AsyncByteStream", response.stream):
        body += chunk
        if len(body) > max_bytes:
            raise _TooLarge
    # "identity" was asked for; a server that compresses all the same is understood.
    if response.headers.get("content-encoding", "identity").lower() in ("gzip", "deflate"):
        return _inflate(body, max_bytes)
    return bytes(body)


def _inflate(body: bytes | bytearray, max_bytes: int) -> bytes:
    """Raises ValueError for what is no whole stream, too: half a picture is none."""
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        inflated = decoder.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise ValueError("the answer is not what its Content-Encoding says") from error
    if len(inflated) > max_bytes:
        raise _TooLarge
    if not decoder.eof:
        raise ValueError("the answer ends before its Content-Encoding does")
    return inflated


def _build_request(method: str, target: URL, headers: Mapping[str, str], body: bytes | None) -> httpx.Request:
    sent = _DEFAULT_HEADERS | dict(headers)
    if any(sign in value for value in sent.values() for sign in "\r\n\0"):
        raise ValueError("a header holds a line break")
    return httpx.Request(
        method,
        _build_origin(*_read_origin(target)),
        headers=sent,
        stream=httpx.ByteStream(body or b""),
        extensions={"target": target, "body": body},
    )


def _read_origin(target: URL) -> tuple[str, str, int | None]:
    return target.scheme, target.raw_host or "", target.port


@lru_cache(maxsize=256)
def _build_origin(scheme: str, host: str, port: int | None) -> httpx.URL:
    return httpx.URL(scheme=scheme, host=host, port=port)
