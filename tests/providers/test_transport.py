from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest
from httpx_aiohttp import AiohttpTransport
from yarl import URL

from providers import connections, transport
from providers.egress import Guard, Reach
from providers.transport import NotSent, ReplyLost, Transport
from tests.providers.upstream import (
    Answer,
    Received,
    Upstream,
    build_reply,
    hang_up,
    say,
    say_json,
    stay_silent,
    stop_halfway,
)

KEY = {"Authorization": "Bearer sk-secret"}


async def post(upstream: Upstream, *, allow: list[str] | None = None, read_timeout: float = 5) -> transport.Reply:
    client = Transport(allow=[upstream.pair] if allow is None else allow)
    try:
        return await client.post(f"{upstream.url}/order", headers=KEY, json={"n": 1}, read_timeout=read_timeout)
    finally:
        await client.aclose()


class AllowAll(Guard):
    def judge(self, url: URL, *, stranger: bool = False) -> Reach:
        return Reach.LISTED


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Transport]:
    """Free to reach whatever server a test opens."""
    client = Transport()
    monkeypatch.setattr(client, "_guard", AllowAll())
    yield client
    await client.aclose()


async def test_a_post_says_only_what_it_must():
    async with Upstream(say_json({"ok": "图"}, headers={"X-Request-Id": "abc"})) as upstream:
        reply = await post(upstream)
    assert (reply.status, reply.json(), reply.headers["x-request-id"]) == (200, {"ok": "图"}, "abc")
    assert [(request.method, request.target, request.body) for request in upstream.received] == [
        ("POST", "/order", b'{"n":1}')
    ]
    assert upstream.received[0].headers == {
        "host": upstream.pair,
        "user-agent": "image-client/1",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "authorization": "Bearer sk-secret",
        "content-length": "7",
    }


async def test_a_get_carries_no_body(client: Transport):
    async with Upstream(say(b"not json", status=503)) as upstream:
        reply = await client.get(f"{upstream.url}/tasks/1", headers=KEY, read_timeout=5)
    assert (reply.status, reply.body) == (503, b"not json")
    with pytest.raises(ValueError):
        reply.json()
    assert upstream.received[0].method == "GET"
    assert "content-length" not in upstream.received[0].headers


async def test_no_cookie_is_kept_and_no_redirect_followed(client: Transport):
    answer = say(status=307, headers={"Set-Cookie": "account=1; Path=/", "Location": "/elsewhere"})
    async with Upstream(answer) as upstream:
        for _ in range(2):
            reply = await client.post(f"{upstream.url}/order", headers={}, json={}, read_timeout=5)
            assert reply.status == 307
    assert [request.target for request in upstream.received] == ["/order", "/order"]
    assert "cookie" not in upstream.received[1].headers


