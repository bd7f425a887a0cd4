"""Looks at the operator's side while the load runs: which circuits move, who cools down, which alerts are raised."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from crazyrouter.management.drill.clerk import Clerk

LOOK_EVERY_S = 0.3


@dataclass(slots=True)
class Watch:
    """What was seen since the last `begin`. `counts` are figures, `events` lines for people."""

    clerk: Clerk
    counts: Counter[str] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)
    began: float = 0.0
    now: dict[str, Any] = field(default_factory=dict)
    known_alerts: set[int] = field(default_factory=set)

    async def begin(self) -> None:
        self.counts, self.events, self.began = Counter(), [], time.monotonic()
        self.now = await self.clerk.ask("read_health")
        self.known_alerts = {alert[0] for alert in self.now["alerts"]}

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        before, self.now = self.now, await self.clerk.ask("read_health")
        for name, offer in self.now["offers"].items():
            self._compare_offer(name, before["offers"].get(name, offer), offer)
        for name, enabled in self.now["channels"].items():
            if enabled != before["channels"].get(name, enabled):
                self._note(
                    "channels_enabled" if enabled else "channels_disabled",
                    f"{name} is {'in' if enabled else 'out of'} service",
                )
        for number, kind, text, _ in self.now["alerts"]:
            if number not in self.known_alerts:
                self.known_alerts.add(number)
                self.counts[f"alerts_{kind}"] += 1
                self._note("alerts", f"alert {kind}: {text}")

    def _compare_offer(self, name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        if before["circuit"] != after["circuit"]:
            self._note(f"circuits_{after['circuit']}", f"{name}: circuit {after['circuit']}: {after['reason']}")
        if after["cools"] and not before["cools"]:
            self._note("cooled", f"{name} cools down")

    def _note(self, figure: str, event: str) -> None:
        self.counts[figure] += 1
        self.events.append(f"{time.monotonic() - self.began:5.1f} s  {event}")

    def list_unclosed(self) -> list[str]:
        """`channel: model` of offers that are not served as ever."""
        return [name for name, offer in self.now["offers"].items() if offer["circuit"] != "closed"]

    def is_cooling(self) -> bool:
        return any(offer["cools"] for offer in self.now["offers"].values())
