"""What was measured; immutable, no I/O. Times in ms, memory in bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Busy:
    """A closed loop of `clients` for some seconds. CPU is per answered request; None where it could not be read."""

    rate: float
    p50: float
    p99: float
    answered: int
    errors: dict[str, int]
    cpu: float
    database_cpu: float | None
    early: float
    late: float


@dataclass(frozen=True, slots=True)
class Held:
    """That many generations in flight at once; latencies are what came on top of the time they take upstream."""

    in_flight: int
    p50: float
    p99: float
    answered: int
    errors: dict[str, int]
    cpu: float
    database_cpu: float | None
    idle_bytes: int
    peak_bytes: int
    idle_threads: int
    peak_threads: int

    @property
    def bytes_each(self) -> float:
        return (self.peak_bytes - self.idle_bytes) / self.in_flight


@dataclass(frozen=True, slots=True)
class Round:
    """Product and relay in turn, many clients and one; `upstream` is one client on the upstream itself."""

    product: Busy
    relay: Busy
    product_alone: Busy
    relay_alone: Busy
    upstream: Busy

    @property
    def ratio(self) -> float:
        return self.product.rate / self.relay.rate if self.relay.rate else 0.0


@dataclass(slots=True)
class Findings:
    """All of one database. A fault ends the measurement: what was exact before it stays."""

    kind: str
    database: str
    rounds: list[Round] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    upstream_rate: float | None = None
    loads: int = 0
    charged: int = 0
    log_lines: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        return median(one.ratio for one in self.rounds) if self.rounds else None

    def list_errors(self) -> Iterator[Mapping[str, int]]:
        """Of every load, by what was wrong."""
        for one in self.rounds:
            for busy in (one.product, one.relay, one.product_alone, one.relay_alone, one.upstream):
                yield busy.errors
        for held in self.held:
            yield held.errors

    def find_held(self, in_flight: int) -> Held | None:
        return next((held for held in self.held if held.in_flight == in_flight), None)
