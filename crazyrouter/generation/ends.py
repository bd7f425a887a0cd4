"""What follows the end of a call: which slots are ordered again, what is booked, what its offer is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from crazyrouter.generation.models import Attempt
from crazyrouter.generation.order import Ask, Call, CallResult, Failure, Order
from crazyrouter.generation.outcomes import Next, judge_failure
from crazyrouter.generation.waiting import NoRoom
from providers.contract import Billed, Code, Scope
from providers.health import Report
from providers.routing import is_trial

WITHDRAWN = Failure(Code.NOT_AVAILABLE, Billed.NO, Scope.OFFER, "never sent: taken out of service meanwhile")


@dataclass(frozen=True, slots=True)
class Again:
    """Slots of an ended call that may be ordered again. `tried` offers are left out."""

    slots: tuple[int, ...]
    tried: frozenset[int]
    paid_tries: int
    reason: str


def list_again(call: Call, result: CallResult) -> Iterator[Again]:
    """By failure, what its row allows: an offer that was busy may be asked again when it has cooled down."""
    for failure, slots in share_slots(call, result):
        follows = judge_failure(failure).next
        tried = call.tried if failure.code == Code.RATE_LIMITED else call.tried | {call.route.offer_id}
        channel = call.route.channel_name
        gone = failure.detail == WITHDRAWN.detail
        reason = f"after {channel} was taken out of service" if gone else f"after {channel} failed: {failure.code}"
        if slots and follows is Next.NEXT_CANDIDATE:
            yield Again(slots, tried, call.paid_tries, reason)
        elif slots and follows is Next.RETRY_IF_ALLOWED and call.paid_tries < call.route.retry_billed:
            yield Again(slots, tried, call.paid_tries + 1, reason)


def share_slots(call: Call, result: CallResult) -> list[tuple[Failure, tuple[int, ...]]]:
    """Each failure with its slots; those that no failure names belong to the first that names none."""
    taken = {picture.slot for picture in result.pictures} | {slot for one in result.failures for slot in one.slots}
    left = tuple(slot for slot in call.slots if slot not in taken)
    shares: list[tuple[Failure, tuple[int, ...]]] = []
    for failure in result.failures:
        shares.append((failure, failure.slots or left))
        left = left if failure.slots else ()
    return shares


def make_vain(ask: Ask, vain: NoRoom) -> CallResult:
    """Slots for which no call was made. There is no attempt to end, so it counts as booked."""
    if vain.retry_after_s is None:
        failure = Failure(Code.UNREACHABLE, Billed.NO, Scope.CHANNEL, "no channel is left that could serve it")
    else:
        failure = Failure(
            Code.RATE_LIMITED, Billed.NO, Scope.OFFER, "no room in time", retry_after_s=vain.retry_after_s
        )
    return CallResult(ask.number, Attempt.State.REJECTED, failures=(failure,), booked=True)


def make_withdrawn(call: Call) -> CallResult:
    """The channel went out of service between the grant and the submit."""
    return CallResult(call.number, Attempt.State.REJECTED, failures=(WITHDRAWN,))


def give_room_back(call: Call, result: CallResult, began: float) -> CallResult:
    took_ms = int((time.monotonic() - began) * 1000)
    return replace(result, capacity_id=call.route.capacity_id, took_ms=took_ms)


def make_report(order: Order, call: Call, result: CallResult) -> Report:
    """What the call says of its offer."""
    route = call.route
    first = result.failures[0] if result.failures else Failure("", "", "")
    return Report(
        offer_id=route.offer_id,
        channel_id=route.channel_id,
        credential_id=route.credential_id,
        ok=bool(result.pictures),
        code="" if result.pictures else first.code,
        scope="" if result.pictures else first.scope,
        billed="" if result.pictures else first.billed,
        detail="" if result.pictures else first.detail,
        ms=result.took_ms,
        retry_after_s=first.retry_after_s,
        generation_id=order.id,
        trial=is_trial(route),
    )
