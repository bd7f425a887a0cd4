"""What is not the same on both sides, from rows alone; and, as notices, what explains itself.

order-has-an-attempt      the upstream was ordered something that no attempt of ours knows
order-has-one-attempt     two attempts have the ids of one order
attempt-is-on-the-bill    the upstream knows nothing of an attempt that says it answered
end-is-the-same           one side says refused, the other accepted
charged-is-counted        pictures charged, and pictures that we count as cost
model-, count-, key-, account-is-the-same
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

from billing.reconcile import Violation
from crazyrouter.generation.upstream_bill.matching import Pair, match
from crazyrouter.generation.upstream_bill.rows import BilledOrder, SentCall, State, UpstreamBill, add_up, print_range


def compare(bill: UpstreamBill, calls: Sequence[SentCall], *, read_at: datetime, older: int = 0) -> Iterator[Violation]:
    """Every difference, and as notices what explains itself.

    `calls` were read at `read_at`, before the bill was; `older` ones are not among them, being too old to be on it.
    """
    matched = match(bill.orders, calls)
    yield from tell_forgotten(bill, calls)
    for call, order in matched.pairs:
        yield from compare_pair(call, order)
    for call, order in matched.twice:
        yield Violation("order-has-one-attempt", call.name, f"has the ids of {order.name}, which another attempt has")
    yield from compare_accounts(matched.pairs)
    for order in matched.orders:
        yield name_stray_order(order, read_at)
    yield from tell_older(matched.calls, bill, older)
    yield from name_stray_calls(matched.calls, bill)


def compare_pair(call: SentCall, order: BilledOrder) -> Iterator[Violation]:
    if order.model and order.model != call.model:
        yield differ("model-is-the-same", call, order, f"asked for {call.model}", f"has {order.model}")
    if order.n and order.n != call.slots:
        yield differ("count-is-the-same", call, order, f"asked for {call.slots} picture(s)", f"has {order.n}")
    if order.key_last4 != call.key_last4:
        yield differ("key-is-the-same", call, order, f"sent with key …{call.key_last4}", f"has …{order.key_last4}")
    if contradicts(call.state, order.accepted):
        yield differ("end-is-the-same", call, order, call.state, f"says {order.verdict}")
    yield from compare_charge(call, order)


def differ(rule: str, call: SentCall, order: BilledOrder, here: str, there: str) -> Violation:
    return Violation(rule, call.name, f"{here}, the bill {there} for {order.name}")


def contradicts(state: str, accepted: bool | None) -> bool:
    """Whether one side has taken what the other says was refused, or ended what the other still decides."""
    if state in (State.UNKNOWN, State.CREATED):
        return False
    if accepted is None:
        return state != State.ACCEPTED
    return accepted is (state == State.REJECTED)


def compare_charge(call: SentCall, order: BilledOrder) -> Iterator[Violation]:
    fewest, most = call.cost
    charged = f"the bill charges {order.charged} picture(s) for {order.name}"
    if not fewest <= order.charged <= most:
        counted = print_range(fewest, most)
        yield Violation("charged-is-counted", call.name, f"{charged}, we count {counted}")
    elif call.runs:
        yield Violation("attempt-is-running", call.name, f"is {call.state}; {charged}", notice=True)
    elif fewest != most:
        said = f"{call.state}, billed {call.billed or 'unknown'}, {print_range(fewest, most)}"
        yield Violation("attempt-may-be-charged", call.name, f"is {said}; {charged}", notice=True)


def compare_accounts(pairs: Sequence[Pair]) -> Iterator[Violation]:
    """An upstream account of ours, or a key without one, is one account there, and one of theirs is one of ours."""
    there: defaultdict[str, Counter[str]] = defaultdict(Counter)
    here: defaultdict[str, set[str]] = defaultdict(set)
    for call, order in pairs:
        if order.account:
            there[name_owner(call)][order.account] += 1
            if call.account:
                here[order.account].add(call.account)
    own = {owner: counts.most_common(1)[0][0] for owner, counts in there.items()}
    for call, order in pairs:
        expected = own.get(name_owner(call), "")
        if order.account not in ("", expected):
            detail = f"of {name_owner(call)}, whose orders are those of {expected} there"
            yield differ("account-is-the-same", call, order, detail, f"has {order.account}")
    for account, names in sorted(here.items()):
        if len(names) > 1:
            detail = f"one account there, {len(names)} here, whose limits are counted apart: {', '.join(sorted(names))}"
            yield Violation("account-is-one-here", account, detail, notice=True)


def name_owner(call: SentCall) -> str:
    return f"account {call.account}" if call.account else f"credential {call.credential_id}"


def name_stray_order(order: BilledOrder, read_at: datetime) -> Violation:
    """One that no attempt knows, unless it came when our side had been read already."""
    what = f"{order.n} of {order.model}" if order.n else order.model or "unread"
    facts = f"{what} by key …{order.key_last4}, {order.verdict}, {order.charged} picture(s) charged"
    if order.received_at > read_at:
        return Violation("order-is-too-new", order.name, f"came while this was read: {facts}", notice=True)
    return Violation("order-has-an-attempt", order.name, f"no attempt knows it: {facts}")


def name_stray_calls(calls: Sequence[SentCall], bill: UpstreamBill) -> Iterator[Violation]:
    """Those that the bill should know, and does not."""
    for call in calls:
        if call.created_at < bill.complete_since:
            continue
        if call.state == State.CREATED:
            yield Violation("attempt-is-running", call.name, "is created; the bill has no such order yet", notice=True)
        elif call.has_id or call.state not in (State.UNKNOWN, State.REJECTED):
            detail = f"is {call.state} ({call.task_id or call.upstream_id or 'no id'}), the bill has no such order"
            yield Violation("attempt-is-on-the-bill", call.name, detail)
        elif call.state == State.UNKNOWN:
            detail = "is unknown: the bill has no order like it, so that it never arrived, and costs nothing"
            yield Violation("attempt-may-be-charged", call.name, detail, notice=True)


def tell_older(calls: Sequence[SentCall], bill: UpstreamBill, older: int) -> Iterator[Violation]:
    """That some cannot be on the bill, which was begun, or is kept, only after them."""
    begun = bill.complete_since
    number = older + sum(call.created_at < begun for call in calls)
    if number:
        detail = f"begins at {begun.isoformat()}: {number} older attempt(s) cannot be on it, and are not compared"
        yield Violation("attempt-is-older-than-the-bill", "the bill", detail, notice=True)


def tell_forgotten(bill: UpstreamBill, calls: Sequence[SentCall]) -> Iterator[Violation]:
    """That the bill is longer than what is kept of it; then its sum must do for what is older."""
    if not bill.forgotten:
        return
    detail = (
        f"{bill.forgotten} entries are forgotten: its totals say {bill.ordered} orders with {bill.charged} picture(s), "
        f"one by one only those from {bill.complete_since.isoformat()} on are compared"
    )
    yield Violation("bill-is-complete", "the bill", detail, notice=True)
    fewest, most = add_up(call for call in calls if call.created_at >= bill.since)
    if not fewest <= bill.charged <= most:
        detail = f"{bill.charged} picture(s) are charged in all, we count {print_range(fewest, most)}"
        yield Violation("charged-is-counted", "the sum", detail)
