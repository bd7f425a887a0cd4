"""Limits that need no counter: which models, from which networks. Pure; what counts stands in `ledger.gates`.

InvalidLimit        text that names no model of ours, or no network
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

#: A list that a form takes; a request is compared with each.
MOST_NETWORKS = 100
_SEPARATORS = re.compile(r"[\s,;]+")
_MAPPED = IPv6Network("::ffff:0:0/96")


class InvalidLimit(ValueError):
    """Not a list of models or networks; says which part is wrong."""


def allows_model(allowed: frozenset[str] | None, name: str) -> bool:
    """None allows every model."""
    return allowed is None or name in allowed


def intersect_models(*lists: Sequence[str]) -> frozenset[str] | None:
    """What is allowed by every list; an empty list allows everything, and so does None."""
    sets = [frozenset(names) for names in lists if names]
    return frozenset.intersection(*sets) if sets else None


def allows_network(groups: Iterable[Sequence[Network]], address: str) -> bool:
    """Whether the address lies in a network of each group; no group allows any address.

    An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is the IPv4 address. What is no address lies nowhere.
    """
    groups = tuple(groups)
    if not groups:
        return True
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return all(any(found in network for network in group) for group in groups)


def group_networks(*lists: Sequence[str]) -> tuple[tuple[Network, ...], ...]:
    """Stored networks as `allows_network` takes them: a group for each list that is not empty."""
    return tuple(read_networks(tuple(names)) for names in lists if names)


@lru_cache(maxsize=4096)
def read_networks(names: tuple[str, ...]) -> tuple[Network, ...]:
    """What cannot be read is left out and allows nobody: one broken row must not stop every customer."""
    networks = []
    for name in names:
        try:
            networks.append(read_network(str(name)))
        except ValueError:
            continue
    return tuple(networks)


def read_network(text: str) -> Network:
    """A network, or an address as the smallest one; IPv4 written as IPv6 becomes IPv4."""
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def parse_networks(text: str) -> list[str]:
    """`"203.0.113.0/24, 2001:db8::1"` -> networks as they are stored, each once, in the order given."""
    names: dict[str, None] = {}
    for part in split(text):
        try:
            names[str(read_network(part))] = None
        except ValueError as error:
            raise InvalidLimit(explain_network(part, error)) from None
    if len(names) > MOST_NETWORKS:
        raise InvalidLimit(f"{len(names)} networks are too many: at most {MOST_NETWORKS}")
    return list(names)


def explain_network(part: str, error: ValueError) -> str:
    try:
        meant = ip_network(part, strict=False)
    except ValueError:
        return f"{part!r} is not a network: write one like 203.0.113.0/24, or an address like 203.0.113.7"
    return f"{part!r} is an address with a prefix, not a network: is it {meant}, or the address alone? ({error})"


def parse_models(text: str, known: Collection[str]) -> list[str]:
    """`"qwen-image-max, qwen-image-plus"` -> names as they are stored, each once, in the order given."""
    names = list(dict.fromkeys(split(text)))
    if unknown := [name for name in names if name not in known]:
        raise InvalidLimit(f"there is no model {unknown[0]!r}: there are {', '.join(sorted(known)) or 'none yet'}")
    return names


def split(text: str) -> list[str]:
    return [part for part in _SEPARATORS.split(text) if part]
