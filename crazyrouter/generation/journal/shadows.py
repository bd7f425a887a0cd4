"""Copies of customers' requests for offers on trial: opened within their caps, in room that nobody waits for.

Their attempts stand beside the customer's, with numbers of their own. What becomes of them: `shadow_ends`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.generation.allocation import Allocator
from crazyrouter.generation.journal.attempts import make_attempt_row
from crazyrouter.generation.journal.queue import open_allocator
from crazyrouter.generation.order import Ask, Call
from crazyrouter.sql import Statement, read_epoch_ms
from providers.capacity import store_rooms

#: Where the numbers of copies begin: no generation asks for itself so often.
FIRST_NUMBER = 1001


# --- opening ---


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that may be made: an ask whose one candidate is the offer on trial.

    `shared` says that customers' calls may need the same capacity: one of its places is then left to them.
    """

    ask: Ask
    shared: bool = False

    @property
    def offer_id(self) -> int:
        return self.ask.decision.candidates[0].offer_id

    @property
    def name(self) -> tuple[str, int]:
        return self.ask.order.id, self.ask.number

    @property
    def capacity_ids(self) -> tuple[int, ...]:
        return self.ask.capacity_ids


@dataclass(frozen=True, slots=True)
class Opened:
    """The call to make, if it may be made. `busy`: somebody else was counting the offer's copies; ask again."""

    call: Call | None = None
    busy: bool = False


READ_COPIES = Statement(
    """
    SELECT a.generation_id, a.number, a.purpose = 'shadow' AND a.offer_id = r.offer_id AND a.state = 'created'
    FROM {rows} JOIN generation_attempt a ON a.generation_id = r.generation_id AND a.number = r.number
    """,
    generation_id="text",
    number="integer",
    offer_id="bigint",
)

# As the rows are now: what a process knows of consent is up to two seconds old.
READ_WILLING = Statement(
    """
    SELECT g.id FROM {rows} JOIN generation_generation g ON g.id = r.id JOIN billing_account a ON a.id = g.account_id
    WHERE a.shadow_allowed AND g.state || '' <> 'running'
    """,
    id="text",
)

ON_TRIAL = """
    SELECT o.id, o.shadow_per_day
    FROM {rows} JOIN providers_offer o ON o.id = r.id JOIN providers_channel c ON c.id = o.channel_id
    WHERE o.enabled AND o.shadow_percent IS NOT NULL AND c.enabled AND c.draining_since IS NULL
    ORDER BY o.id
"""
# No group commit with customers' calls in it waits for a lock of a copy.
CLAIM_OFFERS = Statement(ON_TRIAL + "{claim:o}", id="bigint")
READ_OFFERS = Statement(ON_TRIAL, id="bigint")

# With a value of its own to compare with: whatever the tables hold when this is planned, only one day is read.
COUNT_COPIES = Statement(
    """
    SELECT offer_id, count(*) FROM generation_attempt WHERE purpose = 'shadow' AND created_at >= %s GROUP BY offer_id
    """
)

INSERT_COPIES = Statement(
    """
    INSERT INTO generation_attempt (generation_id, number, slots, purpose, offer_id, channel_id, credential_id,
        base_url, upstream_model, shape, cost_micros, cost_currency, capacity_id, state, task_id, upstream_id, code,
        billed, detail, images, routing, created_at)
    SELECT r.generation_id, r.number, r.slots, 'shadow', r.offer_id, r.channel_id, r.credential_id, r.base_url,
        r.upstream_model, r.shape, r.cost_micros, r.cost_currency, r.capacity_id, 'created', '', '', '',
        '', '', 0, r.routing, {now}
    FROM {rows}
    """,
    generation_id="text",
    number="integer",
    slots="jsonb",
    offer_id="bigint",
    channel_id="bigint",
    credential_id="bigint",
    base_url="text",
    upstream_model="text",
    shape="text",
    cost_micros="bigint",
    cost_currency="text",
    capacity_id="bigint",
    routing="jsonb",
)


