"""What every order goes through, whatever its protocol: key, body, faults, limits, bill."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from providers.simulator import answers
from providers.simulator.errors import Refusal
from providers.simulator.faults import Endpoint, Fault
from providers.simulator.orders import Order
from providers.simulator.rules import HEADER, Facts, read_directives
from providers.simulator.state import State
from providers.simulator.wire import MAX_BODY, Reply, Request

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Door:
    """How one protocol takes orders: each part of it may raise Refusal."""

    endpoint: Endpoint
    authenticate: Callable[[State, Request], str]
    read: Callable[[State, Request, Body], Order]
    fulfil: Callable[[State, Order], Awaitable[Reply]]
    envelope: Callable[[Refusal, str], Reply]
    name_model: Callable[[Request, Body], str] = lambda _, body: str(body.get("model") or "")


async def take(state: State, request: Request, door: Door) -> Reply:
    """One order from its first byte to its answer, with a record on the bill."""
    request_id = str(uuid.uuid4())
    entry = state.bill.open(endpoint=door.endpoint.value, request_id=request_id, key=request.key)

    def envelope(refusal: Refusal) -> Reply:
        return door.envelope(refusal, request_id)

    try:
        entry.account = door.authenticate(state, request)
        body = read_body(request)
        entry.model = door.name_model(request, body)
        order = door.read(state, request, body)
        order.entry, order.account, order.request_id = entry, entry.account, request_id
        _strike(state, request, order, door.endpoint)
        _note(order)
        fault = order.struck.answer
        if fault and fault.refuses:
            return _refuse(state, order, fault, envelope)
        state.admit_submit(account=entry.account, model=order.model.name)
        proper = await door.fulfil(state, order)
    except Refusal as refusal:
        state.bill.refuse(entry, status=refusal.status, code=refusal.code)
        return envelope(refusal)
    return answers.spoil(proper, order.struck.answer, envelope=envelope)


def read_body(request: Request) -> Body:
    """The JSON object of an order. Raises Refusal."""
    if len(request.body) > MAX_BODY:
        raise Refusal("BadRequest.TooLarge")
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refusal("BadRequest.IllegalInput")
    return body


def _note(order: Order) -> None:
    _, entry = order.placed
    entry.model, entry.prompt, entry.n = order.model_name, order.prompt, order.parameters.n
    entry.size = f"{order.parameters.width}x{order.parameters.height}"


def _strike(state: State, request: Request, order: Order, endpoint: Endpoint) -> None:
    order.facts = Facts(endpoint, endpoint, order.model_name, order.prompt, request.key, order.account)
    order.directives = read_directives(header=request.headers.get(HEADER, ""), prompt=order.prompt)
    order.struck = state.strike(order.facts, order.directives)


def _refuse(state: State, order: Order, fault: Fault, envelope: Callable[[Refusal], Reply]) -> Reply:
    """The order never got in: the bill says why, and nothing is charged."""
    _, entry = order.placed
    broken = fault.name in {"hang", "reset"}
    reply = answers.build_wrong(fault, envelope)
    state.bill.refuse(entry, status=None if broken else reply.status, code=_name(fault))
    return reply


def _name(fault: Fault) -> str:
    named = {"error", "throttle", "moderation_input", "code200"}
    return answers.build_refusal(fault).code if fault.name in named else fault.name
