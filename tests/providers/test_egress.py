from __future__ import annotations

import socket
from functools import partial
from typing import Any

import aiohttp
import httpx
import pytest

from providers.connections import NotSent, Wire, find_refusal
from providers.egress import EgressRefused, Guard, Reach, is_public, open_socket, parse
from providers.transport import FetchFailed, Transport
from tests.providers.upstream import Upstream, say

CHECK = partial(Guard().check, Reach.PUBLIC)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "localhost",
        "",
        "127.1",
        "2130706433",
    ],
)
def test_an_address_that_is_not_public(address: str):
    assert not is_public(address)
    with pytest.raises(EgressRefused, match="the address is not public"):
        open_socket((socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 443)), CHECK)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "47.91.1.1", "100.63.255.255", "172.32.0.1", "192.169.0.1", "2400:3200::1", "2606:4700::1111"],
)
def test_an_address_that_is_public(address: str):
    assert is_public(address)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with open_socket((family, socket.SOCK_STREAM, 6, "", (address, 443)), CHECK) as opened:
        assert (opened.family, opened.type) == (family, socket.SOCK_STREAM)


@pytest.mark.parametrize(
    "url",
    [
        "http://carrier.example/",
        "https://carrier.example:8443/",
        "https://user@carrier.example/",
        "https://:pass@carrier.example/",
        "ftp://carrier.example/",
        "https://carrier_.exa%6dple/",
        "https://①②⑦.0.0.1/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://2130706433/",
        "https://127.0.0.1./",
        "https://[::1%25lo]/",
        "http://127.0.0.1:8001/",
        "http://localhost:8000/",
        "http://simulator:9000/",
        "/relative",
        "https:///path",
        "https://carrier.example:99999/",
        "https://carrier.example/\r\nX-Evil: 1",
        "https://carrier.example\\@127.0.0.1/",
        "",
    ],
)
def test_a_url_nobody_speaks_to(url: str):
    guard = Guard(["127.0.0.1:8000", "simulator:9001"])
    with pytest.raises(EgressRefused, match="egress refused"):
        guard.judge(parse(url))


ALLOWED = ["127.0.0.1:8000", "simulator:9001", "[::1]:7000", "10.20.0.0/16:8443", "[fd00::/8]:443", "10.0.0.9:443"]


@pytest.mark.parametrize(
    ("url", "reach", "for_strangers"),
    [
        ("https://dashscope.aliyuncs.com/api/v1", Reach.EITHER, Reach.PUBLIC),
        ("https://DashScope.aliyuncs.com:443/api/v1", Reach.EITHER, Reach.PUBLIC),
        ("https://8.8.8.8/", Reach.EITHER, Reach.PUBLIC),
        ("https://[fd00::1]/", Reach.EITHER, Reach.PUBLIC),
        ("https://127.0.0.1/", Reach.EITHER, Reach.PUBLIC),
        ("http://127.0.0.1:8000/", Reach.LISTED, None),
        ("https://127.0.0.1:8000/", Reach.LISTED, None),
        ("https://10.0.0.9/", Reach.LISTED, None),
        ("http://Simulator:9001/", Reach.LISTED, None),
        ("http://[0:0:0:0:0:0:0:1]:7000/", Reach.LISTED, None),
        ("http://carrier.lan:8443/", Reach.INSIDE, None),
        ("https://8.8.8.8:8443/", Reach.INSIDE, None),
        ("http://carrier.example:443/", Reach.INSIDE, None),
        ("http://carrier.example/", None, None),
        ("https://carrier.example:8000/", None, None),
    ],
)
def test_what_a_url_may_reach(url: str, reach: Reach | None, for_strangers: Reach | None):
    guard = Guard(ALLOWED)
    assert (judge(guard, url), judge(guard, url, stranger=True)) == (reach, for_strangers)


def judge(guard: Guard, url: str, **options: Any) -> Reach | None:
    try:
        return guard.judge(parse(url), **options)
    except EgressRefused:
        return None


def test_without_networks_nothing_but_the_open_net_is_behind_a_name():
    guard = Guard(["127.0.0.1:8000"])
    assert guard.judge(parse("https://carrier.example/")) is Reach.PUBLIC


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "localhost", "0.0.0.0", "10.0.0.1"],
)
async def test_no_socket_reaches_a_private_address(host: str):
    client = Transport()
    with pytest.raises(NotSent, match=r"^egress refused: the address is not public$"):
        await client.post(f"https://{host}/", headers={}, json={}, read_timeout=5)
    await client.aclose()


async def test_a_name_is_judged_by_the_address_it_has_when_connecting(monkeypatch: pytest.MonkeyPatch):
    async def resolve(_: Any, host: str, port: int, family: int) -> list[dict[str, Any]]:
        addresses = ("127.0.0.1", "10.1.1.1", "::1")
        return [
            {"hostname": host, "host": address, "port": port, "family": family_of(address), "proto": 6, "flags": 0}
            for address in addresses
        ]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    client = Transport()
    with pytest.raises(NotSent, match="the address is not public"):
        await client.post("https://rebinding.example/", headers={}, json={}, read_timeout=5)
    with pytest.raises(FetchFailed, match="the address is not public") as failed:
        await client.fetch("https://rebinding.example/", max_bytes=10, timeout=5)
    assert failed.value.permanent
    await client.aclose()


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def test_a_guarded_wire_opens_no_connection_to_a_live_private_server():
    async with Upstream(say(b"internal")) as upstream:
        wire = Wire(check=CHECK)
        request = httpx.Request("GET", upstream.url, extensions={"target": parse(upstream.url), "body": None})
        with pytest.raises(NotSent) as refused:
            await wire.handle_async_request(request)
        await wire.aclose()
        assert isinstance(find_refusal(refused.value), EgressRefused)
        assert upstream.connections == 0
