"""Outages: somebody is refused everything for now, by control URL, until it is ended or its time is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from providers.simulator.clock import print_utc
from providers.simulator.errors import ScenarioError
from providers.simulator.faults import Fault, Stage, Struck, read_fault
from providers.simulator.rules import Facts, Match, read_match

_STANDARD = {"name": "error", "status": 503, "code": "ServiceUnavailable"}


@dataclass(frozen=True, slots=True)
class Outage:
    """Orders, queries, lists and cancels that match get `fault`; downloads only where `images` says so."""

    id: int
    match: Match
    fault: Fault
    until: float | None
    images: bool
    raw: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, facts: Facts, now: float) -> bool:
        held = self.until is None or now < self.until
        return held and (self.images or facts.stage is not Stage.IMAGE) and self.match.fits(facts)

    def describe(self) -> dict[str, Any]:
        return {**self.raw, "id": self.id, "until": None if self.until is None else print_utc(self.until)}


class Outages:
    """Those in force. The first that fits decides."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._all: list[Outage] = []

    def begin(self, raw: Any, *, now: float) -> Outage:
        """`{"match": {…}, "fault": {…}, "seconds": n | null, "images": false}`, each optional. Raises ScenarioError."""
        known = {"match", "fault", "seconds", "images"}
        if not isinstance(raw, Mapping) or not set(raw) <= known:
            raise ScenarioError(f"an outage is an object with {', '.join(sorted(known))}")
        fault = read_fault(raw.get("fault") or _STANDARD)
        if not fault.refuses:
            raise ScenarioError(f"in an outage nothing is done: {fault.name} does not refuse a call")
        if fault.stage is not None:
            raise ScenarioError("an outage is everywhere: its fault takes no `at`")
        seconds = raw.get("seconds")
        if seconds is not None and (not isinstance(seconds, int | float) or seconds <= 0):
            raise ScenarioError(f"seconds={seconds!r} is not possible")
        outage = Outage(
            id=next(self._ids),
            match=read_match(raw.get("match") or {}),
            fault=fault,
            until=None if seconds is None else now + seconds,
            images=bool(raw.get("images", False)),
            raw=dict(raw),
        )
        self._all.append(outage)
        return outage

    def end(self, *, number: str = "", account: str = "", key: str = "") -> int:
        """The one of this id, those of this account or key; all of them where nothing is named. How many."""
        ended = [
            outage
            for outage in self._all
            if not (number or account or key)
            or str(outage.id) == number
            or (account and outage.match.account == account)
            or (key and outage.match.key == key)
        ]
        self._all = [outage for outage in self._all if outage not in ended]
        return len(ended)

    def strike(self, facts: Facts, *, now: float) -> Struck | None:
        """What this call gets; None where nobody is out."""
        self._all = [outage for outage in self._all if outage.until is None or now < outage.until]
        return next((Struck([outage.fault]) for outage in self._all if outage.fits(facts, now)), None)

    def describe(self, *, now: float) -> list[dict[str, Any]]:
        return [outage.describe() for outage in self._all if outage.until is None or now < outage.until]
