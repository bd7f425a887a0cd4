"""EGRESS_ALLOW: exact hosts, and networks that are checked against the address at the moment of connecting."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from providers.allowance import Allowance, read_allowance
from providers.connections import NotSent
from providers.egress import EgressRefused, Guard, Reach
from providers.transport import FetchFailed, Transport
from tests.providers.names import PUBLIC, Names
from tests.providers.upstream import Answer, Upstream, say


def test_what_an_allowance_says() -> None:
    entries = [
        "Simulator:9100",
        " 10.0.0.9:81",
        "[FD00::9]:443",
        "10.20.0.0/16:8443",
        "[fd00::/8]:8443",
        "10.2.0.0/15:1",
    ]
    assert read_allowance(entries) == Allowance(
        pairs=frozenset({("simulator", 9100), ("10.0.0.9", 81), ("fd00::9", 443)}),
        networks={8443: (ip_network("10.20.0.0/16"), ip_network("fd00::/8")), 1: (ip_network("10.2.0.0/15"),)},
    )


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("simulator", "neither host:port nor network:port"),
        ("simulator:", "neither host:port nor network:port"),
        (":80", "neither host:port nor network:port"),
        ("", "neither host:port nor network:port"),
        ("http://simulator:80", "neither host:port nor network:port"),
        ("::1:80", "neither host:port nor network:port"),
        ("a:0", "neither host:port nor network:port"),
        ("a:65536", "neither host:port nor network:port"),
        ("a:٣", "neither host:port nor network:port"),
        ("10.0.0.0/8", "neither host:port nor network:port"),
        ("fd00::/8:443", "neither host:port nor network:port"),
        ("127.1:80", "is not host:port: not a plain address"),
        ("[fe80::1%eth0]:80", "is not host:port: an address with a zone"),
        ("10.20.1.0/16:80", "has host bits set"),
        ("10.20.0.0/33:80", "is not network:port"),
        ("carrier.lan/16:80", "is not network:port"),
        ("0.0.0.0/0:443", "would open everything"),
        ("[::/0]:443", "would open everything"),
    ],
)
def test_an_entry_that_is_neither_is_refused(entry: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        Guard([entry])
    assert str(refused.value).startswith(f"EGRESS_ALLOW: {entry!r} ")


def test_a_wrong_entry_stops_every_process_at_its_start(settings: Any) -> None:
    settings.EGRESS_ALLOW = ["10.0.0.0/8:443", "10.0.0.0/8"]
    with pytest.raises(ImproperlyConfigured, match=r"EGRESS_ALLOW: '10\.0\.0\.0/8' is neither"):
        apps.get_app_config("providers").ready()


@pytest.mark.parametrize(
    ("address", "port", "holds"),
    [
        ("10.20.0.1", 8443, True),
        ("10.20.255.255", 8443, True),
        ("10.21.0.0", 8443, False),
        ("10.20.0.1", 443, False),
        ("10.20.0.1", 8080, False),
        ("::ffff:10.20.0.1", 8443, False),
        ("64:ff9b::a14:1", 8443, False),
        ("fd12::1", 443, True),
        ("fd12::1", 8443, False),
        ("fe80::1", 443, False),
        ("100.64.0.1", 80, True),
        ("100.100.100.200", 80, False),
        ("fd00:ec2::254", 443, False),
        ("fd20:ce::254", 443, False),
        ("169.254.169.254", 80, False),
        ("0.0.0.0", 80, False),
    ],
)
def test_what_a_network_holds(address: str, port: int, holds: bool) -> None:
    """Where a cloud tells a machine its secrets is in no network, however wide."""
    entries = ["10.20.0.0/16:8443", "[fd00::/8]:443", "100.64.0.0/10:80", "128.0.0.0/1:80", "0.0.0.0/1:80"]
    assert read_allowance(entries).holds(ip_address(address), port) is holds


@pytest.mark.parametrize(
    ("reach", "address", "words"),
    [
        (Reach.PUBLIC, "8.8.8.8", ""),
        (Reach.PUBLIC, "10.20.0.1", "the address is not public"),
        (Reach.EITHER, "8.8.8.8", ""),
        (Reach.EITHER, "10.20.0.1", ""),
        (Reach.EITHER, "10.21.0.1", "the address is in no allowed network"),
        (Reach.EITHER, "localhost", "the address is not public"),
        (Reach.INSIDE, "8.8.8.8", "the address is in no allowed network"),
        (Reach.INSIDE, "10.20.0.1", ""),
        (Reach.LISTED, "169.254.169.254", ""),
    ],
)
def test_which_addresses_are_within_reach(reach: Reach, address: str, words: str) -> None:
    guard = Guard(["10.20.0.0/16:443"])
    if not words:
        guard.check(reach, address, 443)
        return
    with pytest.raises(EgressRefused, match=f"^egress refused: {words}$"):
        guard.check(reach, address, 443)


# --- over sockets ---


async def fetch(url: str, *, allow: list[str], source: str = "") -> bytes:
    client = Transport(allow=allow)
    try:
        return await client.fetch(url, max_bytes=1000, timeout=5, source=source)
    finally:
        await client.aclose()


async def refuse(url: str, **options: Any) -> str:
    with pytest.raises(FetchFailed, match="egress refused") as failed:
        await fetch(url, **options)
    assert failed.value.permanent
    return str(failed.value).removeprefix("egress refused: ")


async def test_a_name_is_allowed_where_it_resolves_into_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, carrier_lan=["127.0.0.1"], elsewhere_lan=["10.1.1.1"], open_example=["8.8.8.8"])
    async with Upstream(say(b"picture")) as upstream, Upstream(say(b"other")) as other:
        allow = [f"127.0.0.0/8:{upstream.port}"]
        for host in ("127.0.0.1", "carrier.lan", "Carrier.LAN"):
            assert await fetch(f"http://{host}:{upstream.port}/", allow=allow) == b"picture"
        assert await refuse(f"http://carrier.lan:{other.port}/", allow=allow) == "only https on port 443"
        for host in ("elsewhere.lan", "open.example", "10.1.1.1", "[::1]"):
            assert (
                await refuse(f"http://{host}:{upstream.port}/", allow=allow) == "the address is in no allowed network"
            )
        assert (upstream.connections, other.connections) == (3, 0)
    assert names.asked == ["carrier.lan", "carrier.lan", "elsewhere.lan", "open.example"]


async def test_an_order_goes_into_the_network_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, carrier_lan=["127.0.0.1"], elsewhere_lan=["10.1.1.1"])
    async with Upstream(say(b"{}")) as upstream:
        client = Transport(allow=[f"127.0.0.0/8:{upstream.port}"])
        url = f"http://carrier.lan:{upstream.port}/order"
        assert (await client.post(url, headers={}, json={}, read_timeout=5)).status == 200
        with pytest.raises(NotSent, match="the address is in no allowed network"):
            await client.post(url.replace("carrier", "elsewhere"), headers={}, json={}, read_timeout=5)
        await client.aclose()
        assert [request.target for request in upstream.received] == ["/order"]


async def test_an_exact_pair_is_that_host_and_no_other_name_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, carrier_lan=["127.0.0.1"])
    async with Upstream(say(b"picture")) as upstream:
        assert await fetch(upstream.url, allow=[upstream.pair]) == b"picture"
        url = f"http://carrier.lan:{upstream.port}/"
        assert await refuse(url, allow=[upstream.pair]) == "only https on port 443"
        assert await fetch(url, allow=[f"carrier.lan:{upstream.port}"]) == b"picture"
        assert await refuse(upstream.url, allow=[f"carrier.lan:{upstream.port}"]) == "only https on port 443"


# --- the open net and the allow-list ---


def redirect(location: str) -> Answer:
    return say(status=302, headers={"Location": location})


NAMED_BY_A_STRANGER = "the open net names an allowed host"


async def test_the_open_net_redirects_only_within_itself(open_net: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to a host that is listed, and not to a name that turns out to be in an allowed network."""
    Names(monkeypatch, carrier_lan=["127.0.0.1"], pictures_example=[PUBLIC])
    async with Upstream(say(b"internal")) as inside, Upstream(say(b"picture"), host=PUBLIC) as outside:
        targets = {
            outside.url: "",
            f"http://pictures.example:{outside.port}/": "",
            inside.url: NAMED_BY_A_STRANGER,
            f"http://carrier.lan:{inside.port}/": "the address is not public",
        }
        allow = [inside.pair, "127.0.0.0/8:443"]
        for target, words in targets.items():
            async with Upstream(redirect(target), host=PUBLIC) as first:
                url = f"http://pictures.example:{first.port}/"
                if words:
                    assert await refuse(url, allow=allow) == words
                else:
                    assert await fetch(url, allow=allow) == b"picture"
        assert inside.connections == 0


