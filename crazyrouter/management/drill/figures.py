"""The figures of one chapter: what customers saw, what our rows say, what the upstream's bill says, side by side."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crazyrouter.management.drill.customers import Seen
from crazyrouter.management.drill.shop import A, B, Side
from crazyrouter.management.drill.stage import EFFECTIVE_S
from crazyrouter.management.drill.upstream import Billed


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that one chapter left behind. `generations` and `attempts` are rows as the desk tells them."""

    seen: Sequence[Seen]
    generations: Mapping[str, Mapping[str, Any]]
    attempts: Sequence[Mapping[str, Any]]
    bill: Sequence[Billed]
    marks: Mapping[str, float]
    counts: Mapping[str, int]


def count_all(evidence: Evidence) -> dict[str, Any]:
    return {
        **count_seen(evidence.seen),
        **count_rows(evidence),
        **count_attempts(evidence.attempts),
        **count_windows(evidence.attempts, evidence.marks),
        **count_bill(evidence),
        **dict.fromkeys(("alerts", "cooled", "channels_disabled", "circuits_open", "circuits_closed"), 0),
        **evidence.counts,
    }


def count_seen(seen: Sequence[Seen]) -> dict[str, Any]:
    """What customers saw; a missing picture is one that was ordered and not had in the end."""
    served = sum(one.images for one in seen)
    took = sorted(one.took_s for one in seen)
    return {
        "orders": len(seen),
        "asked": sum(one.order.n for one in seen),
        "delivered": served,
        "missing": sum(one.order.n for one in seen) - served,
        "failed": sum(not one.is_served for one in seen),
        "answers": dict(Counter(one.label for one in seen)),
        "overdue": sum(one.label == "504 generation_timeout" for one in seen),
        "collected": sum(one.collected for one in seen),
        "broken": sum(one.broken > 0 for one in seen),
        "slowest_broken_s": math.ceil(max((one.took_s for one in seen if one.broken), default=0)),
        "turned_away": sum(one.is_turned_away for one in seen),
        "hintless": sum(one.is_turned_away and not one.retry_after.isdigit() for one in seen),
        "replays": sum(one.replayed for one in seen),
        "faults": sum(len(one.faults) for one in seen),
        "leaks": sum(len(one.leaks) for one in seen),
        "p50_ms": round(pick(took, 0.50) * 1000),
        "p99_ms": round(pick(took, 0.99) * 1000),
    }


def pick(ordered: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed (nearest rank); 0 of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def count_rows(evidence: Evidence) -> dict[str, int]:
    """Our books beside what customers have in hand.

    `mischarged`: pictures that were charged and not had, or had and not charged. `unheard`: generations that ran and
    that no customer was ever told of, which is how an order is made twice.
    """
    had: Counter[str] = Counter()
    for one in evidence.seen:
        had[one.generation] += one.images
    charged = {pk: row["charged"] for pk, row in evidence.generations.items()}
    told = {one.generation for one in evidence.seen}
    return {
        "generations": len(evidence.generations),
        "charged": sum(charged.values()),
        "mischarged": sum(abs(charged.get(pk, 0) - had[pk]) for pk in charged.keys() | had.keys()),
        "unheard": len(evidence.generations.keys() - told),
        "takeovers": sum(row["takeovers"] for row in evidence.generations.values()),
    }


def count_attempts(attempts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Calls by side and by end; `least` and `most` pictures that they cost us, `possible` what lies between."""
    least, most = sum(one["least"] for one in attempts), sum(one["most"] for one in attempts)
    found: Counter[str] = Counter(
        {"least": least, "most": most, "possible": most - least, "elsewhere": 0, "waited": 0}
        | {f"attempts_{state}": 0 for state in ("rejected", "succeeded", "failed", "unknown")}
    )
    for one in attempts:
        found[f"attempts_{one['state']}"] += 1
        found["waited"] += bool(one["waited_s"])
        found[f"calls_{name_side(one)}" if name_side(one) else "elsewhere"] += 1
    for side in (A, B):
        found[f"calls_{side.letter.lower()}"] += 0
        found[f"good_{side.letter.lower()}"] = count_good(attempts, side)
        found[f"rejected_{side.letter.lower()}"] = sum(
            one["state"] == "rejected" and one["channel"] in side.channels for one in attempts
        )
    return dict(found)


def name_side(attempt: Mapping[str, Any]) -> str:
    return next((side.letter.lower() for side in (A, B) if attempt["channel"] in side.channels), "")


def count_good(attempts: Iterable[Mapping[str, Any]], side: Side) -> int:
    return sum(one["state"] == "succeeded" and one["channel"] in side.channels for one in attempts)


def count_windows(attempts: Sequence[Mapping[str, Any]], marks: Mapping[str, float]) -> dict[str, int]:
    """Calls between a mark, once it is effective everywhere, and the next mark: `calls_a_since_swap`, `good_a_…`."""
    found: dict[str, int] = {}
    moments = [*marks.values(), float("inf")]
    for (name, began), end in zip(marks.items(), moments[1:], strict=True):
        within = [one for one in attempts if began + EFFECTIVE_S <= one["began"] < end]
        for side in (A, B):
            letter = side.letter.lower()
            found[f"calls_{letter}_since_{name}"] = sum(name_side(one) == letter for one in within)
            found[f"good_{letter}_since_{name}"] = count_good(within, side)
    return found


def count_bill(evidence: Evidence) -> dict[str, int]:
    """`billed`: pictures that the upstream charges. `unpaid`: those of them that no customer paid.

    `uncounted`: how far that lies outside of what we count as cost.
    """
    billed = sum(order.charged for order in evidence.bill)
    charged = sum(row["charged"] for row in evidence.generations.values())
    least, most = sum(one["least"] for one in evidence.attempts), sum(one["most"] for one in evidence.attempts)
    by_account: defaultdict[str, int] = defaultdict(int)
    for order in evidence.bill:
        by_account[order.account] += order.charged
    return {
        "billed": billed,
        "billed_a": by_account[A.account],
        "billed_b": by_account[B.account],
        "unpaid": billed - charged,
        "uncounted": max(least - billed, billed - most, 0),
    }
