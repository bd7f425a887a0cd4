from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
import tracemalloc
from typing import Any

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from providers.transport import FetchFailed, Transport
from tests.providers.upstream import (
    Answer,
    Received,
    Upstream,
    hang_up,
    say,
    stay_silent,
    stop_halfway,
)


async def fetch(upstream: Upstream, target: str = "/a.png", *, max_bytes: int = 1000, timeout: float = 5) -> bytes:
    client = Transport(allow=[upstream.pair])
    try:
        return await client.fetch(upstream.url + target, max_bytes=max_bytes, timeout=timeout)
    finally:
        await client.aclose()


async def test_a_download_shows_no_credential():
    async with Upstream(say(b"picture")) as upstream:
        assert await fetch(upstream) == b"picture"
    assert upstream.received[0].headers == {
        "host": upstream.pair,
        "user-agent": "image-client/1",
        "accept": "*/*",
        "accept-encoding": "identity",
    }


@pytest.mark.parametrize(
    "target",
    [
        "/1d/7f/a%2Fb%20c.png?Expires=1789&OSSAccessKeyId=LTAI5t&Signature=a%2Bb%2Fc%3D",
        "/a.png?Signature=x+y/z==&response-content-disposition=attachment%3B%20filename%3D%22a.png%22",
        "/a.png?z=1&a=2&a=1&&b",
        "/a/./b/../c//d.png?x=/../y",
        "/a.png?sig=%e4%bD%a0~!$'()*,;:@|{}[]\"^`<>",
        "/%41%7e.png?x=%41%7E%2D",
    ],
)
async def test_a_signed_url_goes_out_byte_for_byte(target: str):
    async with Upstream(say(b"picture")) as upstream:
        assert await fetch(upstream, target) == b"picture"
    assert upstream.received[0].target == target


async def test_only_what_no_request_line_can_carry_is_encoded():
    async with Upstream(say(b"picture")) as upstream:
        await fetch(upstream, "/图 1.png?a=%2F")
    assert upstream.received[0].target == "/%E5%9B%BE%201.png?a=%2F"


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        (400, True),
        (401, True),
        (403, True),
        (410, True),
        (404, False),
        (408, False),
        (429, False),
        (500, False),
        (503, False),
        (204, False),
        (302, False),
    ],
)
async def test_what_a_status_says_about_trying_again(status: int, permanent: bool):
    async with Upstream(say(status=status)) as upstream:
        with pytest.raises(FetchFailed, match=str(status)) as failed:
            await fetch(upstream)
    assert failed.value.permanent is permanent


@pytest.mark.parametrize("answer", [hang_up, stop_halfway], ids=["closed", "truncated"])
async def test_a_broken_download_may_be_tried_again(answer: Answer):
    async with Upstream(answer) as upstream:
        with pytest.raises(FetchFailed) as failed:
            await fetch(upstream)
    assert not failed.value.permanent


async def test_a_refused_connection_may_be_tried_again():
    async with Upstream(hang_up) as upstream:
        pass
    with pytest.raises(FetchFailed) as failed:
        await fetch(upstream)
    assert not failed.value.permanent


async def test_the_bytes_are_bounded():
    async with Upstream(say(b"x" * 1000)) as upstream:
        assert len(await fetch(upstream)) == 1000
    async with Upstream(say(b"x" * 1001)) as upstream:
        with pytest.raises(FetchFailed, match="too large") as failed:
            await fetch(upstream)
    assert failed.value.permanent


