"""Every known way around a guard for outgoing calls, tried against this one."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from providers import connections
from providers.connections import NotSent
from providers.transport import FetchFailed, Transport
from tests.providers.names import PUBLIC, Names
from tests.providers.upstream import Upstream, say

PRIVATE = "127.0.0.1"
EVERYTHING_ELSE = (PRIVATE, "10.1.1.1", "169.254.169.254", "::1")


async def fetch(url: str, *, allow: tuple[str, ...] = (), source: str = "") -> bytes:
    client = Transport(allow=allow)
    try:
        return await client.fetch(url, max_bytes=1000, timeout=5, source=source)
    finally:
        await client.aclose()


async def refuse(url: str, **options: Any) -> str:
    """The words of a refusal that is final."""
    with pytest.raises(FetchFailed) as failed:
        await fetch(url, **options)
    assert failed.value.permanent
    return str(failed.value).removeprefix("egress refused: ")


# --- spellings ---

NO_ADDRESS, NO_HOST, USER, CONTROL = (
    "not a plain address",
    "not a host",
    "user information in the URL",
    "control characters in the URL",
)
SPELLINGS = {
    "decimal": ("https://2130706433/", NO_ADDRESS),
    "decimal of a metadata service": ("https://2852039166/latest/meta-data/", NO_ADDRESS),
    "octal": ("https://0177.0.0.1/", NO_ADDRESS),
    "octal, whole": ("https://017700000001/", NO_ADDRESS),
    "octal, padded": ("https://0000000177.0.0.1/", NO_ADDRESS),
    "hexadecimal": ("https://0x7f000001/", NO_ADDRESS),
    "hexadecimal, dotted": ("https://0x7f.0x0.0x0.0x1/", NO_ADDRESS),
    "hexadecimal, upper case": ("https://0X7F.1/", NO_ADDRESS),
    "hexadecimal, overflowing": ("https://0x1000000007f000001/", NO_ADDRESS),
    "mixed bases": ("https://0x7f.0.0.01/", NO_ADDRESS),
    "two parts": ("https://127.1/", NO_ADDRESS),
    "three parts": ("https://127.0.1/", NO_ADDRESS),
    "zero": ("https://0/", NO_ADDRESS),
    "five parts": ("https://127.0.0.0.1/", NO_ADDRESS),
    "trailing dot": ("https://127.0.0.1./", NO_ADDRESS),
    "two trailing dots": ("https://127.0.0.1../", NO_HOST),
    "trailing dots of a name": ("https://localhost../", NO_HOST),
    "leading dot": ("https://.localhost/", NO_HOST),
    "double dot": ("https://a..example/", NO_HOST),
    "ideographic full stops": ("https://127。0。0。1/", NO_HOST),
    "halfwidth full stops": ("https://127｡0｡0｡1/", NO_HOST),
    "fullwidth full stops": ("https://127．0．0．1/", NO_HOST),
    "fullwidth digits": ("https://１２７.０.０.１/", NO_HOST),
    "circled digits": ("https://①②⑦.⓪.⓪.①/", NO_HOST),
    "arabic digits": ("https://١٢٧.0.0.1/", NO_HOST),
    "circled letters": ("https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", NO_HOST),
    "soft hyphen": ("https://local\u00adhost/", NO_HOST),
    "zero-width space": ("https://local\u200bhost/", NO_HOST),
    "sharp s": ("https://straße.example/", NO_HOST),
    "percent-encoded dots": ("https://127%2e0%2e0%2e1/", NO_HOST),
    "percent-encoded name": ("https://%6c%6f%63alhost/", NO_HOST),
    "percent-encoded NUL": ("https://pictures.example%00.localhost/", NO_HOST),
    "percent-encoded slash": ("https://pictures.example%2f@localhost/", USER),
    "zone": ("https://[fe80::1%25eth0]/", "an address with a zone"),
    "zone, bare": ("https://[fe80::1%eth0]/", "an address with a zone"),
    "zone of the loopback": ("https://[::1%25lo]/", "an address with a zone"),
    "zone of a public address": ("https://[2400:3200::1%25eth0]/", "an address with a zone"),
    "short form within IPv6": ("https://[::ffff:127.1]/", NO_ADDRESS),
    "octal within IPv6": ("https://[::ffff:0177.0.0.1]/", NO_ADDRESS),
    "IPv6 without brackets": ("https://::1/", "not a URL"),
    "unclosed bracket": ("https://[::1/", "not a URL"),
    "text behind a bracket": ("https://[::1]pictures.example/", "not a URL"),
    "user": ("https://pictures.example@127.0.0.1/", USER),
    "user and password": ("https://pictures.example:443@127.0.0.1/", USER),
    "empty user": ("https://@127.0.0.1/", USER),
    "empty user and password": ("https://:@127.0.0.1/", USER),
    "two users": ("https://a@pictures.example@127.0.0.1/", USER),
    "user of a port": ("https://127.0.0.1:443@pictures.example/", USER),
    "nothing behind the user": ("https://pictures.example:443@/", "not an absolute URL"),
    "nothing behind a bracketed user": ("https://[::1]:443@/", "not a URL"),
    "backslash": ("https://pictures.example\\@127.0.0.1/", "not a URL"),
    "backslash behind the host": ("https://127.0.0.1\\.pictures.example/", "not a URL"),
    "backslashes for slashes": ("https:\\\\127.0.0.1\\", "not an absolute URL"),
    "line break": ("https://pictures.example/\r\nHost: 127.0.0.1", CONTROL),
    "line break in the host": ("https://pictures.example\r\n.localhost/", CONTROL),
    "line feed": ("https://pictures.example\n/", CONTROL),
    "tab": ("https://127.0.\t0.1/", CONTROL),
    "NUL": ("https://pictures.example\x00.localhost/", CONTROL),
    "blank": ("https://pictures.example 127.0.0.1/", NO_HOST),
    "line separator": ("https://pictures.example\u2028.localhost/", NO_HOST),
    "long host": (f"https://{'a.' * 200}example/", NO_HOST),
    "long label": (f"https://{'a' * 64}.example/", NO_HOST),
    "very long host": (f"https://{'a' * 1_000_000}/", NO_HOST),
    "no host": ("https:///etc/passwd", "not an absolute URL"),
    "no scheme": ("//127.0.0.1/", "not an absolute URL"),
    "one slash": ("https:/127.0.0.1/", "not an absolute URL"),
    "file": ("file:///etc/passwd", "not an absolute URL"),
    "file of a host": ("file://localhost/etc/passwd", "not an absolute URL"),
    "gopher": ("gopher://127.0.0.1:11211/_stats", "neither http nor https"),
    "ftp": ("ftp://127.0.0.1/", "neither http nor https"),
    "websocket": ("wss://127.0.0.1/", "neither http nor https"),
    "data": ("data:image/png;base64,AAAA", "not an absolute URL"),
    "plain http": ("http://pictures.example/", "only https on port 443"),
    "plain http on port 443": ("http://pictures.example:443/", "only https on port 443"),
    "another port": ("https://pictures.example:22/", "only https on port 443"),
    "port 0": ("https://pictures.example:0/", "only https on port 443"),
    "port out of range": ("https://pictures.example:65979/", "not a URL"),
    "fullwidth port": ("https://pictures.example:４４３/", "not a URL"),
    "signed port": ("https://pictures.example:+443/", "not a URL"),
    "port with an underscore": ("https://pictures.example:4_43/", "not a URL"),
}


@pytest.mark.parametrize(("url", "words"), SPELLINGS.values(), ids=SPELLINGS.keys())
async def test_no_spelling_is_read_as_something_else(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before any resolver could read it in its own way; for orders as for downloads."""
    names = Names(monkeypatch)
    assert await refuse(url) == words
    client = Transport()
    with pytest.raises(NotSent, match=f"^egress refused: {words}$"):
        await client.post(url, headers={}, json={}, read_timeout=5)
    await client.aclose()
    assert names.asked == []


