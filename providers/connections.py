"""httpx's transport interface on aiohttp's connections; `transport` builds its calls on it.

NotSent             no connection came to stand, so nothing of the request left this machine
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import map_aiohttp_exceptions

from providers.egress import Check, EgressRefused, open_socket
from providers.redaction import redact

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 15.0
DNS_CACHE_S = 60

_CLOCKS = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S)


class NotSent(Exception):
    """Nothing of the request left this machine: no address, refused, TLS, an egress rule."""


@dataclass(slots=True)
class Call:
    """What is known of the call that the current task makes. `peer` is the numeric address it is connected to."""

    connected: bool = False
    peer: str = ""


CALL: ContextVar[Call | None] = ContextVar("CALL", default=None)


class Connector(aiohttp.TCPConnector):
    """Turns every failure before a connection stands into NotSent, and notes when one does.

    httpx-aiohttp names a lost reply ConnectTimeout, like a connection that never was; here is the one
    place where the two are told apart for certain.
    """

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        try:
            connection = await super().connect(*args, **kwargs)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotSent(describe(error)) from error
        if call := CALL.get():
            call.connected, call.peer = True, read_peer(connection)
        return connection


def read_peer(connection: Any) -> str:
    """Also of a connection that was kept from an earlier call."""
    address = connection.transport.get_extra_info("peername") if connection.transport else None
    return str(address[0]) if address else ""


class Body(httpx.AsyncByteStream):
    """A reply's bytes as they arrive."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with map_aiohttp_exceptions():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        # Returns a connection that was read to its end and drops any other. httpx-aiohttp's own stream
        # waits here for a request body that the other side may never take.
        self._response.release()


@cache
def load_certificates() -> ssl.SSLContext:
    """The trusted roots, read once a process: 30 ms each time."""
    return httpx.create_ssl_context(trust_env=False)


class Wire(AiohttpTransport):
    """One session, that opens sockets only to addresses which pass the check; to any without one.

    The request line comes from the extension `target` (a yarl.URL): httpx-aiohttp hands aiohttp a text,
    which is quoted anew. aiohttp repeats idempotent requests on a dead kept connection, a POST never.
    """

    client: aiohttp.ClientSession | Callable[[], aiohttp.ClientSession]

    def __init__(self, *, check: Check | None) -> None:
        self._check = check
        super().__init__(verify=load_certificates(), trust_env=False, client=self._open_session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises NotSent, httpx.HTTPError, and aiohttp.ClientError where httpx-aiohttp has no word for one."""
        session = self.client
        if not isinstance(session, aiohttp.ClientSession):
            session = self.client = self._open_session()
        with map_aiohttp_exceptions():
            response = await session.request(
                request.method,
                request.extensions["target"],
                headers=[(name.decode("ascii"), value.decode("ascii")) for name, value in request.headers.raw],
                data=request.extensions["body"],
                allow_redirects=False,
            )
        return httpx.Response(response.status, headers=response.raw_headers, stream=Body(response))

    def _open_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=Connector(
                ssl=self.ssl_context,
                limit=0,
                keepalive_timeout=KEEPALIVE_S,
                ttl_dns_cache=DNS_CACHE_S,
                socket_factory=partial(open_socket, check=self._check) if self._check else None,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=_CLOCKS,
        )


def refuse_default_transport(wire: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    """Raises RuntimeError for every transport but one over aiohttp."""
    if isinstance(wire, AiohttpTransport):
        return wire
    raise RuntimeError(f"{type(wire).__name__} cannot hold a thousand open calls; use one over httpx-aiohttp")


def find_refusal(error: BaseException | None) -> EgressRefused | None:
    """The egress rule behind a failure, if it was one."""
    while error is not None and not isinstance(error, EgressRefused):
        error = error.__cause__
    return error


def describe(error: BaseException) -> str:
    """An operator's line about a failure."""
    if refusal := find_refusal(error):
        return str(refusal)
    return redact(f"{type(error).__name__}: {error}")