async def test_unannounced_bytes_are_bounded():
    async def pour(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    async with Upstream(pour) as upstream:
        with pytest.raises(FetchFailed, match="too large"):
            await fetch(upstream)


def pack(data: bytes) -> Answer:
    return say(gzip.compress(data, 9), headers={"Content-Encoding": "gzip"})


async def test_what_is_compressed_is_bounded_by_what_it_becomes():
    """A hundred megabytes of nothing are a hundred kilobytes on the wire."""
    async with Upstream(pack(b"x" * 1000)) as upstream:
        assert await fetch(upstream) == b"x" * 1000
    async with Upstream(pack(bytes(100_000_000))) as upstream:
        tracemalloc.start()
        with pytest.raises(FetchFailed, match="too large") as failed:
            await fetch(upstream, max_bytes=1_000_000)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert failed.value.permanent
    assert peak < 10_000_000


@pytest.mark.parametrize("cut", [-1, -8, 20])
async def test_half_of_what_is_compressed_is_no_picture(cut: int):
    packed = gzip.compress(bytes(range(256)) * 3)[:cut]
    async with Upstream(say(packed, headers={"Content-Encoding": "gzip"})) as upstream:
        with pytest.raises(FetchFailed, match="ends before its Content-Encoding does") as failed:
            await fetch(upstream)
    assert not failed.value.permanent


#: What comes without an end, and whether its size ends it or only the time.
FLOODS = {
    "a body of single bytes": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", "too large"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", "Too many headers"),
    "one header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"bbbbbbbb", "Got more than"),
    "a status line": (b"HTTP/1.1 200 ", b"OK OK OK", "Got more than"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n", "Too many headers"),
    "extensions of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"extended", "took too long"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "took too long"),
    "blank lines": (b"", b"\r\n\r\n\r\n\r\n", "took too long"),
}


@pytest.mark.parametrize(("head", "piece", "words"), FLOODS.values(), ids=FLOODS.keys())
async def test_no_flood_fills_the_memory(head: bytes, piece: bytes, words: str):
    async def flood(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece * 1000)
            await writer.drain()
            await asyncio.sleep(0.001)

    async with Upstream(flood) as upstream:
        tracemalloc.start()
        with pytest.raises(FetchFailed, match=words):
            await fetch(upstream, max_bytes=5000, timeout=1)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20_000_000


async def test_a_slow_drip_ends_at_the_time_limit():
    async def drip(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _sent in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with Upstream(drip) as upstream:
        with pytest.raises(FetchFailed, match="too long") as failed:
            await fetch(upstream, timeout=0.3)
        assert not failed.value.permanent
        assert len(upstream.received) == 1


async def test_a_resolver_that_never_answers_ends_at_the_time_limit(monkeypatch: pytest.MonkeyPatch):
    released = threading.Event()

    def resolve(*_: object, **__: object) -> list[Any]:
        released.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    client = Transport()
    with pytest.raises(FetchFailed, match="too long"):
        await client.fetch("https://slow.example/", max_bytes=1000, timeout=0.2)
    released.set()
    await client.aclose()


async def test_the_time_is_bounded_over_all_hops():
    async def delay(request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.15)
        await say(status=302, headers={"Location": "/next"})(request, writer)

    for answer in (delay, stay_silent):
        async with Upstream(answer) as upstream:
            start = time.monotonic()
            with pytest.raises(FetchFailed, match="too long") as failed:
                await fetch(upstream, timeout=0.25)
            assert time.monotonic() - start < 1
            assert not failed.value.permanent


def redirect_to(location: str, *, times: int) -> Answer:
    hops = 0

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal hops
        hops += 1
        await (say(status=302, headers={"Location": location}) if hops <= times else say(b"end"))(request, writer)

    return answer


async def test_three_redirects_are_followed_and_no_fourth():
    async with Upstream(redirect_to("/signed%2F?s=a+b", times=3)) as upstream:
        assert await fetch(upstream) == b"end"
        assert [request.target for request in upstream.received] == ["/a.png"] + ["/signed%2F?s=a+b"] * 3
    async with Upstream(redirect_to("/on", times=4)) as upstream:
        with pytest.raises(FetchFailed, match="too often") as failed:
            await fetch(upstream)
        assert failed.value.permanent
        assert len(upstream.received) == 4


async def test_a_loop_of_redirects_has_an_end():
    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        there = "/b" if request.target == "/a" else "/a"
        await say(status=301, headers={"Location": there})(request, writer)

    async with Upstream(answer) as upstream:
        with pytest.raises(FetchFailed, match="too often") as failed:
            await fetch(upstream, "/a")
        assert failed.value.permanent
        assert [request.target for request in upstream.received] == ["/a", "/b", "/a", "/b"]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/",
        "https://127.0.0.1/latest/meta-data",
        "//127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://2130706433/",
        "http://169.254.169.254/latest/meta-data",
        "https://100.100.100.200/latest/meta-data",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "https://user:pass@carrier.example/",
        "http://carrier.example/a.png",
        "https://carrier.example:8443/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://[fd00:ec2::254]/latest/meta-data",
        "https://[::ffff:169.254.169.254]/latest/meta-data",
        "https://[64:ff9b::a9fe:a9fe]/latest/meta-data",
        "HTTPS://127.0.0.1/",
        "https:\\\\127.0.0.1/",
        "https://[127.0.0.1/",
        "//[/",
        "https://127。0。0。1/",
        "https://１２７.0.0.1/",
        "ftp://carrier.example/a.png",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
    ],
)
async def test_a_redirect_to_where_nobody_may_go_is_refused(location: str):
    async with Upstream(redirect_to(location, times=1)) as upstream:
        with pytest.raises(FetchFailed, match="egress refused") as failed:
            await fetch(upstream)
        assert failed.value.permanent
        assert len(upstream.received) == 1


@pytest.mark.parametrize(
    "location", ["///169.254.169.254/", "\\\\169.254.169.254/", "\\/169.254.169.254", "/\\x.example"]
)
async def test_what_only_a_browser_takes_for_another_host_is_a_path(location: str):
    async with Upstream(redirect_to(location, times=1)) as upstream:
        assert await fetch(upstream) == b"end"
        assert [request.headers["host"] for request in upstream.received] == [upstream.pair] * 2


class PublicHost(AiohttpTransport):
    """A host of the open net that redirects; the real one is out of reach here."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self._location = location

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": self._location}, content=b"")


async def test_the_open_net_cannot_redirect_into_the_allowed_hosts():
    async with Upstream(say(b"internal")) as upstream:
        target = f"{upstream.url}/internal"

        client = Transport(allow=[upstream.pair], build_wire=lambda check: PublicHost(target))
        with pytest.raises(FetchFailed, match="the open net names an allowed host") as failed:
            await client.fetch("https://pictures.example/a.png", max_bytes=1000, timeout=5)
        await client.aclose()
        assert failed.value.permanent
        assert upstream.received == []
