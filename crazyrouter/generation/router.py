"""Routing as one process sees it now: the table of its snapshot, and the cool-downs that it has met itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from crazyrouter.generation.order import Ask, Order
from crazyrouter.generation.snapshot import Snapshot, Unavailable, View
from providers.routing import NOTHING, Decision, Route, choose

#: A call is known by its generation and number.
Name = tuple[str, int]
#: What a decision was made of.
Seen = tuple[View, dict[int, float]]


class Router:
    """Never older than the snapshot: whatever waits is routed anew before it is sent."""

    def __init__(self, snapshot: Snapshot, cooling: Mapping[int, float]) -> None:
        self._snapshot = snapshot
        self._cooling = cooling

    async def choose(self, order: Order, *, tried: frozenset[int] = frozenset()) -> Decision:
        """Who may serve the order now."""
        return self._choose(await self._snapshot.get(), order, tried)

    async def is_in_service(self, order: Order, route: Route) -> bool:
        """Whether the offer may be sent to, as of less than two seconds ago."""
        try:
            view = await self._snapshot.get()
        except Unavailable:
            # Nobody can have taken it out of service in a database that is away.
            return True
        return view.routes.get(order.model_name, NOTHING).find(route.offer_id) is not None

    async def renew(self, asks: Mapping[Name, Ask], seen: Seen | None) -> tuple[Mapping[Name, Ask], Seen]:
        """The asks with what may serve them now; unchanged while nothing is new since `seen`."""
        view = await self._snapshot.get()
        state = (view, dict(self._cooling))
        if seen is not None and state[0] is seen[0] and state[1] == seen[1]:
            return asks, seen
        return {
            name: replace(ask, decision=self._choose(view, ask.order, ask.tried)) for name, ask in asks.items()
        }, state

    def _choose(self, view: View, order: Order, tried: frozenset[int]) -> Decision:
        listing = view.routes.get(order.model_name, NOTHING)
        return choose(listing, order.wish, tried=tried, luck=order.luck, cooling=self._cooling)