ADDRESSES = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.0.0.1",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.0.1",
    "198.19.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", ADDRESSES)
async def test_no_address_but_a_public_one_is_connected_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written in the URL, and said by a resolver; the socket is never made."""
    names = Names(monkeypatch, pictures_example=[address])
    monkeypatch.setattr(socket, "socket", forbid)
    host = f"[{address}]" if ":" in address else address
    for url in (f"https://{host}/", "https://pictures.example/", "https://PICTURES.example:443/a.png"):
        assert await refuse(url) == "the address is not public"
    assert set(names.asked) == {"pictures.example"}


def forbid(*_: object, **__: object) -> None:
    raise AssertionError("a socket was made")


# --- names ---


async def test_a_name_that_changes_between_two_looks_is_looked_up_once(
    open_net: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that says a public address to whoever checks, and a private one to whoever connects."""
    names = Names(monkeypatch, rebinding_example=[[PUBLIC], [PRIVATE]])
    async with Upstream(say(b"picture"), host=PUBLIC) as outside, Upstream(say(), port=outside.port) as inside:
        assert await fetch(f"http://rebinding.example:{outside.port}/a.png") == b"picture"
        assert (names.asked, outside.connections, inside.connections) == (["rebinding.example"], 1, 0)


async def test_a_name_that_turns_private_later_is_refused_then(open_net: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was resolved before, or connected before, opens nothing: the address of each new connection is judged."""
    monkeypatch.setattr(connections, "DNS_CACHE_S", 0)
    names = Names(monkeypatch, rebinding_example=[[PUBLIC], [PRIVATE]])
    closing = say(b"picture", headers={"Connection": "close"})
    async with Upstream(closing, host=PUBLIC) as outside, Upstream(say(), port=outside.port) as inside:
        client = Transport()
        url = f"http://rebinding.example:{outside.port}/a.png"
        assert await client.fetch(url, max_bytes=1000, timeout=5) == b"picture"
        with pytest.raises(FetchFailed, match="the address is not public") as failed:
            await client.fetch(url, max_bytes=1000, timeout=5)
        await client.aclose()
        assert failed.value.permanent
        assert (len(names.asked), outside.connections, inside.connections) == (2, 1, 0)


@pytest.mark.parametrize("answer", [[PRIVATE, PUBLIC], [PUBLIC, PRIVATE], ["10.0.0.1", "::1", PUBLIC, PRIVATE]])
async def test_of_a_mixed_answer_only_the_public_part_is_used(
    open_net: None, monkeypatch: pytest.MonkeyPatch, answer: list[str]
) -> None:
    Names(monkeypatch, mixed_example=answer)
    async with Upstream(say(b"picture"), host=PUBLIC) as outside, Upstream(say(), port=outside.port) as inside:
        assert await fetch(f"http://mixed.example:{outside.port}/a.png") == b"picture"
        assert (outside.connections, inside.connections) == (1, 0)


async def test_of_a_mixed_answer_the_private_part_is_no_way_out(
    open_net: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public address refuses the connection, so that a client would try the next one."""
    Names(monkeypatch, mixed_example=[PUBLIC, PRIVATE])
    async with Upstream(say()) as inside:
        with pytest.raises(FetchFailed):
            await fetch(f"http://mixed.example:{inside.port}/a.png")
        assert inside.connections == 0


def test_the_loop_of_the_product_is_guarded_as_well(open_net: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop has a resolver and a connect of its own."""

    async def look(self: Any, host: str, port: int, family: int) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": PRIVATE, "port": port, "family": socket.AF_INET, "proto": 6, "flags": 0}]

    async def check() -> tuple[list[str], int]:
        async with Upstream(say()) as inside:
            hosts = ("private.example", PRIVATE, "[::1]", "localhost")
            words = [await refuse(f"http://{host}:{inside.port}/") for host in hosts]
            return words, inside.connections

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", look)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(check()) == (["the address is not public"] * 4, 0)


# --- whatever else ---

PIECES = st.sampled_from(
    [
        *("https://", "http://", "//", "\\\\", "@", ":", ":443", "/", "\\", "[", "]", "[::1]", "[::ffff:127.0.0.1]"),
        *("%", "%00", "%2e", "%25", ".", "。", "．．．..", "127.0.0.1", "127.1", "0x7f", "１", "①", "xn--", "xn--a"),
        *("localhost", "pictures.example", *"-_?#;&=~'\"<>{}|^`!$*+,()"),
    ]
)
URLS = st.one_of(
    st.text(max_size=60),
    st.lists(PIECES, max_size=12).map("".join),
    st.lists(st.one_of(PIECES, st.characters()), max_size=12).map(lambda pieces: "https://" + "".join(pieces)),
)


@given(url=URLS)
@example("https://[::ffff:127.1]:443@/../")
@example("https://1-2-3-4/")
@example("https://[v1.a]/")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_carrier_calls_a_url_no_connection_comes_of_it(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Every name there is has private addresses here. It ends as a failed download, and as an order that was not sent,
    whatever the parsers on the way make of it."""
    with monkeypatch.context() as patched:
        names = Names(patched)
        names.answers = AlwaysPrivate()
        with asyncio.Runner() as runner:
            runner.run(check_nothing_comes_of(url))


class AlwaysPrivate(dict[str, Any]):
    def get(self, key: str, default: Any = None) -> Any:
        return EVERYTHING_ELSE


async def check_nothing_comes_of(url: str) -> None:
    async with Upstream(say(b"internal")) as inside:
        client = Transport(allow=[inside.pair])
        with pytest.raises(FetchFailed):
            await client.fetch(url, max_bytes=1000, timeout=5)
        with pytest.raises(NotSent):
            await client.post(url, headers={}, json={}, read_timeout=5)
        await client.aclose()
        assert inside.connections == 0
