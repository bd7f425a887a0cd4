"""Which offers may serve a request, in which order, and why not the others: priority first, then a draw by weight.

One immutable table is shared by all requests of a process; each of them draws its own order from it. Whether there is
room is not asked here: `capacity` knows it, and only inside the transaction that takes it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType

from django.db.models import F

from models_registry.catalog import parse_stored_size
from providers.adapters import get_adapter_class
from providers.models import Capacity, Credential, Offer, OfferHealth

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Route:
    """One offer with everything a submit needs; `options` is JSON text.

    It holds the credential's ciphertext: the secret is opened where the adapter is made. `capacity_id` is None where
    no limit is known, `cooling_until` is in epoch seconds.
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
    account_id: int | None = None
    polls_per_s: int | None = None
    capacity_id: int | None = None
    sizes: frozenset[Size] = frozenset()
    unsupported: frozenset[str] = frozenset()
    canary_percent: int | None = None
    shadow_percent: int | None = None
    shadow_per_day: int = 0
    circuit: str = OfferHealth.Circuit.CLOSED
    cooling_until: float = 0.0
    latency_ms: int = 0


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An offer for the model that cannot serve, and why, in words for an operator."""

    offer_id: int
    channel_name: str
    why: str


@dataclass(frozen=True, slots=True)
class Listing:
    """All offers for one model: those in service by priority, those that are not, and those on trial as shadows."""

    routes: tuple[Route, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    shadows: tuple[Route, ...] = ()

    def find(self, offer_id: int) -> Route | None:
        """The offer, if it is in service."""
        return next((route for route in self.routes if route.offer_id == offer_id), None)


#: By public model name.
RoutingTable = Mapping[str, Listing]
NOTHING = Listing()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request needs of an offer: the size to render, and the optional fields that must be passed on."""

    size: Size
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """Who may serve, the first choice first, and who may not. `cooling` is offer id -> epoch seconds until which."""

    candidates: tuple[Route, ...]
    excluded: tuple[Exclusion, ...] = ()
    cooling: Mapping[int, float] = field(default_factory=dict)


def load_routes() -> RoutingTable:
    """Read every offer there is: three queries."""
    newest = newest_credentials()
    capacities = {
        (account, model): pk
        for account, model, pk in Capacity.objects.values_list("account_id", "upstream_model", "pk")
    }
    offers = (
        Offer.objects.select_related("channel", "channel__account", "health")
        .annotate(model_name=F("model__name"))
        .order_by("priority", "id")
    )
    routes: dict[str, list[Route]] = {}
    shadows: dict[str, list[Route]] = {}
    excluded: dict[str, list[Exclusion]] = {}
    for offer in offers:
        name = offer.model_name
        credential = newest.get(offer.channel_id)
        why = find_exclusion(offer, credential)
        if why or credential is None:
            excluded.setdefault(name, []).append(Exclusion(offer.pk, offer.channel.name, why))
            continue
        route = make_route(offer, credential, find_capacity(offer, capacities))
        if offer.shadow_percent is None:
            routes.setdefault(name, []).append(route)
        else:
            shadows.setdefault(name, []).append(route)
            excluded.setdefault(name, []).append(Exclusion(offer.pk, offer.channel.name, "a shadow serves no customer"))
    names = routes.keys() | shadows.keys() | excluded.keys()
    return MappingProxyType(
        {
            name: Listing(tuple(routes.get(name, ())), tuple(excluded.get(name, ())), tuple(shadows.get(name, ())))
            for name in names
        }
    )


def newest_credentials() -> dict[int, Credential]:
    """The last appended credential of every channel."""
    return {credential.channel_id: credential for credential in Credential.objects.order_by("id")}


def find_capacity(offer: Offer, capacities: Mapping[tuple[int, str], int]) -> int | None:
    """The row of the account for this very model, else its row for all others."""
    account = offer.channel.account_id
    if account is None:
        return None
    return capacities.get((account, offer.upstream_model)) or capacities.get((account, ""))


def find_exclusion(offer: Offer, credential: Credential | None) -> str:
    """Why the offer serves nobody now, whatever is asked; empty where it serves. Looks up `channel` and `health`."""
    channel = offer.channel
    try:
        adapter = get_adapter_class(channel.kind)
    except LookupError:
        return f"no adapter speaks {channel.kind}"
    health: OfferHealth | None = getattr(offer, "health", None)
    reasons = (
        (not offer.enabled, "the offer is disabled"),
        (not channel.enabled, f"the channel is disabled: {channel.disabled_reason or 'no reason given'}"),
        (channel.draining_since is not None, "the channel is draining"),
        (credential is None, "the channel has no credential"),
        (not offer.genuine, "it is not genuinely this model"),
        (offer.upstream_model.lower() in adapter.open_weights, "it is a model with open weights, not this one"),
        (offer.weight == 0, "its weight is 0"),
        (
            offer.canary_percent is not None and offer.canary_fallen_at is not None,
            f"the canary fell back: {offer.canary_fallen_reason}",
        ),
        (
            health is not None and health.circuit == OfferHealth.Circuit.OPEN,
            f"its circuit is open: {health.reason if health else ''}",
        ),
    )
    return next((why for holds, why in reasons if holds), "")


