"""Which generation answers a POST: one that stands for its key, the first try that an SDK repeats, or a new one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from billing.keys import KeyIdentity
from crazyrouter.api.errors import ApiError
from crazyrouter.api.preferences import Preferences, hash_body
from crazyrouter.api.rendering import describe_window, make_refusal
from crazyrouter.api.requests import build_order, find_size_text
from crazyrouter.generation.engine import Run
from crazyrouter.generation.journal.answers import Retry, join_retries
from crazyrouter.generation.order import Idempotency
from crazyrouter.generation.outcomes import KEY_REUSED, KeyTaken, OrderRefused
from crazyrouter.generation.readback import KeyHolder, find_key
from crazyrouter.generation.runtime import Runtime
from crazyrouter.generation.snapshot import View

#: A key may be freed between finding it taken and looking it up; then it is tried for again.
TRIES_FOR_A_KEY = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """One POST: who asks, for what, and how it is to be answered."""

    runtime: Runtime
    view: View
    identity: KeyIdentity
    values: Any
    body_hash: str
    preferences: Preferences


@dataclass(frozen=True, slots=True)
class Ticket:
    """The generation that answers a request, and whether it was there before."""

    id: str
    run: Run | None = None
    replayed: bool = False


def describe_ticket(ticket: Ticket) -> dict[str, str]:
    """Headers of an answer that belong to the request and not to the generation."""
    if ticket.replayed:
        return {"Idempotent-Replayed": "true"}
    opened = None if ticket.run is None else ticket.run.opened
    # The deadline may pass while the database still has not opened it.
    return {} if opened is None or not opened.done() else describe_window(opened.result())


async def find_ticket(asked: Asked) -> Ticket:
    """One that stands for the key, the first try that an SDK repeats, or a new one."""
    if asked.preferences.key is not None:
        return await find_keyed(asked, asked.preferences.key)
    if asked.preferences.retry:
        retry = Retry(asked.identity.key_id, asked.body_hash, asked.preferences.retry)
        joined = await asked.runtime.lane.write(join_retries, retry)
        if joined is not None:
            return Ticket(joined)
    return start(asked)


async def find_keyed(asked: Asked, key: str) -> Ticket:
    """Limits, prices and models of today are not looked at for a key that was used before."""
    for _ in range(TRIES_FOR_A_KEY):
        holder = await asked.runtime.reader.read(find_key, asked.identity.account_id, key)
        if holder is not None:
            check_same_body(asked, holder)
            return Ticket(holder.generation_id, replayed=True)
        ticket = start(asked, idempotency=make_idempotency(asked, key))
        try:
            await wait_until_open(ticket)
        except KeyTaken:
            continue
        return ticket
    raise ApiError("service_unavailable")


def make_idempotency(asked: Asked, key: str) -> Idempotency:
    return Idempotency(key, asked.body_hash, hash_body(asked.values, size=find_size_text(asked.view, asked.values)))


def check_same_body(asked: Asked, holder: KeyHolder) -> None:
    """The same as it was sent, or the same with the model's default size written out."""
    if asked.body_hash == holder.body_hash:
        return
    size = find_size_text(asked.view, asked.values)
    if size is None or hash_body(asked.values, size=size) != holder.order_hash:
        raise ApiError(KEY_REUSED.code)


def start(asked: Asked, *, idempotency: Idempotency | None = None) -> Ticket:
    """A new order. Raises ApiError where it is refused before anything is written."""
    order = build_order(asked.values, asked.identity, asked.view, request_hash=asked.body_hash, idempotency=idempotency)
    return Ticket(order.id, asked.runtime.engine.start(order))


async def wait_until_open(ticket: Ticket) -> None:
    """Raises ApiError where it is refused, KeyTaken where another request has its key."""
    if ticket.run is not None:
        try:
            await asyncio.shield(ticket.run.opened)
        except OrderRefused as refused:
            raise make_refusal(refused) from None
