"""Both sides of the comparison: an order as the upstream's bill has it, an attempt as we do.

What an attempt counts as cost is a range. Stored pictures certainly cost; of the slots that got none, those of a
failure that is billed did, and those of one that may be billed may have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from crazyrouter.generation.models import Attempt
from providers.contract import Billed

State = Attempt.State


@dataclass(frozen=True, slots=True)
class BilledOrder:
    """One order as the upstream's bill has it. `accepted` is None while it is undecided; `charged` counts pictures.

    `received_at` is by the machine's clock. What could not be read of a refused one is empty or 0.
    """

    id: int
    request_id: str
    task_id: str
    received_at: datetime
    key_last4: str
    account: str
    model: str
    prompt: str
    n: int
    accepted: bool | None
    code: str
    charged: int

    @property
    def name(self) -> str:
        return f"order {self.id} ({self.task_id or self.request_id})"

    @property
    def verdict(self) -> str:
        if self.accepted is None:
            return "undecided yet"
        return "accepted" if self.accepted else f"refused ({self.code})"


@dataclass(frozen=True, slots=True)
class UpstreamBill:
    """Orders from `since` on; of `forgotten` entries only the totals are left."""

    since: datetime
    orders: tuple[BilledOrder, ...]
    forgotten: int
    charged: int
    ordered: int

    @property
    def complete_since(self) -> datetime:
        """From here on every order is on it one by one."""
        return self.orders[0].received_at if self.forgotten and self.orders else self.since


@dataclass(frozen=True, slots=True)
class SentCall:
    """One attempt of ours. `account` is our name of the upstream account, empty where the channel has none."""

    generation_id: str
    number: int
    created_at: datetime
    state: str
    billed: str
    task_id: str
    upstream_id: str
    model: str
    credential_id: int
    key_last4: str
    account: str
    slots: int
    images: int
    prompt: str

    @property
    def name(self) -> str:
        return f"{self.generation_id} #{self.number}"

    @property
    def has_id(self) -> bool:
        return bool(self.task_id or self.upstream_id)

    @property
    def runs(self) -> bool:
        return self.state in (State.CREATED, State.ACCEPTED)

    @property
    def cost(self) -> tuple[int, int]:
        """The fewest and the most pictures that we count as charged."""
        missing = max(0, self.slots - self.images)
        if self.runs or self.state == State.UNKNOWN or self.billed == Billed.UNKNOWN:
            return self.images, self.images + missing
        if self.billed == Billed.YES:
            return self.images + min(1, missing), self.images + missing
        return self.images, self.images


def add_up(calls: Iterable[SentCall]) -> tuple[int, int]:
    """The fewest and the most pictures that these attempts count as charged."""
    ranges = [call.cost for call in calls]
    return sum(fewest for fewest, _ in ranges), sum(most for _, most in ranges)


def print_range(fewest: int, most: int) -> str:
    return str(fewest) if fewest == most else f"{fewest} to {most}"
