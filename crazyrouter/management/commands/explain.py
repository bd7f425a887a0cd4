"""`manage.py explain MODEL`: who would serve a request now, who would not and why, and how long it would wait."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from crazyrouter.generation.allocation import Allocator, Placement
from crazyrouter.generation.journal.queue import read_crowds
from crazyrouter.generation.order import PASSED_ON, Ask, Order
from crazyrouter.sql import read_epoch_ms
from models_registry.amounts import format_money
from models_registry.catalog import PublicModel, load_catalog
from models_registry.limits import Refused, check_n, choose_render_size, choose_size
from providers.capacity import Room, load_rooms
from providers.models import Capacity, OfferHealth
from providers.routing import NOTHING, Decision, Exclusion, Listing, Route, Wish, choose, load_routes
from providers.sizes import name_size
from providers.words import count, describe_circuit, describe_cooling, describe_limits, describe_ms, read_record


class Command(BaseCommand):
    help = "Say what would become of a request now: candidates, exclusions, the calls it is made of, the wait."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model")
        parser.add_argument("--size", metavar="WxH", help="as customers write it; the model's default without")
        parser.add_argument("--n", type=int, default=1, metavar="N", help="how many images")
        parser.add_argument("--fields", default="", metavar="A,B", help=f"of {', '.join(sorted(PASSED_ON))}")

    def handle(self, *args: Any, model: str, size: str | None, n: int, fields: str, **options: Any) -> None:
        try:
            question = read_question(model, size, n, fields)
        except Refused as refused:
            raise CommandError(str(refused)) from None
        for line in explain(question):
            self.stdout.write(line)


@dataclass(frozen=True, slots=True)
class Question:
    """A request as far as routing goes by it; `size` is what the customer asks for."""

    model: PublicModel
    size: tuple[int, int]
    wish: Wish
    n: int


def read_question(name: str, size: str | None, n: int, fields: str) -> Question:
    """Raises CommandError, Refused."""
    catalog = load_catalog()
    model = catalog.get(name)
    if model is None:
        raise CommandError(f"{name!r} is not sold: there are {', '.join(sorted(catalog)) or 'no models'}")
    wanted = frozenset(field.strip() for field in fields.split(",") if field.strip())
    if unknown := wanted - PASSED_ON:
        raise CommandError(f"--fields takes {', '.join(sorted(PASSED_ON))}, not {', '.join(sorted(unknown))}")
    asked = choose_size(model, size)
    return Question(model, asked, Wish(choose_render_size(model, asked), wanted), check_n(model, n))


def explain(question: Question) -> Iterator[str]:
    """Line by line. Reads one moment after another and locks nothing: the next request may find it changed."""
    model, listing = question.model, load_routes().get(question.model.name, NOTHING)
    decision = choose(listing, question.wish)
    rendered = "" if question.wish.size == question.size else f", rendered at {name_size(question.wish.size)}"
    yield f"{model.name} at {name_size(question.size)}{rendered}, n = {question.n}"
    if model.price is None:
        yield "It has no price in force: every request is answered 503 model_unavailable."
    view = read_view(decision)
    yield from explain_candidates(decision, view)
    yield from explain_trials(listing)
    yield from explain_exclusions(decision)
    yield from explain_calls(question, decision, view)


@dataclass(frozen=True, slots=True)
class View:
    """What the database says of the candidates' room and health."""

    now_ms: int
    rooms: dict[int, Room]
    limits: dict[int, Capacity]
    health: dict[int, OfferHealth]
    allocator: Allocator


def read_view(decision: Decision) -> View:
    ids = {route.capacity_id for route in decision.candidates if route.capacity_id is not None}
    now_ms, rooms = read_epoch_ms(connection), load_rooms(connection, ids) if ids else {}
    # The one trial of a half-open circuit is not claimed, only supposed to be free.
    allocator = Allocator(now_ms, rooms, read_crowds(connection), lambda route, ask: True)
    offers = [route.offer_id for route in decision.candidates]
    return View(now_ms, rooms, Capacity.objects.in_bulk(ids), OfferHealth.objects.in_bulk(offers), allocator)


# --- who ---


def explain_candidates(decision: Decision, view: View) -> Iterator[str]:
    yield ""
    if not decision.candidates:
        yield "Candidates: none. Every such request is answered 503 no_channel_available."
        return
    yield "Candidates, in the order in which they are asked for room (drawn by weight within a priority):"
    for place, route in enumerate(decision.candidates, start=1):
        yield f"  {place}. {describe_offer(route)}"
        yield f"     room: {describe_room(route, view)}"
        yield f"     health: {describe_health(view.health.get(route.offer_id))}"


