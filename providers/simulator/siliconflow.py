"""SiliconFlow under /siliconflow: the open-weight model, in the answer, behind links that live for an hour.

Its errors are objects with a number, objects without one, or bare JSON texts, by status (its API reference).
"""

from __future__ import annotations

import re
import zlib
from typing import Any

from providers.simulator.catalogue import NEGATIVE_PROMPT_LIMIT, ModelFacts, Parameters
from providers.simulator.enquiries import Desk, enquire
from providers.simulator.errors import ARREARS, Refusal
from providers.simulator.faults import Endpoint, Struck
from providers.simulator.intake import Body, Door, take
from providers.simulator.links import SILICONFLOW_PREFIX, Picture
from providers.simulator.multimodal import work
from providers.simulator.orders import Order, get_latency, get_link
from providers.simulator.state import State
from providers.simulator.wire import Reply, Request, reply_json

_SIZES = ("1328*1328", "1664*928", "928*1664", "1472*1140", "1140*1472", "1584*1056", "1056*1584")
MODELS = {"Qwen/Qwen-Image": ModelFacts("Qwen/Qwen-Image", False, _SIZES, "1328*1328", 1, 1300, 30)}
LINK_LIFE_S = 3600.0
MAX_SEED = 9_999_999_999
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")

_NO_MODEL = "20012"
_WRONG_INPUT = "20015"
_NO_MONEY = "30001"
_OVERLOADED = 50505
_BROKEN = 50507
_RATE = (
    "Request was rejected due to rate limiting. If you want more, please contact contact@siliconflow.cn. "
    "Details:IPM limit reached."
)


async def generate(state: State, request: Request) -> Reply:
    return await take(state, request, _DOOR)


async def list_models(state: State, request: Request) -> Reply:
    async def tell(account: str, struck: Struck, request_id: str) -> Reply:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": ""} for name in MODELS]
        return _reply({"object": "list", "data": models}, request_id)

    return await enquire(state, request, Desk(State.authenticate, reply_refusal), Endpoint.MODELS, tell)


async def tell_user(state: State, request: Request) -> Reply:
    """Whose key it is; costs nothing."""

    async def tell(account: str, struck: Struck, request_id: str) -> Reply:
        data = {"id": account, "name": account, "balance": "88.00", "status": "normal", "totalBalance": "88.00"}
        return _reply({"code": 20000, "message": "OK", "status": True, "data": data}, request_id)

    return await enquire(state, request, Desk(State.authenticate, reply_refusal), Endpoint.MODELS, tell)


def reply_refusal(refusal: Refusal, request_id: str) -> Reply:
    return _reply(_word(refusal), request_id, status=_find_status(refusal), headers=refusal.headers)


def _find_status(refusal: Refusal) -> int:
    return 403 if refusal.code in ARREARS or refusal.code == _NO_MONEY else refusal.status


def _word(refusal: Refusal) -> Any:
    status = _find_status(refusal)
    if refusal.code in ARREARS or refusal.code == _NO_MONEY:
        return _describe_error(int(_NO_MONEY), "Sorry, your account balance is insufficient")
    if refusal.code.isdigit():
        return _describe_error(int(refusal.code), refusal.message)
    texts = {401: "Api key is invalid", 403: "Forbidden", 404: "404 page not found", 504: "Gateway Timeout"}
    if status in texts:
        return texts[status]
    if status == 429:
        return {"message": _RATE, "data": None}
    if status == 503:
        return _describe_error(_OVERLOADED, "Model service overloaded. Please try again later.")
    return _describe_error(_BROKEN if status >= 500 else int(_WRONG_INPUT), refusal.message)


def _describe_error(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "data": None}


def _read(state: State, request: Request, body: Body) -> Order:
    name, prompt = body.get("model"), body.get("prompt")
    if not isinstance(name, str) or name not in MODELS:
        raise Refusal(_NO_MODEL, "Model does not exist. Please check it carefully.", status=400)
    if not isinstance(prompt, str) or not prompt.strip():
        raise Refusal(_WRONG_INPUT, "prompt is required", status=400)
    facts = MODELS[name]
    width, height = _read_size(body.get("image_size"))
    return Order(
        model_name=name,
        model=facts,
        prompt=prompt[: facts.prompt_limit],
        negative_prompt=str(body.get("negative_prompt") or "")[:NEGATIVE_PROMPT_LIMIT],
        parameters=Parameters(width=width, height=height, n=_read_count(body), seed=_read_seed(body)),
        link_life_s=LINK_LIFE_S,
        link_prefix=SILICONFLOW_PREFIX,
    )


def _read_size(raw: Any) -> tuple[int, int]:
    matched = _SIZE.fullmatch(raw) if isinstance(raw, str) else None
    if matched is None or f"{matched[1]}*{matched[2]}" not in _SIZES:
        listed = ", ".join(_SIZES).replace("*", "x")
        raise Refusal(_WRONG_INPUT, f"image_size must be one of {listed}", status=400)
    return int(matched[1]), int(matched[2])


def _read_count(body: Body) -> int:
    """Only another model makes several at once."""
    if body.get("batch_size") not in {None, 1}:
        raise Refusal(_WRONG_INPUT, "batch_size must be 1 for this model", status=400)
    return 1


def _read_seed(body: Body) -> int | None:
    seed = body.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed <= MAX_SEED):
        raise Refusal(_WRONG_INPUT, f"seed must be between 0 and {MAX_SEED}", status=400)
    return seed


async def _fulfil(state: State, order: Order) -> Reply:
    items = await work(state, order)
    seed = order.parameters.seed
    body: dict[str, Any] = {
        "images": [{"url": get_link(order, item)} for item in items if isinstance(item, Picture)],
        "timings": {"inference": get_latency(state, order)},
        "seed": zlib.crc32(order.request_id.encode()) if seed is None else seed,
    }
    if order.struck.get("no_data"):
        del body["images"]
    return _reply(body, order.request_id)


def _reply(body: Any, trace_id: str, *, status: int = 200, headers: Any = None) -> Reply:
    return reply_json(body, status=status, headers={"x-siliconcloud-trace-id": trace_id, **(headers or {})})


_DOOR = Door(Endpoint.SILICONFLOW, State.authenticate, _read, _fulfil, reply_refusal)
