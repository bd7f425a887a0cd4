"""Which offers may serve a model, in which order, and why: priority first, then a draw by weight.

The order is drawn anew for every request from one immutable snapshot that all requests share.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType

from providers.models import Credential, Offer


@dataclass(frozen=True, slots=True)
class Route:
    """One offer with everything a submit needs; `options` is JSON text.

    It holds the credential's ciphertext: the secret is opened where the adapter is made.
    """

    offer_id: int
    channel_id: int
    channel_name: str
    kind: str
    base_url: str
    options: str = field(repr=False)
    credential_id: int
    ciphertext: str = field(repr=False)
    upstream_model: str
    shape: str
    max_n: int
    priority: int
    weight: int
    retry_billed: int
    cost_micros: int | None
    cost_currency: str


#: Routes by public model name, sorted by priority.
RoutingTable = Mapping[str, tuple[Route, ...]]


def load_routes() -> RoutingTable:
    """Read every offer that may be used now: two queries."""
    newest = newest_credentials()
    offers = (
        Offer.objects.filter(enabled=True, genuine=True, weight__gt=0, channel__enabled=True)
        .select_related("channel", "model")
        .order_by("priority", "id")
    )
    table: dict[str, tuple[Route, ...]] = {}
    for offer in offers:
        credential = newest.get(offer.channel_id)
        if credential is not None:
            table[offer.model.name] = (*table.get(offer.model.name, ()), make_route(offer, credential))
    return MappingProxyType(table)


def newest_credentials() -> dict[int, Credential]:
    """The last appended credential of every channel."""
    return {credential.channel_id: credential for credential in Credential.objects.order_by("id")}


def make_route(offer: Offer, credential: Credential) -> Route:
    return Route(
        offer_id=offer.pk,
        channel_id=offer.channel_id,
        channel_name=offer.channel.name,
        kind=offer.channel.kind,
        base_url=offer.channel.base_url,
        options=json.dumps(offer.channel.options, sort_keys=True),
        credential_id=credential.pk,
        ciphertext=credential.ciphertext,
        upstream_model=offer.upstream_model,
        shape=offer.shape,
        max_n=offer.max_n,
        priority=offer.priority,
        weight=offer.weight,
        retry_billed=offer.channel.retry_billed,
        cost_micros=offer.cost_micros,
        cost_currency=offer.cost_currency,
    )


def order_candidates(routes: Sequence[Route], *, draw: random.Random | None = None) -> tuple[Route, ...]:
    """Lower priority first; within one priority a weighted draw without replacement."""
    if len(routes) < 2:
        return tuple(routes)
    chance = (draw or random).random
    ordered: list[Route] = []
    for _, same in groupby(routes, key=lambda route: route.priority):
        # Efraimidis-Spirakis: sorting by u^(1/w) is a weighted sample without replacement.
        ordered += sorted(same, key=lambda route: chance() ** (1 / route.weight), reverse=True)
    return tuple(ordered)
