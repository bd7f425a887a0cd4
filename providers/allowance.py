"""What the operator opens beyond the open net: `EGRESS_ALLOW`, from the environment only, never from the admin.

    carrier.lan:9100  10.0.0.9:81  [fd00::9]:443     exactly this host, as URLs spell it, on this port
    10.20.0.0/16:8443  [fd00::/8]:443                every host on this port whose address, at the moment of
                                                     connecting, lies in the network
Both may be http or https.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

type_of_address = IPv4Address | IPv6Address
type_of_network = IPv4Network | IPv6Network

MAX_HOST_CHARACTERS = 253
_LABELS = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
# Decimal, octal, hexadecimal and shortened spellings of IPv4, which the C library resolves as addresses.
_NUMBERS = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]*|[0-9]+))*\.?")
# Unspecified, link-local and multicast addresses, and where clouds answer with a machine's own secrets: what
# somebody who lists a whole network does not mean. An exact pair may still name them.
_NEVER = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "192.0.0.192/32",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "fe80::/10",
        "ff00::/8",
    )
)


@dataclass(frozen=True, slots=True)
class Allowance:
    """Exact (host, port) pairs, and networks by port."""

    pairs: frozenset[tuple[str, int]] = frozenset()
    networks: Mapping[int, tuple[type_of_network, ...]] = field(default_factory=dict)

    def holds(self, address: type_of_address, port: int) -> bool:
        """Whether an address lies in one of the networks of this port."""
        return any(address in network for network in self.networks.get(port, ())) and not any(
            address in network for network in _NEVER
        )


def read_allowance(entries: Iterable[str]) -> Allowance:
    """Raises ValueError for an entry that is neither a pair nor a network with a port."""
    pairs: set[tuple[str, int]] = set()
    networks: dict[int, tuple[type_of_network, ...]] = {}
    for entry in entries:
        host, port = split_entry(entry)
        if "/" in host:
            networks[port] = (*networks.get(port, ()), read_network(host, entry))
        else:
            pairs.add((read_host(host, entry), port))
    return Allowance(frozenset(pairs), networks)


def split_entry(entry: str) -> tuple[str, int]:
    host, _, port = entry.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or (":" in host) != bracketed:
        raise ValueError(f"EGRESS_ALLOW: {entry!r} is neither host:port nor network:port")
    return host.strip("[]"), int(port)


def read_host(host: str, entry: str) -> str:
    try:
        return normalise(host)
    except ValueError as error:
        raise ValueError(f"EGRESS_ALLOW: {entry!r} is not host:port: {error}") from error


def read_network(text: str, entry: str) -> type_of_network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"EGRESS_ALLOW: {entry!r} is not network:port: {error}") from error
    if not network.prefixlen:
        raise ValueError(f"EGRESS_ALLOW: {entry!r} would open everything")
    return network


def normalise(host: str) -> str:
    """A host as it is compared: an address in its one canonical form, a name in lower case.

    Raises ValueError, without the host in its words, for whatever a resolver might read differently from us.
    """
    if ":" in host or _NUMBERS.fullmatch(host):
        if "%" in host:
            raise ValueError("an address with a zone")
        try:
            return str(ip_address(host))
        except ValueError:
            raise ValueError("not a plain address") from None
    if len(host) > MAX_HOST_CHARACTERS or not _LABELS.fullmatch(host):
        raise ValueError("not a host")
    return host.lower()
