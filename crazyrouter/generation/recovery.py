"""What a taken-over generation still needs, read from its rows: from there the same driver goes on as ever.

no attempt for a slot       never sent: it is ordered now, while its deadline lasts
attempt `created`           may have been sent, and its answer is lost: `unknown`
attempt `accepted`          a task at the upstream: polled on, with the credential and address it was sent with
attempt ended               as the driver that is gone has booked it; the next candidate, where that is allowed
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import F, Q

from crazyrouter.files.models import StoredImage
from crazyrouter.files.store import StoredPicture
from crazyrouter.generation.allocation import Placement
from crazyrouter.generation.driver import Broken
from crazyrouter.generation.models import Attempt, Generation, IdempotencyKey
from crazyrouter.generation.order import Call, CallResult, Failure, Idempotency, Order
from crazyrouter.sql import read_clock
from providers.contract import Billed, Code, Pending, Scope
from providers.models import Channel, Credential
from providers.routing import Decision, Route

#: Even past its horizon a task is asked once more before it is given up.
LEAST_PATIENCE_S = 30.0
FIRST_POLL_S = 0.5
#: Trouble with the customer's request; everything else an attempt keeps is the upstream's.
REQUEST_CODES = frozenset({Code.BAD_REQUEST, Code.CONTENT_POLICY})
LOST = Failure(Code.CONNECTION_LOST, Billed.UNKNOWN, Scope.OFFER, "the process that sent it stopped before an answer")


@dataclass(frozen=True, slots=True)
class Resumption:
    """A generation as its rows tell it. `unsent` are slots without an attempt; `left_s` the time to its deadline."""

    order: Order
    ended: tuple[CallResult, ...]
    accepted: tuple[Call, ...]
    broken: tuple[Broken, ...]
    unsent: tuple[int, ...]
    next_number: int
    left_s: float


def load_expired() -> bool:
    """Whether there is anything to take over; read before anything is written for it."""
    now = read_clock(connection)
    return Generation.objects.filter(state=Generation.State.RUNNING, lease_expires_at__lte=now).exists()


def load_newest_credential(channel_id: int) -> str | None:
    """The ciphertext of the newest secret of the channel and of all others on its upstream account: they share keys."""
    sharing = Channel.objects.filter(account__channels=channel_id)
    rows = Credential.objects.filter(Q(channel_id=channel_id) | Q(channel__in=sharing)).exclude(ciphertext="")
    return rows.order_by("-id").values_list("ciphertext", flat=True).first()


def load_resumptions(ids: Sequence[str]) -> list[Resumption]:
    """Five queries, whatever their number."""
    now = read_clock(connection)
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in (
        Attempt.objects.filter(generation_id__in=ids, purpose=Attempt.Purpose.CUSTOMER)
        .select_related("channel__account", "credential")
        .order_by("generation_id", "number")
    ):
        attempts[attempt.generation_id].append(attempt)
    pictures: dict[str, dict[int, StoredPicture]] = defaultdict(dict)
    for row in StoredImage.objects.filter(generation_id__in=ids):
        pictures[row.generation_id][row.slot] = make_picture(row)
    keys = {row.generation_id: row for row in IdempotencyKey.objects.filter(generation_id__in=ids)}
    rows = Generation.objects.filter(pk__in=ids).annotate(model_name=F("model__name"), key_prefix=F("api_key__prefix"))
    return [
        resume(
            rebuild_order(row, keys.get(row.id)),
            attempts[row.id],
            pictures[row.id],
            now=now,
            deadline_at=row.deadline_at,
        )
        for row in rows
    ]


def rebuild_order(row: Any, key: IdempotencyKey | None) -> Order:
    """The order as it was opened."""
    return Order(
        id=row.id,
        account_id=row.account_id,
        api_key_id=row.api_key_id,
        key_prefix=row.key_prefix,
        model_id=row.model_id,
        model_name=row.model_name,
        unit_price_micros=row.unit_price_micros,
        price_version=row.price_id,
        account_price_version=row.account_price_id,
        prompt=row.prompt,
        options=row.options,
        size=(row.width, row.height),
        render_size=(row.render_width, row.render_height),
        n=row.n,
        response_format=row.response_format,
        request_hash=row.request_hash,
        idempotency=None if key is None else Idempotency(key.key, key.body_hash, key.order_hash),
    )


def resume(
    order: Order,
    attempts: Sequence[Attempt],
    pictures: Mapping[int, StoredPicture],
    *,
    now: datetime,
    deadline_at: datetime,
) -> Resumption:
    latest = {slot: attempt.number for attempt in attempts for slot in attempt.slots}
    ended: list[CallResult] = []
    accepted: list[Call] = []
    broken: list[Broken] = []
    for attempt in attempts:
        if attempt.state == Attempt.State.ACCEPTED:
            accepted.append(rebuild_task(attempt, attempts, now))
            continue
        result = rebuild_result(attempt, pictures, now)
        # Slots for which a further attempt was granted already are that attempt's.
        left = tuple(slot for slot in attempt.slots if latest[slot] == attempt.number and slot not in pictures)
        if result.failures and left:
            broken.append((replace(rebuild_call(attempt, attempts), slots=left), result))
        else:
            ended.append(result)
    return Resumption(
        order=order,
        ended=tuple(ended),
        accepted=tuple(accepted),
        broken=tuple(broken),
        unsent=tuple(slot for slot in range(order.n) if slot not in latest),
        next_number=max((attempt.number for attempt in attempts), default=0) + 1,
        left_s=(deadline_at - now).total_seconds(),
    )


def rebuild_result(attempt: Attempt, pictures: Mapping[int, StoredPicture], now: datetime) -> CallResult:
    """What is known of an attempt that nobody waits for any more."""
    if attempt.state == Attempt.State.CREATED:
        held_ms = int((now - attempt.created_at).total_seconds() * 1000)
        return CallResult(
            attempt.number,
            Attempt.State.UNKNOWN,
            failures=(LOST,),
            capacity_id=attempt.capacity_id,
            took_ms=max(0, held_ms),
        )
    scope = Scope.REQUEST if attempt.code in REQUEST_CODES else Scope.OFFER
    failure = Failure(attempt.code, attempt.billed, scope, attempt.detail)
    return CallResult(
        number=attempt.number,
        state=attempt.state,
        # A picture of its slots may as well be a later attempt's.
        pictures=tuple(pictures[slot] for slot in attempt.slots if attempt.images and slot in pictures),
        failures=(failure,) if attempt.code else (),
        upstream_id=attempt.upstream_id,
        booked=True,
    )


def rebuild_call(attempt: Attempt, attempts: Sequence[Attempt]) -> Call:
    """The call with who has been tried for its slots before."""
    earlier = [other for other in attempts if other.number < attempt.number and set(other.slots) & set(attempt.slots)]
    tried = frozenset(other.offer_id or 0 for other in earlier if other.code != Code.RATE_LIMITED)
    paid_tries = sum(other.billed != Billed.NO for other in earlier)
    return Call(attempt.number, tuple(attempt.slots), rebuild_route(attempt), tried, paid_tries)


def rebuild_task(attempt: Attempt, attempts: Sequence[Attempt], now: datetime) -> Call:
    age_s = (now - (attempt.accepted_at or attempt.created_at)).total_seconds()
    return replace(
        rebuild_call(attempt, attempts),
        accepted=Pending(attempt.task_id, upstream_id=attempt.upstream_id, poll_after=FIRST_POLL_S),
        patience_s=max(settings.ASYNC_HORIZON_S - age_s, LEAST_PATIENCE_S),
    )


def rebuild_route(attempt: Attempt) -> Route:
    """Where the attempt was sent, as it was sent: its channel may be disabled and its key rotated since."""
    channel = attempt.channel
    return Route(
        offer_id=attempt.offer_id or 0,
        channel_id=channel.pk,
        channel_name=channel.name,
        kind=channel.kind,
        base_url=attempt.base_url,
        options=json.dumps(channel.options, sort_keys=True),
        credential_id=attempt.credential_id,
        # Its secret was deleted: a process that slept has sent it after nobody could any more.
        ciphertext=attempt.credential.ciphertext or load_newest_credential(channel.pk) or "",
        upstream_model=attempt.upstream_model,
        shape=attempt.shape,
        max_n=max(1, len(attempt.slots)),
        priority=0,
        weight=1,
        retry_billed=channel.retry_billed,
        cost_micros=attempt.cost_micros,
        cost_currency=attempt.cost_currency,
        account_id=channel.account_id,
        polls_per_s=channel.account.polls_per_s if channel.account else None,
        capacity_id=attempt.capacity_id,
    )


def load_opened(generation_id: str, owner: str, decision: Decision) -> Placement | None:
    """What an opening has placed whose answer was lost; None where it was not opened. Nothing of it was sent."""
    if not Generation.objects.filter(pk=generation_id, lease_owner=owner, state=Generation.State.RUNNING).exists():
        return None
    attempts = Attempt.objects.filter(generation_id=generation_id, state=Attempt.State.CREATED).order_by("number")
    routes = {route.offer_id: route for route in decision.candidates}
    calls = tuple(
        Call(row.number, tuple(row.slots), routes.get(row.offer_id or 0) or rebuild_route(row), routing=row.routing)
        for row in attempts.select_related("channel__account", "credential")
    )
    return Placement(calls, waiting=())


def make_picture(row: StoredImage) -> StoredPicture:
    return StoredPicture(row.name, row.slot, row.width, row.height, row.bytes, row.sha256)
