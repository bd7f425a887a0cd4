"""What this upstream would charge: a record per submission, and one per picture, fetched or not."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from providers.simulator.clock import Clock, print_utc

#: Entries kept to read; totals count everything since the last reset.
KEPT = 100_000


@dataclass(slots=True)
class Submission:
    """One order that arrived. `accepted` is None until decided; a refused one keeps why in `code`.

    `at` is by the simulator's clock, which a test may move; `received_at` is by the machine's.
    """

    number: int
    id: int
    at: float
    received_at: float
    endpoint: str
    request_id: str
    key_last4: str
    account: str = ""
    model: str = ""
    prompt: str = ""
    n: int = 0
    size: str = ""
    task_id: str | None = None
    accepted: bool | None = None
    status: int | None = None
    code: str | None = None

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "submission",
            **{name: getattr(self, name) for name in self.__slots__},
            "at": print_utc(self.at),
            "received_at": print_utc(self.received_at),
        }


@dataclass(frozen=True, slots=True)
class Charge:
    """One picture that counts."""

    number: int
    submission: Submission
    at: float
    index: int
    price_fen: int

    def describe(self) -> dict[str, Any]:
        order = self.submission
        return {
            "kind": "image",
            "number": self.number,
            "at": print_utc(self.at),
            "submission": order.id,
            "index": self.index,
            "account": order.account,
            "model": order.model,
            "task_id": order.task_id,
            "cost": print_fen(self.price_fen),
        }


def print_fen(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02d}"


class Bill:
    """The upstream's own book. Amounts are whole fen; CNY. Entries are numbered without a gap since it was opened."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ids = count(1)
        self.reset()

    def reset(self) -> None:
        self._since = time.time()
        self._numbers = count(1)
        self._entries: deque[Submission | Charge] = deque(maxlen=KEPT)
        self._totals: Counter[str] = Counter()
        self._by_model: Counter[str] = Counter()
        self._by_account: Counter[str] = Counter()

    def open(self, *, endpoint: str, request_id: str, key: str) -> Submission:
        entry = Submission(
            number=next(self._numbers),
            id=next(self._ids),
            at=self._clock.now(),
            received_at=time.time(),
            endpoint=endpoint,
            request_id=request_id,
            key_last4=key[-4:],
        )
        self._entries.append(entry)
        self._totals["entries"] += 1
        self._totals["submissions"] += 1
        return entry

    def accept(self, entry: Submission, *, task_id: str | None = None) -> None:
        entry.accepted, entry.status, entry.task_id = True, 200, task_id
        self._totals["accepted"] += 1

    def refuse(self, entry: Submission, *, status: int | None, code: str) -> None:
        """`status` None: the connection broke or hung instead."""
        entry.accepted, entry.status, entry.code = False, status, code
        self._totals["refused"] += 1

    def charge(self, entry: Submission, *, images: int, price_fen: int, at: float) -> None:
        for index in range(images):
            self._entries.append(Charge(next(self._numbers), entry, at, index, price_fen))
        self._totals["entries"] += images
        self._totals["images"] += images
        self._totals["fen"] += images * price_fen
        self._by_model[entry.model] += images
        self._by_account[entry.account] += images

    def describe(self, *, after: int = 0, limit: int = KEPT) -> dict[str, Any]:
        """Totals of everything, and those entries that are kept and numbered above `after`, at most `limit`."""
        totals = {name: self._totals[name] for name in ("submissions", "accepted", "refused", "images")}
        return {
            "since": print_utc(self._since),
            "totals": {**totals, "cost": print_fen(self._totals["fen"]), "currency": "CNY"},
            "images_by_model": dict(self._by_model),
            "images_by_account": dict(self._by_account),
            "kept": {
                "most": KEPT,
                "entries": len(self._entries),
                "forgotten": self._totals["entries"] - len(self._entries),
            },
            "entries": [entry.describe() for entry in self._list(after, limit)],
        }

    def _list(self, after: int, limit: int) -> list[Submission | Charge]:
        first = self._entries[0].number if self._entries else 1
        start = max(0, after + 1 - first)
        return list(islice(self._entries, start, start + limit))
