"""The documented rate limits, per account; a limit that the scenario does not set is off."""

from __future__ import annotations

from collections import defaultdict, deque

from providers.simulator.errors import Refusal
from providers.simulator.scenario import Limits


class Limiter:
    """Sliding windows over what was let through."""

    def __init__(self) -> None:
        self._passed: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def admit_submit(self, limits: Limits, *, account: str, model: str, now: float) -> None:
        """Raises Refusal. The limit is per account and model, over all keys of the account."""
        rate = limits.find_rate(model)
        if rate is not None:
            self._admit((account, f"submit {model}"), count=rate[0], seconds=rate[1], now=now)

    def admit_query(self, limits: Limits, *, account: str, what: str, now: float) -> None:
        """Raises Refusal. Query, list and cancel have a limit each."""
        if limits.queries_per_s is not None:
            self._admit((account, what), count=limits.queries_per_s, seconds=1.0, now=now)

    def _admit(self, window: tuple[str, str], *, count: int, seconds: float, now: float) -> None:
        passed = self._passed[window]
        while passed and passed[0] <= now - seconds:
            passed.popleft()
        if len(passed) >= count:
            raise Refusal("Throttling.RateQuota")
        passed.append(now)
