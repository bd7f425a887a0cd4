"""What is drilled, how hard and for how long: the options of the command. Times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crazyrouter.management.drill.expectations import Expectation
from crazyrouter.management.drill.shop import Limits, choose_limits

SQLITE, POSTGRESQL = "sqlite", "postgresql"


@dataclass(frozen=True, slots=True)
class Plan:
    """`seconds` is the load of one chapter, before what it waits for; `rate` is orders a second.

    `hasten` ends the pauses of circuits early, by hand: their rules are the same, their patience is not.
    """

    seconds: float = 15.0
    rate: float = 3.0
    seed: int = 1
    latency_s: float = 1.0
    hasten: bool = False
    chapters: tuple[str, ...] = ()
    database: str = SQLITE
    database_url: str = ""
    ready_file: Path | None = None
    env_file: Path | None = None
    expected: Mapping[str, tuple[Expectation, ...]] = field(default_factory=dict)

    @property
    def deadline_s(self) -> float:
        """Of a generation, where the server is our own: longer than whatever a chapter has it wait for."""
        return self.seconds + 15.0

    @property
    def overdue_s(self) -> float:
        """How long those tasks take that miss it."""
        return self.deadline_s + 3.0

    @property
    def lease_s(self) -> float:
        """How long the work of a process of our own server stays its own when it is gone."""
        return 3.0 if self.hasten else 10.0

    @property
    def limits(self) -> Limits:
        return choose_limits(rate=self.rate)

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a server of our own: a short deadline, and leases that are found lost while the chapter lasts."""
        return {
            "GENERATION_DEADLINE_S": f"{self.deadline_s:g}",
            "LEASE_S": f"{self.lease_s:g}",
            "LEASE_REFRESH_S": f"{self.lease_s / 4:g}",
            "RECOVERY_S": f"{self.lease_s / 5:g}",
        }
