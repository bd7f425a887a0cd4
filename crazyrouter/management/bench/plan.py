"""What is measured, and for how long. Everything is bounded in time and count."""

from __future__ import annotations

from dataclasses import dataclass

SQLITE = "sqlite"
POSTGRESQL = "postgresql"

#: Who calls the fake upstream: each under its own first path segment.
SIDES = (PRODUCT, RELAY, ALONE) = ("product", "relay", "alone")
GENERATE = "/services/aigc/multimodal-generation/generation"

MODEL = "qwen-image-2.0"
SIZE = "512x512"
KEYS = 100
ACCOUNTS = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of `manage.py bench`; times in seconds."""

    seconds: float = 5.0
    rounds: int = 3
    clients: int = 32
    in_flight: tuple[int, ...] = (1000, 2000)
    hold_s: float = 10.0
    databases: tuple[str, ...] = (SQLITE, POSTGRESQL)
    database_url: str = ""
    accounts: int = ACCOUNTS

    @property
    def warm_up_s(self) -> float:
        return min(2.0, self.seconds / 2)

    @property
    def lone_s(self) -> float:
        """How long one client alone is measured."""
        return min(3.0, self.seconds)


#: Proves that everything runs; its figures mean little.
QUICK = Plan(seconds=1.0, rounds=1, in_flight=(50,), hold_s=1.0)
