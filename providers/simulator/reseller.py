"""An OpenAI-images reseller of the new-api family, with a key rule, a size spelling and error words of its own."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from providers.simulator.catalogue import MODELS, find_model, read_parameters
from providers.simulator.enquiries import Desk, enquire
from providers.simulator.errors import KNOWN, Refusal
from providers.simulator.faults import Endpoint, Struck
from providers.simulator.intake import Body, Door, take
from providers.simulator.links import Picture
from providers.simulator.multimodal import work
from providers.simulator.native import check_negative_prompt
from providers.simulator.orders import Order, get_link
from providers.simulator.rules import Facts
from providers.simulator.scenario import OPEN_PREFIX
from providers.simulator.state import State
from providers.simulator.task_objects import take_task
from providers.simulator.tasks import rewrite
from providers.simulator.wire import Reply, Request, reply_json

_CREATED = 1626777600


async def generate(state: State, request: Request) -> Reply:
    return await take(state, request, _DOOR)


async def list_models(state: State, request: Request) -> Reply:
    async def tell(account: str, struck: Struck, request_id: str) -> Reply:
        models = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "custom"} for name in MODELS]
        return reply_json({"object": "list", "data": models, "success": True})

    return await enquire(state, request, Desk(authenticate, reply_refusal), Endpoint.MODELS, tell)


def authenticate(state: State, request: Request) -> str:
    """A reseller's keys are its own: those of a scenario's DashScope accounts do not open it. Raises Refusal."""
    key = request.key if request.scheme == "bearer" else ""
    if key in state.scenario.reseller.keys:
        return f"reseller-{key[-4:]}"
    account = state.scenario.find_account(key) if key.startswith(OPEN_PREFIX) else None
    if account is None:
        raise Refusal("", "Invalid token", status=401)
    return account


def reply_refusal(refusal: Refusal, request_id: str) -> Reply:
    """new-api's envelope: upstream codes pass through, its own errors are typed `new_api_error`."""
    error = {
        "message": f"{refusal.message} (request id: {request_id})",
        "type": "upstream_error" if refusal.code in KNOWN else "new_api_error",
        "param": "",
        "code": refusal.code,
    }
    headers = {"x-oneapi-request-id": request_id, **refusal.headers}
    return reply_json({"error": error}, status=refusal.status, headers=headers)


def read_order(state: State, request: Request, body: Body) -> Order:
    name, prompt = body.get("model"), body.get("prompt")
    if not isinstance(name, str) or name not in MODELS:
        raise Refusal(
            "model_not_found",
            f"No available channel for model {name} under group default (distributor)",
            status=503,
        )
    if not isinstance(prompt, str) or not prompt.strip():
        raise Refusal("invalid_request", "prompt is required", status=400)
    facts = find_model(name)
    parameters = {**body, "size": _read_size(body.get("size"), state.scenario.reseller.size_separator)}
    return Order(
        model_name=name,
        model=facts,
        prompt=prompt[: facts.prompt_limit],
        negative_prompt=check_negative_prompt(body),
        parameters=read_parameters(facts, parameters),
        wants_b64=_read_format(body.get("response_format")),
    )


def _read_size(raw: Any, separator: str) -> Any:
    """The spelling that the vendor wants, from the one that this reseller wants. Raises Refusal."""
    if not isinstance(raw, str):
        return raw
    wrong = {"x": "*", "*": "x"}.get(separator)
    if wrong and wrong in raw:
        raise Refusal("invalid_request", f"size must be like 1024{separator}1024", status=400)
    return raw.replace("x", "*")


def _read_format(raw: Any) -> bool:
    """Whether the pictures go into the answer. Raises Refusal."""
    if raw not in {None, "url", "b64_json"}:
        raise Refusal("invalid_request", "response_format must be url or b64_json", status=400)
    return bool(raw == "b64_json")


async def _fulfil(state: State, order: Order) -> Reply:
    if order.struck.get("task_object"):
        return take_task(state, order)
    items = await work(state, order)
    body: dict[str, Any] = {"created": int(state.clock.now())}
    if not order.struck.get("no_data"):
        body["data"] = [await _describe(state, order, item) for item in items if isinstance(item, Picture)]
    return reply_json(body, headers={"x-oneapi-request-id": order.request_id})


async def _describe(state: State, order: Order, picture: Picture) -> dict[str, str]:
    shown = {"revised_prompt": rewrite(order.prompt)} if state.scenario.reseller.revised_prompt else {}
    if not order.wants_b64:
        return {"url": get_link(order, picture), **shown}
    return {"b64_json": await encode_picture(state, picture), **shown}


async def encode_picture(state: State, picture: Picture) -> str:
    """A picture in base64, as its faults leave it: nobody will download it."""
    facts: Facts = replace(picture.facts, endpoint=Endpoint.IMAGE)
    print_ = await state.studio.print(picture.drawing, state.strike(facts, picture.directives))
    body = b"".join(print_.inflate()) if print_.grown_to else print_.body
    return base64.b64encode(body).decode()


_DOOR = Door(Endpoint.RESELLER, authenticate, read_order, _fulfil, reply_refusal)