def describe_offer(route: Route) -> str:
    cost = "unknown cost" if route.cost_micros is None else format_money(route.cost_micros, route.cost_currency)
    return (
        f"{name_offer(route)}: priority {route.priority}, weight {route.weight}, "
        f"{route.upstream_model}, {route.shape}, {count(route.max_n, 'image')} a call, {cost} an image"
    )


def describe_room(route: Route, view: View) -> str:
    limits, room = view.limits.get(route.capacity_id or 0), view.rooms.get(route.capacity_id or 0)
    if limits is None or room is None:
        return "no limit is known"
    ready = room.find_ready_ms(view.now_ms) - view.now_ms
    when = "now" if room.has_room(view.now_ms) else f"in about {describe_ms(ready)}"
    waiting = sum(calls for (_, wants), calls in view.allocator.queued.items() if room.id in wants)
    queue = f"; {count(waiting, 'call')} wait for it" if waiting else ""
    return f"{describe_limits(limits)}; {room.running} running; the next call can start {when}{queue}"


def describe_health(health: OfferHealth | None) -> str:
    said = [f"circuit {describe_circuit(health)}", describe_cooling(health), read_record(health).summary]
    return "; ".join(part for part in said if part)


def explain_trials(listing: Listing) -> Iterator[str]:
    canaries = [route for route in listing.routes if route.canary_percent is not None]
    if canaries or listing.shadows:
        yield from ("", "On trial:")
    for route in canaries:
        yield f"  {name_offer(route)}: a canary, the first choice of {route.canary_percent} % of requests"
    for route in listing.shadows:
        copies = f"copies of {route.shadow_percent} % of requests, at most {route.shadow_per_day:,} a day"
        yield f"  {name_offer(route)}: a shadow, gets {copies}, of accounts that agreed"


def name_offer(offer: Route | Exclusion) -> str:
    return f"{offer.channel_name} (offer {offer.offer_id})"


def explain_exclusions(decision: Decision) -> Iterator[str]:
    if decision.excluded:
        yield from ("", "Not candidates:")
        for one in decision.excluded:
            yield f"  {name_offer(one)}: {one.why}"


# --- how ---


def explain_calls(question: Question, decision: Decision, view: View) -> Iterator[str]:
    """As the queue would place it for an account that nothing else runs for."""
    if not decision.candidates:
        return
    ask = make_ask(question, decision)
    wait_s = view.allocator.estimate_wait_s(ask)
    placement = view.allocator.place(ask, limit_s=settings.QUEUE_LIMIT_S)
    yield ""
    if placement.retry_after_s is not None:
        yield (
            f"It would be answered 429 rate_limit_exceeded: the first call would wait about {wait_s:.0f} s, and "
            f"QUEUE_LIMIT_S is {settings.QUEUE_LIMIT_S:g}. Retry-After: {placement.retry_after_s}"
        )
        return
    yield f"{count(question.n, 'image')} now:"
    yield from describe_placement(placement, wait_s)


def describe_placement(placement: Placement, wait_s: float) -> Iterator[str]:
    for call in placement.calls:
        yield f"  call {call.number}: {name_slots(call.slots)} to {call.route.channel_name}, at once"
    for place, ask in enumerate(placement.waiting):
        wait = f", about {wait_s:.1f} s" if not placement.calls and not place else ""
        yield f"  call {ask.number}: {name_slots(ask.slots)} waits for room{wait}"


def name_slots(slots: tuple[int, ...]) -> str:
    return f"slot{'' if len(slots) == 1 else 's'} {', '.join(map(str, slots))}"


def make_ask(question: Question, decision: Decision) -> Ask:
    """An order of nobody, which is never placed."""
    model = question.model
    order = Order(
        id="",
        account_id=0,
        api_key_id=0,
        key_prefix="",
        model_id=model.id,
        model_name=model.name,
        unit_price_micros=model.price.amount_micros if model.price else 0,
        price_version=model.price.version if model.price else 0,
        account_price_version=None,
        prompt="",
        options={},
        size=question.size,
        render_size=question.wish.size,
        n=question.n,
        response_format="url",
    )
    return Ask(order, 1, tuple(range(question.n)), decision)