async def test_what_is_inside_redirects_anywhere_and_never_back(
    open_net: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, carrier_lan=["127.0.0.1"], files_lan=["127.0.0.1"])
    allow = ["127.0.0.1/32:443"]
    async with Upstream(say(b"picture")) as inside, Upstream(say(b"open"), host=PUBLIC) as outside:
        way = f"http://files.lan:{inside.port}/"
        async with Upstream(redirect(way)) as first:
            assert await fetch(f"http://carrier.lan:{first.port}/", allow=allow) == b"picture"
        async with Upstream(redirect(outside.url)) as first:
            assert await fetch(f"http://carrier.lan:{first.port}/", allow=allow) == b"open"
        async with Upstream(redirect(way), host=PUBLIC) as second, Upstream(redirect(second.url)) as first:
            words = await refuse(f"http://carrier.lan:{first.port}/", allow=allow)
        assert (words, inside.connections, outside.connections) == ("the address is not public", 1, 1)


async def test_a_connection_that_stands_opens_nothing_to_a_stranger(
    open_net: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allowed host was spoken to a moment ago, and its connection is kept."""
    Names(monkeypatch, carrier_lan=["127.0.0.1"])
    async with Upstream(say(b"internal")) as inside:
        url = f"http://carrier.lan:{inside.port}/"
        async with Upstream(redirect(url), host=PUBLIC) as outside:
            client = Transport(allow=["127.0.0.1/32:443"])
            assert await client.fetch(url, max_bytes=1000, timeout=5) == b"internal"
            with pytest.raises(FetchFailed, match="the address is not public"):
                await client.fetch(outside.url, max_bytes=1000, timeout=5)
            await client.aclose()
        assert len(inside.received) == 1


async def test_a_carrier_on_the_open_net_names_nothing_inside(open_net: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL of a picture is the carrier's word, as a redirect is."""
    Names(monkeypatch, carrier_lan=["127.0.0.1"], carrier_example=[PUBLIC])
    async with Upstream(say(b"internal")) as inside, Upstream(say(b"picture"), host=PUBLIC) as outside:
        allow = [inside.pair, "127.0.0.0/8:443"]
        source = f"http://carrier.example:{outside.port}/api/v1"
        assert await fetch(outside.url, allow=allow, source=source) == b"picture"
        assert await refuse(inside.url, allow=allow, source=source) == NAMED_BY_A_STRANGER
        named = f"http://carrier.lan:{inside.port}/"
        assert await refuse(named, allow=allow, source=source) == "the address is not public"
        assert await refuse(inside.url, allow=allow, source="not a URL") == NAMED_BY_A_STRANGER
        assert inside.connections == 0


async def test_a_carrier_inside_names_what_is_inside(open_net: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is listed from the start; one in a network once it has answered from there."""
    Names(monkeypatch, carrier_lan=["127.0.0.1"])
    async with Upstream(say(b"picture")) as inside:
        client = Transport(allow=[inside.pair, "127.0.0.0/8:443"])
        assert await client.fetch(inside.url, max_bytes=1000, timeout=5, source=f"{inside.url}/v1") == b"picture"
        base = f"http://carrier.lan:{inside.port}/v1"
        with pytest.raises(FetchFailed, match=NAMED_BY_A_STRANGER):
            await client.fetch(inside.url, max_bytes=1000, timeout=5, source=base)
        await client.get(f"{base}/tasks/1", headers={}, read_timeout=5)
        assert await client.fetch(inside.url, max_bytes=1000, timeout=5, source=base) == b"picture"
        await client.aclose()


async def test_a_carrier_on_an_allowed_port_is_inside() -> None:
    async with Upstream(say(b"picture")) as upstream:
        allow = [f"127.0.0.1/32:{upstream.port}"]
        assert await fetch(upstream.url, allow=allow, source=f"{upstream.url}/v1") == b"picture"
