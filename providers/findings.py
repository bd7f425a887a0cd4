"""The lines of a preflight that our own rows answer: what the other channel can do, at what cost, and how it fares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from models_registry.amounts import format_money
from models_registry.catalog import PublicModel
from models_registry.models import ImageModel
from providers.adapters import get_adapter_class
from providers.models import Capacity, Offer, OfferHealth
from providers.routing import NOTHING, load_routes
from providers.sizes import find_missing_sizes, name_sizes
from providers.swap import has_open_weights
from providers.words import (
    count,
    describe_circuit,
    describe_cooling,
    describe_limits,
    describe_role,
    describe_use,
    read_record,
)


class Level(StrEnum):
    OK = "ok"
    NOTICE = "notice"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the preflight. A refusal stands in the way of the swap, a notice does not."""

    level: Level
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A swap that could be made: who would take over from whom."""

    model: ImageModel
    public: PublicModel
    before: Offer
    successor: Offer


# --- what it can do ---


def check_sizes(plan: Plan) -> Iterator[Finding]:
    sizes = plan.successor.sizes
    if missing := find_missing_sizes(sizes, plan.public):
        text = f"It does not render {name_sizes(missing)}, which {plan.model} is sold in."
        yield Finding(Level.REFUSAL, "Sizes", text)
    elif not sizes:
        yield Finding(Level.OK, "Sizes", f"It renders every size of {plan.model}.")
    elif plan.public.size_range:
        text = f"Of the range that {plan.model} is sold in it renders only {', '.join(sizes)}."
        yield Finding(Level.NOTICE, "Sizes", text)
    else:
        yield Finding(Level.OK, "Sizes", "It renders every size that is sold.")


def check_n(plan: Plan) -> Iterator[Finding]:
    most, per_call = plan.model.max_n, plan.successor.max_n
    if per_call >= most:
        yield Finding(Level.OK, "n", f"A request for {count(most, 'image')} is one call.")
        return
    calls = -(-most // per_call)
    text = f"It makes {count(per_call, 'image')} a call: a request for {most} is fanned out into {calls} calls."
    yield Finding(Level.NOTICE, "n", text)


def check_fields(plan: Plan) -> Iterator[Finding]:
    """Requests with a field that it cannot pass on go round it, if there is a way round."""
    channel = plan.successor.channel
    missing = get_adapter_class(channel.kind).find_unsupported(channel.options)
    if not missing:
        yield Finding(Level.OK, "Fields", "It passes on everything that customers may send.")
        return
    routes = load_routes().get(plan.model.name, NOTHING).routes
    swapped = (plan.before.channel_id, channel.pk)
    others = [route for route in routes if route.channel_id not in swapped and not route.unsupported & missing]
    way = "go to " + ", ".join(dict.fromkeys(route.channel_name for route in others)) if others else "find no channel"
    text = f"It cannot pass on {', '.join(sorted(missing))}: requests with one of these will {way}."
    yield Finding(Level.NOTICE, "Fields", text)


def check_shape(plan: Plan) -> Iterator[Finding]:
    spoken = get_adapter_class(plan.successor.channel.kind).shape
    shape, published = plan.successor.shape, plan.model.execution_shape
    if shape != spoken:
        yield Finding(Level.REFUSAL, "Shape", f"The offer says {shape}, but {plan.successor.channel.kind} is {spoken}.")
    elif shape != published:
        text = f"It is {shape}, and {plan.model} is published as {published}: customers see no difference but the time."
        yield Finding(Level.NOTICE, "Shape", text)
    else:
        yield Finding(Level.OK, "Shape", f"It is {shape}, as {plan.model} is published.")


def check_identity(plan: Plan) -> Iterator[Finding]:
    """Whether it is the model that its public name says."""
    offer = plan.successor
    if not offer.genuine:
        yield Finding(Level.REFUSAL, "Genuine", f"{offer.upstream_model} is marked as not genuinely {plan.model}.")
    elif has_open_weights(offer):
        text = f"{offer.upstream_model} has open weights at {offer.channel.kind}: it is not {plan.model}."
        yield Finding(Level.REFUSAL, "Genuine", text)
    else:
        text = f"{offer.upstream_model} is declared to be genuinely {plan.model}, and has no open weights there."
        yield Finding(Level.OK, "Genuine", text)


# --- how much, and at what cost ---


def check_capacity(plan: Plan) -> Iterator[Finding]:
    theirs, ours = find_capacity_row(plan.successor), find_capacity_row(plan.before)
    said = describe_limits(theirs) + (f" ({describe_use(theirs)})" if theirs else "")
    text = f"{plan.successor.channel}: {said}; {plan.before.channel}: {describe_limits(ours)}."
    if is_smaller(theirs, ours):
        yield Finding(Level.NOTICE, "Capacity", f"Less than now. {text}")
    else:
        yield Finding(Level.OK, "Capacity", text)


def find_capacity_row(offer: Offer) -> Capacity | None:
    """The row of the account for this very model, else its row for all others, as routing looks it up."""
    if offer.channel.account_id is None:
        return None
    rows = Capacity.objects.filter(account=offer.channel.account_id, upstream_model__in=(offer.upstream_model, ""))
    return max(rows, key=lambda row: row.upstream_model, default=None)


def is_smaller(theirs: Capacity | None, ours: Capacity | None) -> bool:
    """In submits or in calls at a time; without a row there is no limit."""
    infinite = float("inf")

    def read(row: Capacity | None) -> tuple[float, float]:
        if row is None:
            return infinite, infinite
        rate = infinite if row.submit_interval_ms is None else 1 / row.submit_interval_ms
        return rate, infinite if row.max_running is None else row.max_running

    return any(one < other for one, other in zip(read(theirs), read(ours), strict=True))


def check_cost(plan: Plan) -> Iterator[Finding]:
    cost, currency = plan.successor.cost_micros, plan.successor.cost_currency
    price = plan.public.price
    if price is None:
        yield Finding(Level.NOTICE, "Price", f"{plan.model} has no price in force: it is not sold now.")
    if cost is None:
        yield Finding(Level.NOTICE, "Cost", "What an image costs there is not written down.")
        return
    said = f"An image costs {format_money(cost, currency)}"
    if price is not None and currency != price.currency:
        sold = format_money(price.amount_micros, price.currency)
        text = f"{said} and is sold at {sold}: different currencies, not converted."
        yield Finding(Level.NOTICE, "Cost", text)
    elif price is not None and cost > price.amount_micros:
        loss = format_money(cost - price.amount_micros, currency)
        yield Finding(Level.NOTICE, "Cost", f"{said}, {loss} more than it is sold at.")
    elif price is not None:
        left = format_money(price.amount_micros - cost, currency)
        yield Finding(Level.OK, "Cost", f"{said}, and {left} of its price is left.")
    yield compare_cost(plan.before, cost, currency)


def compare_cost(before: Offer, cost: int, currency: str) -> Finding:
    subject, channel = "Cost against now", before.channel
    if before.cost_micros is None:
        return Finding(Level.OK, subject, f"What an image costs at {channel} is not written down.")
    now = format_money(before.cost_micros, before.cost_currency)
    if before.cost_currency != currency:
        return Finding(Level.NOTICE, subject, f"At {channel} it costs {now}: different currencies, not converted.")
    if cost > before.cost_micros:
        more = format_money(cost - before.cost_micros, currency)
        return Finding(Level.NOTICE, subject, f"{more} more than at {channel}, where it costs {now}.")
    if cost == before.cost_micros:
        return Finding(Level.OK, subject, f"As much as at {channel}.")
    return Finding(
        Level.OK, subject, f"{format_money(before.cost_micros - cost, currency)} less than at {channel} ({now})."
    )


# --- how it fares ---


def check_health(plan: Plan) -> Iterator[Finding]:
    health: OfferHealth | None = getattr(plan.successor, "health", None)
    circuit = health.circuit if health else OfferHealth.Circuit.CLOSED
    levels = {OfferHealth.Circuit.OPEN: Level.REFUSAL, OfferHealth.Circuit.HALF_OPEN: Level.NOTICE}
    said = f"Its circuit is {describe_circuit(health).rstrip('.')}"
    end = "; reset it if the trouble is over" if circuit == OfferHealth.Circuit.OPEN else ""
    yield Finding(levels.get(OfferHealth.Circuit(circuit), Level.OK), "Circuit", f"{said}{end}.")
    if cooling := describe_cooling(health):
        yield Finding(Level.NOTICE, "Cooling", f"It {cooling.rstrip('.')}.")
    record = read_record(health)
    yield Finding(Level.OK, "Recent calls", f"{record.summary[:1].upper()}{record.summary[1:]}.")


def check_role(plan: Plan) -> Iterator[Finding]:
    """A successor that was on trial is no more; one that takes the place of a canary becomes one."""
    if plan.successor.canary_fallen_at is not None:
        text = f"It is a {describe_role(plan.successor).rstrip('.')}. Restart it first, if the trouble is over."
        yield Finding(Level.REFUSAL, "Trial", text)
    elif role := describe_role(plan.successor):
        yield Finding(Level.NOTICE, "Trial", f"It is a {role}: that ends with the swap.")
    if plan.before.canary_percent is not None:
        text = f"{plan.before.channel} is a {describe_role(plan.before)}: it becomes that in its place."
        yield Finding(Level.NOTICE, "Trial", text)


def check_simulated(plan: Plan) -> Iterator[Finding]:
    if plan.successor.channel.simulated and not plan.before.channel.simulated:
        text = "Its pictures are drawn by the simulator: they are not for sale."
        yield Finding(Level.REFUSAL, "Simulated", text)
