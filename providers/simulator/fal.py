"""fal's queue under /fal: POST /fal/{app} gives a request with its own URLs (fal_client 1.0.3; queue API reference).

A key is `Authorization: Key id:secret`. The queue takes every input; what is wrong with it shows in the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.simulator import tasks
from providers.simulator.catalogue import MAX_PIXELS, MIN_PIXELS, NEGATIVE_PROMPT_LIMIT, ModelFacts, Parameters
from providers.simulator.clock import DAY_S
from providers.simulator.errors import Refusal
from providers.simulator.fal_errors import Invalid, reply_refusal
from providers.simulator.faults import Endpoint, Fault, Stage
from providers.simulator.intake import Body, Door, take
from providers.simulator.links import FAL_PREFIX
from providers.simulator.orders import Order
from providers.simulator.rules import Rule
from providers.simulator.state import State
from providers.simulator.wire import Reply, Request, reply_json

#: Below it are the paths of queue.fal.run.
PREFIX = "/fal/"
_FILES_LIVE_S = 7 * DAY_S
_TWO, _MAX, _OPEN = "fal-ai/qwen-image-2/text-to-image", "fal-ai/qwen-image-max/text-to-image", "fal-ai/qwen-image"
#: Prices are fal's dollars in fen, rounded; that of the open model is for one megapixel.
APPS: dict[str, ModelFacts] = {
    name: ModelFacts(name, True, (), "1024*1024", max_n, 1300, price_fen)
    for name, max_n, price_fen in ((_TWO, 6, 26), (_MAX, 6, 55), (_OPEN, 4, 15))
}
_SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
_FORMATS = frozenset({"png", "jpeg", "webp"})


async def submit(state: State, request: Request, app: str) -> Reply:
    return await take(state, request, _DOOR)


def authenticate(state: State, request: Request) -> str:
    """Raises Refusal: other schemes than `Key` are those of nobody."""
    account = state.scenario.find_account(request.key) if request.scheme == "key" else None
    if account is None:
        raise Refusal("InvalidApiKey")
    return account


def name_root(app: str) -> str:
    """The application without the path to one of its endpoints: requests are asked for under it."""
    return "/".join(app.split("/")[:2])


def build_urls(state: State, app: str, request_id: str) -> dict[str, str]:
    root = f"{state.public_base_url}{PREFIX}{name_root(app)}/requests/{request_id}"
    return {"response_url": root, "status_url": f"{root}/status", "cancel_url": f"{root}/cancel"}


def _name_model(request: Request, body: Body) -> str:
    return request.path.removeprefix(PREFIX)


def _read(state: State, request: Request, body: Body) -> Order:
    app = _name_model(request, body)
    if app not in APPS:
        raise Refusal("NotFound", f"Application '{app}' not found")
    facts, prompt = APPS[app], body.get("prompt")
    order = Order(
        model_name=app,
        model=facts,
        prompt=prompt[: facts.prompt_limit] if isinstance(prompt, str) else "",
        parameters=Parameters(1024, 1024),
        link_life_s=_FILES_LIVE_S,
        link_prefix=FAL_PREFIX,
    )
    try:
        _check(order, body)
    except Refusal as refusal:
        if not state.scenario.late_validation:
            raise
        order.late = refusal
    return order


def _check(order: Order, body: Body) -> None:
    """What the model finds out when it reads its input. Raises Refusal."""
    if not order.prompt.strip():
        raise Invalid("Field required", field="prompt", kind="missing")
    negative = body.get("negative_prompt") or ""
    if not isinstance(negative, str):
        raise Invalid("Input should be a valid string", field="negative_prompt", kind="string_type")
    order.negative_prompt = negative[:NEGATIVE_PROMPT_LIMIT]
    width, height = _read_size(body.get("image_size"))
    order.parameters = Parameters(
        width=width,
        height=height,
        n=_read_integer(body, "num_images", default=1, least=1, most=order.model.max_n) or 1,
        seed=_read_integer(body, "seed", default=None, least=0, most=2**32 - 1),
        prompt_extend=_read_flag(body, "enable_prompt_expansion", default=True),
    )
    order.wants_b64 = _read_flag(body, "sync_mode", default=False)
    order.file_format = body.get("output_format") or "png"
    if order.file_format not in _FORMATS:
        raise Invalid("Input should be 'png', 'jpeg' or 'webp'", field="output_format", kind="literal_error")


def _read_size(raw: Any) -> tuple[int, int]:
    if raw is None:
        return _SIZES["square_hd"]
    if isinstance(raw, str) and raw in _SIZES:
        return _SIZES[raw]
    sides = (raw.get("width"), raw.get("height")) if isinstance(raw, Mapping) else (None, None)
    if not all(type(side) is int and side > 0 for side in sides):
        raise Invalid("Input should be a size by name or an object with width and height", field="image_size")
    width, height = int(sides[0] or 0), int(sides[1] or 0)
    if not MIN_PIXELS <= width * height <= MAX_PIXELS:
        raise Invalid("total pixels must be between 512*512 and 2048*2048", field="image_size")
    return width, height


def _read_integer(body: Body, name: str, *, default: int | None, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int:
        raise Invalid("Input should be a valid integer", field=name, kind="int_type")
    if value < least:
        raise Invalid(f"Input should be greater than or equal to {least}", field=name, kind="greater_than_equal")
    if value > most:
        raise Invalid(f"Input should be less than or equal to {most}", field=name, kind="less_than_equal")
    return value


def _read_flag(body: Body, name: str, *, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Invalid("Input should be a valid boolean", field=name, kind="bool_type")
    return value


async def _fulfil(state: State, order: Order) -> Reply:
    """Files are made in the format that was asked for by the same means as a fault's, which comes before it."""
    if order.file_format != "png":
        order.directives = [*order.directives, Rule(Fault("image_format", Stage.IMAGE, {"format": order.file_format}))]
    task = tasks.start(state, order, task_id=order.request_id)
    body = {"status": "IN_QUEUE", "request_id": task.id, **build_urls(state, order.model_name, task.id)}
    return reply_json({**body, "queue_position": 0}, headers={"x-fal-request-id": task.id})


_DOOR = Door(Endpoint.FAL, authenticate, _read, _fulfil, reply_refusal, _name_model)
