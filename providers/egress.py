"""Where calls may go: which URLs are spoken to at all, and which addresses a socket may reach.

Two checks, since neither is enough alone. `Guard.judge` reads the URL; `open_public_socket` sees the
address that is about to be connected to, so a name that resolves to something else a second time, or an
odd spelling of an address, arrives there too.

    EgressRefused       the URL or the address is not allowed; trying again cannot help
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Any
from urllib.parse import quote

from yarl import URL

#: What getaddrinfo returns: family, type, protocol, canonical name, socket address.
type_of_address_info = tuple[int, int, int, str, tuple[Any, ...]]

_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")
# Decimal, octal, hexadecimal and shortened spellings of IPv4, which the C library resolves as addresses.
_NUMBERS = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]*|[0-9]+))*\.?")
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


class Guard:
    """The rule for URLs. `allow` holds exact `host:port` pairs (IPv6 in brackets) that bypass it.

    Raises ValueError for an entry that is not such a pair.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._allow = frozenset(_read_pair(entry) for entry in allow)

    def judge(self, url: URL) -> bool:
        """Whether the address behind `url` must be checked too. Raises EgressRefused."""
        if url.scheme not in ("http", "https"):
            raise EgressRefused("egress refused: neither http nor https")
        if url.raw_user is not None or url.raw_password is not None:
            raise EgressRefused("egress refused: user information in the URL")
        host, port = _normalise(url.raw_host or ""), url.port
        if port is not None and (host, port) in self._allow:
            return False
        if url.scheme != "https" or port != 443:
            raise EgressRefused("egress refused: only https on port 443")
        return True


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
    except ValueError as error:
        raise EgressRefused("egress refused: not a URL") from error
    if not readable:
        raise EgressRefused("egress refused: not an absolute URL")
    return parsed


def open_public_socket(info: type_of_address_info) -> socket.socket:
    """A socket for an address that is publicly routable; called for each address just before connecting."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise EgressRefused("egress refused: the address is not public")
    return socket.socket(family=family, type=kind, proto=protocol)


def is_public(address: str) -> bool:
    """Whether a numeric address is globally routable unicast. Anything that is no plain address is not."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in _CLOSED_V4)
    return parsed in _PUBLIC_V6 and not any(parsed in network for network in _CLOSED_V6)


def _read_pair(entry: str) -> tuple[str, int]:
    host, _, port = entry.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or (":" in host) != bracketed:
        raise ValueError(f"EGRESS_ALLOW: {entry!r} is not host:port")
    try:
        return _normalise(host.strip("[]")), int(port)
    except EgressRefused as error:
        raise ValueError(f"EGRESS_ALLOW: {entry!r} is not host:port") from error


def _normalise(host: str) -> str:
    if ":" in host or _NUMBERS.fullmatch(host):
        try:
            address = ip_address(host)
        except ValueError as error:
            raise EgressRefused("egress refused: not a plain address") from error
        if "%" in host:
            raise EgressRefused("egress refused: an address with a zone")
        return str(address)
    if not _HOST_NAME.fullmatch(host):
        raise EgressRefused("egress refused: not a host")
    return host.lower()
