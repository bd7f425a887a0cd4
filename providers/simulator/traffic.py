"""How much was asked, and how much of it was too much: by account, since the bill was opened."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from enum import StrEnum
from typing import Any

_EVERYBODY = ""


class Kind(StrEnum):
    """What a limit is for. A task that finds no place beside the running ones is a submit that was throttled."""

    SUBMITS = "submits"
    QUERIES = "queries"


class Traffic:
    """Counts of what the limiter refused, and of queries with the most that came within any one second."""

    def __init__(self) -> None:
        self._throttled: Counter[tuple[str, Kind]] = Counter()
        self._queries: Counter[str] = Counter()
        self._peaks: Counter[str] = Counter()
        self._latest: defaultdict[str, deque[float]] = defaultdict(deque)

    def note_throttled(self, *, account: str, kind: Kind) -> None:
        self._throttled[account, kind] += 1

    def note_query(self, *, account: str, now: float) -> None:
        """A question for a task or its result, whether it was answered or refused."""
        for name in (account, _EVERYBODY):
            latest = self._latest[name]
            latest.append(now)
            while latest[0] <= now - 1.0:
                latest.popleft()
            self._queries[name] += 1
            self._peaks[name] = max(self._peaks[name], len(latest))

    def describe(self) -> dict[str, Any]:
        accounts = sorted({account for account, _ in self._throttled} | set(self._queries) - {_EVERYBODY})
        return {
            "throttled": {
                account: {kind.value: self._throttled[account, kind] for kind in Kind} for account in accounts
            },
            "queries": {
                **self._describe_queries(_EVERYBODY),
                "by_account": {account: self._describe_queries(account) for account in accounts},
            },
        }

    def _describe_queries(self, name: str) -> dict[str, int]:
        return {"count": self._queries[name], "peak_per_s": self._peaks[name]}
