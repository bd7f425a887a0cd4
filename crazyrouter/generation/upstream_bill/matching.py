"""Which attempt an order on the bill belongs to.

It is the one that has one of its ids: the task's, or the call's. What has no id, since its answer was lost, is paired
by likeness: the same key, model, number of pictures and prompt, the oldest with the oldest.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crazyrouter.generation.upstream_bill.rows import BilledOrder, SentCall, State

Pair = tuple[SentCall, BilledOrder]


@dataclass(frozen=True, slots=True)
class Matched:
    """What belongs together, and what is left on either side."""

    pairs: tuple[Pair, ...]
    twice: tuple[Pair, ...]
    calls: tuple[SentCall, ...]
    orders: tuple[BilledOrder, ...]


def match(orders: Sequence[BilledOrder], calls: Sequence[SentCall]) -> Matched:
    by_id = {name: order for order in orders for name in (order.request_id, order.task_id) if name}
    pairs: list[Pair] = []
    twice: list[Pair] = []
    left: list[SentCall] = []
    taken: set[int] = set()
    for call in calls:
        order = by_id.get(call.task_id) or by_id.get(call.upstream_id)
        if order is None:
            left.append(call)
        elif order.id in taken:
            twice.append((call, order))
        else:
            taken.add(order.id)
            pairs.append((call, order))
    alike = pair_by_likeness([order for order in orders if order.id not in taken], left)
    paired_calls = {call.name for call, _ in alike}
    taken.update(order.id for _, order in alike)
    return Matched(
        pairs=(*pairs, *alike),
        twice=tuple(twice),
        calls=tuple(call for call in left if call.name not in paired_calls),
        orders=tuple(order for order in orders if order.id not in taken),
    )


#: Which ends of ours an order may have come to, the likeliest first.
_ENDS_OF_ACCEPTED = ((State.UNKNOWN, State.CREATED), (State.SUCCEEDED, State.FAILED, State.ACCEPTED), (State.REJECTED,))
_ENDS_OF_REFUSED = ((State.REJECTED,), (State.UNKNOWN, State.CREATED), (State.SUCCEEDED, State.FAILED, State.ACCEPTED))


def pair_by_likeness(orders: Iterable[BilledOrder], calls: Iterable[SentCall]) -> list[Pair]:
    """Attempts without an id, each with an order that it may be; what was accepted has the first choice."""
    waiting: defaultdict[tuple[str, str, int, str, str], deque[SentCall]] = defaultdict(deque)
    for call in sorted(calls, key=lambda call: call.created_at):
        if not call.has_id:
            waiting[call.key_last4, call.model, call.slots, call.prompt, call.state].append(call)
    pairs = []
    for order in sorted(orders, key=lambda order: (order.accepted is False, order.id)):
        ends = _ENDS_OF_REFUSED if order.accepted is False else _ENDS_OF_ACCEPTED
        found = find_alike(order, ends, waiting)
        if found:
            pairs.append((found.popleft(), order))
    return pairs


def find_alike(
    order: BilledOrder,
    ends: Sequence[Sequence[str]],
    waiting: Mapping[tuple[str, str, int, str, str], deque[SentCall]],
) -> deque[SentCall] | None:
    """Attempts that the order may be, the oldest first; an erased prompt is like any."""
    for states in ends:
        for prompt in dict.fromkeys((order.prompt, "")):
            lines = [waiting.get((order.key_last4, order.model, order.n, prompt, state)) for state in states]
            found = [line for line in lines if line]
            if found:
                return min(found, key=lambda line: line[0].created_at)
    return None