def make_route(offer: Offer, credential: Credential, capacity_id: int | None) -> Route:
    channel = offer.channel
    health: OfferHealth | None = getattr(offer, "health", None)
    return Route(
        offer_id=offer.pk,
        channel_id=offer.channel_id,
        channel_name=channel.name,
        kind=channel.kind,
        base_url=channel.base_url,
        options=json.dumps(channel.options, sort_keys=True),
        credential_id=credential.pk,
        ciphertext=credential.ciphertext,
        upstream_model=offer.upstream_model,
        shape=offer.shape,
        max_n=offer.max_n,
        priority=offer.priority,
        weight=offer.weight,
        retry_billed=channel.retry_billed,
        cost_micros=offer.cost_micros,
        cost_currency=offer.cost_currency,
        account_id=channel.account_id,
        polls_per_s=channel.account.polls_per_s if channel.account else None,
        capacity_id=capacity_id,
        sizes=frozenset(parse_stored_size(text) for text in offer.sizes),
        unsupported=get_adapter_class(channel.kind).find_unsupported(channel.options),
        canary_percent=offer.canary_percent,
        shadow_percent=offer.shadow_percent,
        shadow_per_day=offer.shadow_per_day,
        circuit=health.circuit if health else OfferHealth.Circuit.CLOSED,
        cooling_until=health.cooling_until.timestamp() if health and health.cooling_until else 0.0,
        latency_ms=health.latency_ms if health else 0,
    )


def choose(
    listing: Listing,
    wish: Wish,
    *,
    tried: frozenset[int] = frozenset(),
    luck: float = 1.0,
    cooling: Mapping[int, float] = MappingProxyType({}),
    draw: random.Random | None = None,
) -> Decision:
    """Who may serve this, in the order in which to ask for room.

    `tried` offers are not asked again. `luck` from 0 to 1 decides about canaries and stays the same for one request;
    1 meets none. `cooling` is what this process knows beyond the table, offer id -> epoch seconds.
    """
    excluded = list(listing.excluded)
    fit: list[Route] = []
    canary, share = None, 0
    for route in listing.routes:
        why = find_obstacle(route, wish, tried)
        if route.canary_percent is not None and not why:
            share += route.canary_percent
            if canary is None and luck * 100 < share and not tried:
                canary = route
                continue
            why = f"a canary for {route.canary_percent} % of requests, and this is none of them"
        if why:
            excluded.append(Exclusion(route.offer_id, route.channel_name, why))
        else:
            fit.append(route)
    ordered = order_by_priority(fit, draw=draw)
    candidates = (canary, *ordered) if canary else ordered
    return Decision(candidates, tuple(excluded), find_cooling(candidates, cooling))


def find_cooling(routes: Sequence[Route], known: Mapping[int, float]) -> dict[int, float]:
    """Offers that are not to be asked now: offer id -> epoch seconds until which."""
    now = time.time()
    found = {route.offer_id: route.cooling_until for route in routes if route.cooling_until > now}
    for route in routes if known else ():
        if (moment := known.get(route.offer_id, 0.0)) > max(now, found.get(route.offer_id, 0.0)):
            found[route.offer_id] = moment
    return found


def is_trial(route: Route) -> bool:
    """Whether a call there is the one that a half-open circuit lets through."""
    return route.circuit == OfferHealth.Circuit.HALF_OPEN


def find_obstacle(route: Route, wish: Wish, tried: frozenset[int]) -> str:
    """Why this request cannot go there; empty where it can."""
    if route.offer_id in tried:
        return "it was tried before"
    if route.sizes and wish.size not in route.sizes:
        return "it does not render {}x{}".format(*wish.size)
    if missing := route.unsupported & wish.fields:
        return f"it does not take {', '.join(sorted(missing))}"
    return ""


def order_by_priority(routes: Sequence[Route], *, draw: random.Random | None = None) -> tuple[Route, ...]:
    """Lower priority first; within one priority a weighted draw without replacement."""
    if len(routes) < 2:
        return tuple(routes)
    chance = (draw or random).random
    ordered: list[Route] = []
    for _, same in groupby(routes, key=lambda route: route.priority):
        # Efraimidis-Spirakis: sorting by u^(1/w) is a weighted sample without replacement.
        ordered += sorted(same, key=lambda route: chance() ** (1 / route.weight), reverse=True)
    return tuple(ordered)
