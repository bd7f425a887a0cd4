"""Where calls may go: which URLs are spoken to at all, and which addresses a socket may reach.

Two checks, since neither is enough alone. `Guard.judge` reads the URL; `Guard.check` sees the address that is about
to be connected to, so a name that resolves to something else a second time, or an odd spelling of an address,
arrives there too.

    EgressRefused       the URL or the address is not allowed; trying again cannot help
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Any
from urllib.parse import quote

from yarl import URL

from providers.allowance import normalise, read_allowance, type_of_address

#: What getaddrinfo returns: family, type, protocol, canonical name, socket address.
type_of_address_info = tuple[int, int, int, str, tuple[Any, ...]]
#: Raises EgressRefused for a numeric address and a port that no socket may connect to.
Check = Callable[[str, int], None]

# Python reads "+443" and "4_43" as numbers, too.
_HOST_AND_PORT = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]+)(?::[0-9]{0,5})?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LEGAL_ON_THE_WIRE = "".join(map(chr, range(0x21, 0x7F)))

# The IANA special-purpose registries. Written out because `ipaddress.is_global` changed its mind
# between patch releases of Python 3.11 and counts 192.88.99.0/24 (6to4 relays) as global.
_CLOSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; also Alibaba Cloud's metadata service, 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own services for a machine, at an address that looks like any other
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Everything public is inside 2000::/3. That leaves out ::, ::1, IPv4-mapped and -compatible, NAT64
# (64:ff9b::/96), unique local, link local, site local and multicast without naming them.
_PUBLIC_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4: carries an IPv4 address
        "3fff::/20",
    )
)


class EgressRefused(OSError):
    """Not a place this product talks to. The words never name the address: it may be an internal one."""


class Reach(Enum):
    """Which addresses a URL may turn out to have."""

    PUBLIC = "public ones"
    LISTED = "any: the allow-list names the host itself"
    INSIDE = "those of the networks in the allow-list"
    EITHER = "public ones and those of the networks"


class Guard:
    """The rule. `allow` holds the entries of EGRESS_ALLOW; raises ValueError for one that is wrong."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._allowance = read_allowance(allow)

    def judge(self, url: URL, *, stranger: bool = False) -> Reach:
        """What `url` may reach. For a URL that a `stranger` on the open net names there is no allow-list.

        Raises EgressRefused.
        """
        if url.scheme not in ("http", "https"):
            raise EgressRefused("egress refused: neither http nor https")
        if "@" in url.raw_authority:
            raise EgressRefused("egress refused: user information in the URL")
        host, port = read_host(url), url.port or 0
        listed, inside = (host, port) in self._allowance.pairs, port in self._allowance.networks
        usual = url.scheme == "https" and port == 443
        if stranger and (listed or (inside and not usual)):
            raise EgressRefused("egress refused: the open net names an allowed host")
        if listed:
            return Reach.LISTED
        if usual:
            return Reach.EITHER if inside and not stranger else Reach.PUBLIC
        if inside:
            return Reach.INSIDE
        raise EgressRefused("egress refused: only https on port 443")

    def check(self, reach: Reach, address: str, port: int) -> None:
        """Refuse a numeric address that is out of reach: asked for each one, just before connecting to it."""
        if reach is Reach.LISTED or (reach is not Reach.INSIDE and is_public(address)):
            return
        parsed = read_address(address)
        if reach is Reach.PUBLIC or parsed is None:
            raise EgressRefused("egress refused: the address is not public")
        if not self._allowance.holds(parsed, port):
            raise EgressRefused("egress refused: the address is in no allowed network")


def find_refusal(url: str, allow: Iterable[str]) -> str:
    """Why nothing reaches `url` as it stands here, whatever its name resolves to; empty where something may."""
    guard = Guard(allow)
    try:
        parsed = parse(url)
        reach, host = guard.judge(parsed), read_host(parsed)
        if read_address(host):
            guard.check(reach, host, parsed.port or 0)
    except EgressRefused as refused:
        return str(refused)
    return ""


def parse(url: str) -> URL:
    """The URL as it goes out, byte for byte: a signed query dies by the smallest re-encoding.

    Only what no request line can carry (blanks, non-ASCII) is percent-encoded. Raises EgressRefused for
    what is no absolute URL, so that the parser that judges is the one that connects.
    """
    if _CONTROL.search(url):
        raise EgressRefused("egress refused: control characters in the URL")
    try:
        parsed = URL(quote(url.strip(), safe=_LEGAL_ON_THE_WIRE), encoded=True)
        readable = parsed.absolute and bool(parsed.raw_host) and parsed.port is not None
    except (ValueError, IndexError) as error:  # yarl has an IndexError for an authority that ends in "@"
        raise EgressRefused("egress refused: not a URL") from error
    if not readable:
        raise EgressRefused("egress refused: not an absolute URL")
    if not _HOST_AND_PORT.fullmatch(parsed.raw_authority.rpartition("@")[2]):
        raise EgressRefused("egress refused: not a URL")
    return parsed


def read_host(url: URL) -> str:
    """The host in the one form in which it is compared. Raises EgressRefused."""
    try:
        return normalise(url.raw_host or "")
    except ValueError as error:
        raise EgressRefused(f"egress refused: {error}") from error


def open_socket(info: type_of_address_info, check: Check) -> socket.socket:
    """A socket for an address that has passed the check. Raises EgressRefused."""
    family, kind, protocol, _, address = info
    check(str(address[0]), int(address[1]))
    return socket.socket(family=family, type=kind, proto=protocol)


def is_public(address: str) -> bool:
    """Whether a numeric address is globally routable unicast. Anything that is no plain address is not."""
    parsed = read_address(address)
    if parsed is None:
        return False
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in _CLOSED_V4)
    return parsed in _PUBLIC_V6 and not any(parsed in network for network in _CLOSED_V6)


def read_address(address: str) -> type_of_address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None
