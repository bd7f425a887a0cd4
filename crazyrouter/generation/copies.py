"""What came of a copy, and what is kept of it: how it compares with what the customer got. Values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crazyrouter.generation.journal.shadow_ends import EndedCopy
from crazyrouter.generation.order import Call, Failure, Order
from providers.contract import Billed, Code, Scope
from providers.health import Report
from providers.models import OfferHealth

Size = tuple[int, int]

NEVER_SENT = Failure(Code.NOT_AVAILABLE, Billed.NO, Scope.REQUEST, "never sent: the process stops")
STOPPED = Failure(Code.CONNECTION_LOST, Billed.UNKNOWN, Scope.REQUEST, "the process stopped before an answer")


@dataclass(frozen=True, slots=True)
class Original:
    """What the customer got of the request, and after how long. `failure` is a public code, empty on success."""

    latency_ms: int
    images: int
    failure: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a copy: `sizes` of all pictures that are pictures, `images` of them fit to be delivered."""

    state: str
    sizes: tuple[Size, ...] = ()
    images: int = 0
    failures: tuple[Failure, ...] = ()
    upstream_id: str = ""


def make_end(order: Order, call: Call, seen: Seen, latency_ms: int, original: Original) -> EndedCopy:
    failure = seen.failures[0] if seen.failures else None
    compared = failure not in (NEVER_SENT, STOPPED)
    return EndedCopy(
        generation_id=order.id,
        number=call.number,
        state=seen.state,
        failure=failure,
        images=seen.images,
        upstream_id=seen.upstream_id,
        comparison=compare(order, call, seen, latency_ms, original) if compared else None,
        capacity_id=call.route.capacity_id,
        took_ms=latency_ms if seen.images else None,
    )


def compare(order: Order, call: Call, seen: Seen, latency_ms: int, original: Original) -> dict[str, Any]:
    """What the attempt keeps. Sizes are [width, height] in pixels; `asked` is what every carrier is asked to render."""
    return {
        "latency_ms": latency_ms,
        "sizes": [list(size) for size in seen.sizes],
        "asked": list(order.render_size),
        "images": seen.images,
        "wanted": len(call.slots),
        "failure": seen.failures[0].code if seen.failures else "",
        "customer": {
            "latency_ms": original.latency_ms,
            "images": original.images,
            "failure": original.failure,
        },
    }


def make_report(order: Order, call: Call, seen: Seen, latency_ms: int) -> Report | None:
    """What the copy says of its offer; nothing where the trouble was ours.

    Of its offer alone: whether a channel that serves customers is to be disabled is for their own calls to find out.
    """
    route = call.route
    first = seen.failures[0] if seen.failures else Failure("", "", "")
    if first in (NEVER_SENT, STOPPED):
        return None
    ok = bool(seen.images)
    return Report(
        offer_id=route.offer_id,
        channel_id=route.channel_id,
        credential_id=route.credential_id,
        ok=ok,
        code="" if ok else first.code,
        scope="" if ok else Scope.OFFER if first.scope == Scope.CHANNEL else first.scope,
        billed="" if ok else first.billed,
        detail="" if ok else first.detail,
        ms=latency_ms,
        retry_after_s=first.retry_after_s,
        generation_id=order.id,
        trial=route.circuit == OfferHealth.Circuit.HALF_OPEN,
    )