async def test_the_environment_names_no_proxy_and_no_password(
    client: Transport, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Upstream(say(b"direct")) as upstream:
        reply = await client.get(upstream.url, headers={}, read_timeout=5)
    assert reply.body == b"direct"
    assert "authorization" not in upstream.received[0].headers


def drop_only_the_second() -> Answer:
    seen = 0

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        await (hang_up if seen == 2 else say(b"here"))(request, writer)

    return answer


async def test_a_post_is_never_sent_again_on_a_dead_kept_connection(client: Transport):
    async with Upstream(drop_only_the_second()) as upstream:
        await client.post(upstream.url, headers={}, json={"n": 1}, read_timeout=5)
        with pytest.raises(ReplyLost) as lost:
            await client.post(upstream.url, headers={}, json={"n": 2}, read_timeout=5)
        assert not lost.value.timeout
        assert [request.body for request in upstream.received] == [b'{"n":1}', b'{"n":2}']
        assert upstream.connections == 1


async def test_a_question_is_asked_again_on_a_new_connection(client: Transport):
    async with Upstream(drop_only_the_second()) as upstream:
        await client.get(upstream.url, headers={}, read_timeout=5)
        reply = await client.get(upstream.url, headers={}, read_timeout=5)
        assert (reply.body, len(upstream.received), upstream.connections) == (b"here", 3, 2)


async def stop_at_once(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [hang_up, stop_halfway, stop_at_once, say_json({}, headers={"Content-Encoding": "gzip"})],
    ids=["closed", "half a body", "half a head", "not gzip"],
)
async def test_what_was_sent_and_not_answered_is_lost(answer: Answer):
    async with Upstream(answer) as upstream:
        with pytest.raises(ReplyLost) as lost:
            await post(upstream)
    assert not lost.value.timeout
    assert len(upstream.received) == 1


async def test_an_answer_that_is_not_http_is_lost():
    async def babble(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    async with Upstream(babble) as upstream:
        with pytest.raises(ReplyLost):
            await post(upstream)


async def test_silence_ends_at_the_read_timeout():
    async with Upstream(stay_silent) as upstream:
        start = time.monotonic()
        with pytest.raises(ReplyLost) as lost:
            await post(upstream, read_timeout=0.2)
        assert lost.value.timeout
        assert 0.15 < time.monotonic() - start < 1
        assert len(upstream.received) == 1


async def drip(request: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(build_reply(b" " * 1000)[:-1000])
    for _ in range(1000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_a_slow_drip_cannot_pass_the_read_timeout():
    async with Upstream(drip) as upstream:
        start = time.monotonic()
        with pytest.raises(ReplyLost) as lost:
            await post(upstream, read_timeout=0.3)
        assert lost.value.timeout
        assert time.monotonic() - start < 1


async def send_without_length(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000)
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [
        say(b"x" * 1001),
        send_without_length,
        say(gzip.compress(b"x" * 100_000), headers={"Content-Encoding": "gzip"}),
    ],
    ids=["announced", "unannounced", "inflated"],
)
async def test_an_answer_beyond_the_bound_is_not_read(answer: Answer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transport, "MAX_REPLY_BYTES", 1000)
    async with Upstream(answer) as upstream:
        with pytest.raises(ReplyLost, match="too large") as lost:
            await post(upstream)
    assert not lost.value.timeout


async def test_a_server_that_compresses_unasked_is_understood():
    packed = gzip.compress(b'{"ok":true}')
    async with Upstream(say(packed, headers={"Content-Encoding": "gzip"})) as upstream:
        assert (await post(upstream)).json() == {"ok": True}


async def test_a_refused_connection_sent_nothing(client: Transport):
    async with Upstream(hang_up) as upstream:
        url = upstream.url
    with pytest.raises(NotSent, match="ClientConnectorError"):
        await client.post(url, headers={}, json={}, read_timeout=5)


async def test_a_name_without_address_sent_nothing(monkeypatch: pytest.MonkeyPatch):
    async def fail(*_: object, **__: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", fail)
    client = Transport()
    with pytest.raises(NotSent, match="ClientConnectorDNSError"):
        await client.post("https://carrier.example/order", headers={}, json={}, read_timeout=5)
    await client.aclose()


async def test_a_failed_handshake_sent_nothing(client: Transport):
    async def speak_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 The plain HTTP request was sent to HTTPS port\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(NotSent, match="SSL"):
            await client.post(url, headers={}, json={}, read_timeout=5)


@pytest.mark.parametrize(("connect", "read"), [(0.2, 5.0), (5.0, 0.2)])
async def test_a_handshake_that_never_ends_sent_nothing(
    client: Transport, monkeypatch: pytest.MonkeyPatch, connect: float, read: float
):
    monkeypatch.setattr(connections, "_CLOCKS", aiohttp.ClientTimeout(total=None, connect=connect))
    async with Upstream(stay_silent) as upstream:
        start = time.monotonic()
        with pytest.raises(NotSent):
            await client.post(f"https://{upstream.pair}/", headers={}, json={}, read_timeout=read)
        assert time.monotonic() - start < 1
        assert (upstream.connections, upstream.received) == (1, [])


@pytest.mark.parametrize("credential", ["sk-a\r\nX-Evil: 1", "sk-钥匙"])
async def test_a_credential_that_is_no_header_sent_nothing(credential: str):
    async with Upstream(say()) as upstream:
        client = Transport(allow=[upstream.pair])
        with pytest.raises(NotSent):
            await client.post(upstream.url, headers={"Authorization": credential}, json={}, read_timeout=5)
        await client.aclose()
        assert upstream.received == []


async def test_five_hundred_calls_are_held_at_once(client: Transport):
    everyone_is_here = asyncio.Event()

    async def hold(_: Received, writer: asyncio.StreamWriter) -> None:
        if len(upstream.received) == 500:
            everyone_is_here.set()
        await everyone_is_here.wait()
        await asyncio.sleep(0.2)
        writer.write(build_reply(b"{}"))

    async with Upstream(hold) as upstream:
        start = time.monotonic()
        replies = await asyncio.gather(
            *(client.post(upstream.url, headers=KEY, json={"n": n}, read_timeout=30) for n in range(500))
        )
        elapsed = time.monotonic() - start
    assert [reply.status for reply in replies] == [200] * 500
    assert (len(upstream.received), upstream.connections) == (500, 500)
    assert elapsed < 10


def test_the_default_transport_of_httpx_is_refused():
    with pytest.raises(RuntimeError, match="AsyncHTTPTransport cannot hold a thousand open calls"):
        Transport(build_wire=lambda check: httpx.AsyncHTTPTransport())


async def test_every_wire_verifies_certificates_and_knows_no_limit(client: Transport):
    assert set(client._wires) == set(Reach)
    for wire in client._wires.values():
        assert isinstance(wire, connections.Wire)
        assert isinstance(wire, AiohttpTransport)
        session = wire._open_session()
        assert isinstance(session.connector, connections.Connector)
        assert session.connector.limit == 0
        assert isinstance(session.connector._ssl, ssl.SSLContext)
        assert session.connector._ssl.verify_mode is ssl.CERT_REQUIRED
        await session.close()