def open_shadows(connection: BaseDatabaseWrapper, items: Sequence[Copy]) -> list[Opened]:
    """Write the attempts of those copies that may be sent, and take their room.

    Whoever counts the copies of an offer holds its row until the count is one higher: over all processes there are
    never more a day than the offer allows. Run again after a lost connection it finds what its first run has written.
    """
    known = {
        (generation_id, number): ours
        for generation_id, number, ours in READ_COPIES.run(connection, [make_name_row(item) for item in items])
    }
    wanted = [item for item in items if item.name not in known]
    willing = read_willing(connection, wanted)
    left, busy = claim_offers(connection, [item for item in wanted if item.ask.order.id in willing])
    fit = [item for item in wanted if item.ask.order.id in willing and item.offer_id in left]
    calls = take_room(connection, fit, left)
    if calls:
        rows = [make_attempt_row(item.ask.order, calls[item.name], "") for item in fit if item.name in calls]
        INSERT_COPIES.send(connection, rows)
    calls |= {item.name: rebuild_call(item) for item in items if known.get(item.name)}
    return [Opened(calls.get(item.name), item.name not in calls and item.offer_id in busy) for item in items]


def make_name_row(item: Copy) -> dict[str, Any]:
    generation_id, number = item.name
    return {"generation_id": generation_id, "number": number, "offer_id": item.offer_id}


def rebuild_call(item: Copy) -> Call:
    return Call(item.ask.number, item.ask.slots, item.ask.decision.candidates[0])


def read_willing(connection: BaseDatabaseWrapper, items: Sequence[Copy]) -> set[str]:
    """Generations that have ended, of accounts that agree."""
    rows = [{"id": one} for one in sorted({item.ask.order.id for item in items})]
    return {generation_id for (generation_id,) in READ_WILLING.run(connection, rows)} if rows else set()


def claim_offers(connection: BaseDatabaseWrapper, items: Sequence[Copy]) -> tuple[dict[int, int], set[int]]:
    """How many copies each offer may still get today, its row held; and offers whose row somebody else holds."""
    rows = [{"id": one} for one in sorted({item.offer_id for item in items})]
    if not rows:
        return {}, set()
    caps: dict[int, int] = dict(CLAIM_OFFERS.run(connection, rows))
    busy: set[int] = set()
    if len(caps) < len(rows):
        busy = {pk for pk, _ in READ_OFFERS.run(connection, rows)} - caps.keys()
    return subtract_copies(connection, caps), busy


def subtract_copies(connection: BaseDatabaseWrapper, caps: Mapping[int, int]) -> dict[int, int]:
    if not caps:
        return {}
    since = connection.ops.adapt_datetimefield_value(find_midnight(read_epoch_ms(connection)))
    counts: dict[int, int] = dict(COUNT_COPIES.fetch(connection, since))
    return {pk: max(0, cap - counts.get(pk, 0)) for pk, cap in caps.items()}


def find_midnight(now_ms: int) -> datetime:
    """When the day of this moment began, by the clocks of our operators."""
    now = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(settings.TIME_ZONE))
    return now.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def take_room(
    connection: BaseDatabaseWrapper, items: Sequence[Copy], left: dict[int, int]
) -> dict[tuple[str, int], Call]:
    """The calls that there is room for now; none of them waits, and `left` is counted down."""
    if not items:
        return {}
    calls: dict[tuple[str, int], Call] = {}
    allocator = open_allocator(connection, [item.ask for item in items])
    for item in items:
        if left[item.offer_id] and (not item.shared or leaves_room(allocator, item)):
            granted, _ = allocator.start(item.ask)
            if granted:
                calls[item.name] = granted[0]
                left[item.offer_id] -= 1
    store_rooms(connection, allocator.rooms.values())
    return calls


def leaves_room(allocator: Allocator, item: Copy) -> bool:
    """Whether a customer's call could start beside the copy."""
    for one in item.capacity_ids:
        room = allocator.seen.get(one)
        if room is not None and room.has_room(allocator.now_ms):
            after = replace(room)
            after.take(allocator.now_ms)
            return after.has_room(allocator.now_ms)
    return True
