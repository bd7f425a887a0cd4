"""The simulated upstream from outside: what goes wrong there, by its control URL, and what it says it would charge.

Whatever is changed there is undone by `restore`; rules and outages that are not the drill's are left alone.

    UpstreamFailed      it does not answer, or not as it should
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from crazyrouter.management.drill.shop import SIDES, Limits, Side, build_limits
from crazyrouter.management.drill.wire import Unanswered, call

TIMEOUT_S = 60.0
PAGE = 5_000


class UpstreamFailed(Exception):
    """Its message is for people."""


@dataclass(slots=True)
class Billed:
    """One order on the bill, and how many of its pictures are charged."""

    account: str
    prompt: str
    accepted: bool | None
    charged: int = 0


@dataclass(slots=True)
class Upstream:
    """One simulator. `planted` is the number of strikes that each rule was given, by its id; entries of the bill up to
    `first` are older than the drill."""

    url: str
    key: str
    #: The scenario as it was; None while nothing of it was changed.
    before: dict[str, Any] | None = None
    planted: dict[int, int] = field(default_factory=dict)
    since: str = ""
    first: int = 0

    async def ask(self, method: str, what: str, given: Any = None) -> dict[str, Any]:
        """Raises UpstreamFailed."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        body = b"" if given is None else orjson.dumps(given)
        try:
            answer = await call(method, f"{self.url}/_sim/{what}", headers=headers, body=body, timeout_s=TIMEOUT_S)
        except Unanswered as error:
            raise UpstreamFailed(f"the simulated upstream at {self.url} does not answer: {error}") from error
        if answer.status not in {200, 201}:
            raise UpstreamFailed(f"{method} {what}: {answer.status} {answer.body[:300].decode('utf-8', 'replace')}")
        return answer.read_object()

    # --- what goes wrong ---

    async def prepare(self, limits: Limits, *, latency_s: float) -> None:
        """Limits for the drill's accounts, and a pace for all; what an earlier drill left behind is cleared."""
        await self.clear()
        self.before = await self.ask("GET", "scenario")
        if isinstance(self.before.get("limits", {}), str):
            raise UpstreamFailed(
                "the simulator has documented limits for everybody, and the drill adds its own to none"
            )
        await self.limit(limits)
        await self.ask("POST", "scenario", {"latency_s": {"default": latency_s}})
        bill = await self.ask("GET", "bill?entries=0")
        self.since, self.first = bill["since"], bill["kept"]["entries"] + bill["kept"]["forgotten"]

    async def limit(self, limits: Limits) -> None:
        """What the drill's accounts may ask for."""
        usual = (self.before or {}).get("limits", {})
        accounts = usual.get("accounts", {}) | build_limits(limits)
        await self.ask("POST", "scenario", {"limits": usual | {"accounts": accounts}})

    async def restore(self) -> None:
        """The scenario as it was, and nothing of ours in force."""
        await self.clear()
        if self.before is None:
            return
        usual: dict[str, Any] = {"limits": {}, "latency_s": 1.0}
        await self.ask("POST", "scenario", {name: self.before.get(name, value) for name, value in usual.items()})

    async def clear(self) -> None:
        for name in ("rules", "outages"):
            for entry in (await self.ask("GET", name))[name]:
                if is_ours(entry.get("match") or {}):
                    await self.ask("DELETE", f"{name}?id={entry['id']}")

    async def plant(self, side: Side, fault: Mapping[str, Any], *, times: int | None = None, **match: str) -> None:
        """A fault for the orders of one side."""
        rule = {"match": {"account": side.account, **match}, "fault": fault, "times": times}
        answer = await self.ask("POST", "rules", rule)
        if times is not None:
            self.planted[answer["id"]] = times

    @asynccontextmanager
    async def outage(self, match: Mapping[str, str], fault: Mapping[str, Any] | None = None) -> AsyncIterator[None]:
        """Whoever matches is refused everything meanwhile."""
        number = (await self.ask("POST", "outages", {"match": match} | ({"fault": fault} if fault else {})))["id"]
        try:
            yield
        finally:
            await self.ask("DELETE", f"outages?id={number}")

    async def count_strikes(self) -> int:
        """How often the rules that were planted with a number have struck."""
        left = {rule["id"]: rule["times"] for rule in (await self.ask("GET", "rules"))["rules"]}
        return sum(times - left.get(number, times) for number, times in self.planted.items())

    # --- what it counts ---

    async def read_bill(self) -> list[Billed]:
        """What was ordered since the drill began. Raises UpstreamFailed where somebody has begun another bill."""
        orders: dict[int, Billed] = {}
        after = self.first
        while True:
            page = await self.ask("GET", f"bill?after={after}&limit={PAGE}")
            if page["since"] != self.since:
                raise UpstreamFailed("the simulator has begun a new bill meanwhile: somebody else uses it")
            for entry in page["entries"]:
                note_entry(orders, entry)
            if len(page["entries"]) < PAGE:
                return list(orders.values())
            after = page["entries"][-1]["number"]

    async def count_throttled(self) -> int:
        """Submits and queries of the drill's accounts that its limits have refused."""
        throttled = (await self.ask("GET", "bill?entries=0"))["throttled"]
        return sum(sum(throttled.get(side.account, {}).values()) for side in SIDES)


def note_entry(orders: dict[int, Billed], entry: Mapping[str, Any]) -> None:
    if entry["kind"] == "submission":
        orders[entry["id"]] = Billed(entry["account"], entry["prompt"], entry["accepted"])
    elif entry["submission"] in orders:
        orders[entry["submission"]].charged += 1


def is_ours(match: Mapping[str, Any]) -> bool:
    accounts = {side.account for side in SIDES}
    return match.get("account") in accounts or str(match.get("key", "")).startswith(
        tuple(side.key_prefix for side in SIDES)
    )
