"""DashScope multimodal-generation: the connection is held until the pictures are done (qwen-image API reference)."""

from __future__ import annotations

import asyncio
from typing import Any

from providers.simulator.catalogue import find_model, read_parameters
from providers.simulator.errors import ASYNC_UNSUPPORTED, Refusal
from providers.simulator.faults import Endpoint
from providers.simulator.intake import Body, Door, take
from providers.simulator.links import Picture
from providers.simulator.native import check_negative_prompt, read_object, reply_native, reply_refusal, wants_task
from providers.simulator.orders import Flaw, Order, count_images, find_failure, get_latency, get_link, produce
from providers.simulator.state import State
from providers.simulator.wire import Reply, Request

#: The vendor gives up on a call by then.
SERVER_LIMIT_S = 300.0


async def generate(state: State, request: Request) -> Reply:
    return await take(state, request, _DOOR)


async def work(state: State, order: Order) -> list[Picture | Flaw]:
    """Wait for as long as the pictures take, then make and charge them. Raises Refusal when nothing came of it.

    The work goes on when the client leaves: what is done is charged.
    """
    if order.struck.get("never_ends"):
        await asyncio.sleep(SERVER_LIMIT_S)
        raise Refusal("RequestTimeOut")
    await asyncio.sleep(get_latency(state, order))
    failure = find_failure(order)
    if failure:
        raise failure
    _, entry = order.placed
    state.bill.accept(entry)
    return produce(state, order, name=order.request_id, at=state.clock.now())


def _read(state: State, request: Request, body: Body) -> Order:
    if wants_task(request):
        raise Refusal("AccessDenied", ASYNC_UNSUPPORTED)
    facts = find_model(body.get("model"))
    prompt = _read_prompt(read_object(body, "input"))
    parameters = read_object(body, "parameters")
    return Order(
        model_name=str(body["model"]),
        model=facts,
        prompt=prompt[: facts.prompt_limit],
        negative_prompt=check_negative_prompt(parameters),
        parameters=read_parameters(facts, parameters),
    )


def _read_prompt(given: Body) -> str:
    """Exactly one message of the user with exactly one text. Raises Refusal."""
    messages = given.get("messages")
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict):
        raise Refusal("InvalidParameter", "input.messages must contain exactly one message")
    content = messages[0].get("content")
    if messages[0].get("role") != "user" or not isinstance(content, list):
        raise Refusal("InvalidParameter", "input.messages[0] must be a user message with a content list")
    if len(content) != 1 or not isinstance(content[0], dict) or not isinstance(content[0].get("text"), str):
        raise Refusal("InvalidParameter", "the content must contain exactly one text")
    text: str = content[0]["text"]
    if not text.strip():
        raise Refusal("InvalidParameter", "the text must not be empty")
    return text


async def _fulfil(state: State, order: Order) -> Reply:
    items = await work(state, order)
    wanted = order.parameters
    body = {
        "request_id": order.request_id,
        "output": _describe(order, items),
        "usage": {"width": wanted.width, "height": wanted.height, "image_count": count_images(order, items)},
    }
    return reply_native(body, order.request_id)


def _describe(order: Order, items: list[Picture | Flaw]) -> dict[str, Any]:
    """One choice with all pictures; what failed is simply not there."""
    if order.struck.get("no_data"):
        return {}
    pictures = [item for item in items if isinstance(item, Picture)]
    message = {"role": "assistant", "content": [{"image": get_link(order, picture)} for picture in pictures]}
    output: dict[str, Any] = {"choices": [{"finish_reason": "stop", "message": message}]}
    if order.model.sizes:  # the 2.0 series is not seen with it
        failed = len(items) - len(pictures)
        output["task_metric"] = {"TOTAL": len(items), "SUCCEEDED": len(pictures), "FAILED": failed}
    return output


_DOOR = Door(Endpoint.SYNC, State.authenticate, _read, _fulfil, reply_refusal)
