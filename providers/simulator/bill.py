"""What this upstream would charge: a record per submission, and one per picture, fetched or not."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from itertools import count
from typing import Any

from providers.simulator.clock import Clock, print_utc

#: Entries kept to read; totals count everything since the last reset.
KEPT = 100_000


@dataclass(slots=True)
class Submission:
    """One order that arrived. `accepted` is None until decided; a refused one keeps why in `code`."""

    id: int
    at: float
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
        }


@dataclass(frozen=True, slots=True)
class Charge:
    """One picture that counts."""

    submission: Submission
    at: float
    index: int
    price_fen: int

    def describe(self) -> dict[str, Any]:
        order = self.submission
        return {
            "kind": "image",
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
    """The upstream's own book. Amounts are whole fen; CNY."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ids = count(1)
        self.reset()

    def reset(self) -> None:
        self._entries: deque[Submission | Charge] = deque(maxlen=KEPT)
        self._totals: Counter[str] = Counter()
        self._by_model: Counter[str] = Counter()
        self._by_account: Counter[str] = Counter()

    def open(self, *, endpoint: str, request_id: str, key: str) -> Submission:
        entry = Submission(next(self._ids), self._clock.now(), endpoint, request_id, key_last4=key[-4:])
        self._entries.append(entry)
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
            self._entries.append(Charge(entry, at, index, price_fen))
        self._totals["images"] += images
        self._totals["fen"] += images * price_fen
        self._by_model[entry.model] += images
        self._by_account[entry.account] += images

    def describe(self, *, with_entries: bool = True) -> dict[str, Any]:
        totals = {name: self._totals[name] for name in ("submissions", "accepted", "refused", "images")}
        return {
            "totals": {**totals, "cost": print_fen(self._totals["fen"]), "currency": "CNY"},
            "images_by_model": dict(self._by_model),
            "images_by_account": dict(self._by_account),
            "entries": [entry.describe() for entry in self._entries] if with_entries else [],
        }
