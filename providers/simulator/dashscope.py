"""DashScope text2image: an order becomes a task (DashScope text2image API reference)."""

from __future__ import annotations

import uuid

from providers.simulator import tasks
from providers.simulator.catalogue import Parameters, find_model, read_parameters
from providers.simulator.errors import ASYNC_UNSUPPORTED, SYNC_UNSUPPORTED, Refusal
from providers.simulator.faults import Endpoint
from providers.simulator.intake import Body, Door, take
from providers.simulator.native import check_negative_prompt, read_object, reply_native, reply_refusal, wants_task
from providers.simulator.orders import Order
from providers.simulator.state import State
from providers.simulator.wire import Reply, Request


async def submit(state: State, request: Request) -> Reply:
    return await take(state, request, _DOOR)


def _read(state: State, request: Request, body: Body) -> Order:
    if not wants_task(request):
        raise Refusal("AccessDenied", SYNC_UNSUPPORTED)
    facts = find_model(body.get("model"))
    if not facts.has_tasks:
        raise Refusal("AccessDenied", ASYNC_UNSUPPORTED)
    prompt = read_object(body, "input").get("prompt")
    width, height = map(int, facts.default_size.split("*"))
    order = Order(
        model_name=str(body["model"]),
        model=facts,
        prompt=prompt[: facts.prompt_limit] if isinstance(prompt, str) else "",
        parameters=Parameters(width, height),
    )
    try:
        _check(order, body)
    except Refusal as refusal:
        if not state.scenario.late_validation:
            raise
        order.late = refusal
    return order


def _check(order: Order, body: Body) -> None:
    """What the vendor finds out only after it has accepted the order. Raises Refusal."""
    if not order.prompt.strip():
        raise Refusal("InvalidParameter", 'Required field "input.prompt" missing from request body.')
    parameters = read_object(body, "parameters")
    order.negative_prompt = check_negative_prompt(read_object(body, "input"), parameters)
    order.parameters = read_parameters(order.model, parameters)


async def _fulfil(state: State, order: Order) -> Reply:
    task = tasks.start(state, order, task_id=str(uuid.uuid4()))
    body = {"output": {"task_status": "PENDING", "task_id": task.id}, "request_id": order.request_id}
    return reply_native(body, order.request_id)


_DOOR = Door(Endpoint.ASYNC, State.authenticate, _read, _fulfil, reply_refusal)
