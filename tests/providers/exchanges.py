"""Recorded wire data: what a carrier is sent, what it says, and what that means here.

`wire/<kind>/carrier.json` holds the path of the carrier's base URL; `errors.json` a table of its error codes;
every other file there a list of exchanges. A new carrier needs no test code, only these files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from providers.adapters import get_adapter_class, kinds
from providers.contract import Done, Job, Pending, PollFailed, ProviderError
from providers.transport import Transport
from tests.providers import upstream as carrier_side
from tests.providers.upstream import Answer, Upstream, say, say_json

WIRE = Path(__file__).parent / "wire"
CREDENTIAL = "sk-ws-H.test.0123456789abcdef"
JOB = {"model": "qwen-image-plus", "prompt": '一只戴帽子的猫, "cat"', "width": 1664, "height": 928}
FAULTS: dict[str, Answer] = {
    "hang_up": carrier_side.hang_up,
    # A question is asked once more on a new connection; an order never is.
    "hang_up_always": carrier_side.hang_up,
    "stop_halfway": carrier_side.stop_halfway,
    "stay_silent": carrier_side.stay_silent,
    "refuse": carrier_side.hang_up,
}


def load(kind: str, name: str) -> Any:
    return orjson.loads((WIRE / kind / name).read_bytes())


def list_exchanges() -> Iterator[Any]:
    for kind in kinds():
        for path in sorted((WIRE / kind).glob("*.json")):
            if path.name not in ("carrier.json", "errors.json"):
                for exchange in load(kind, path.name):
                    yield pytest.param(kind, exchange, id=f"{kind}/{path.stem}: {exchange['name']}")


def list_errors() -> Iterator[Any]:
    """Every row of every table, in each envelope in which the code may arrive."""
    for kind in kinds():
        table = load(kind, "errors.json")
        for row in table["rows"]:
            for envelope in table["envelopes"]:
                yield pytest.param(
                    kind, wrap(row, envelope), row, id=f"{kind}: {row['status']} {row['code']} {envelope}"
                )


def wrap(row: dict[str, Any], envelope: str) -> dict[str, Any]:
    fault = {"code": row["code"], "message": row["message"]}
    body = {**fault, "request_id": "r-1"} if envelope == "flat" else {"error": {**fault, "param": None}}
    return {"call": "submit", "reply": {"status": row["status"], "json": body}}


def choose_answer(reply: dict[str, Any]) -> Answer:
    if "fault" in reply:
        return FAULTS[reply["fault"]]
    if "json" in reply:
        return say_json(reply["json"], status=reply["status"], headers=reply.get("headers"))
    return say(reply["text"].encode(), status=reply["status"], headers=reply.get("headers"))


async def play(kind: str, exchange: dict[str, Any]) -> tuple[Any, Upstream]:
    """Make the call of an exchange against a carrier that answers as recorded: what came of it, and the carrier."""
    async with Upstream(choose_answer(exchange["reply"])) as upstream:
        client = Transport(allow=[upstream.pair])
        if exchange["reply"].get("fault") == "refuse":
            await upstream.stop_listening()
        base_path = exchange.get("base_path", load(kind, "carrier.json")["base_path"])
        adapter = get_adapter_class(kind)(
            client, credential=CREDENTIAL, base_url=upstream.url + base_path, options=exchange.get("options")
        )
        try:
            return await call(adapter, exchange), upstream
        except (ProviderError, PollFailed) as error:
            return error, upstream
        finally:
            await client.aclose()


async def call(adapter: Any, exchange: dict[str, Any]) -> Done | Pending | None:
    match exchange["call"]:
        case "submit":
            return await adapter.submit(Job(**{**JOB, **exchange.get("job", {})}))
        case "poll":
            return await adapter.poll(exchange["task_id"])
    return await adapter.probe()


def describe(outcome: Any) -> dict[str, Any]:
    """An outcome as wire data writes it, whole."""
    match outcome:
        case Done():
            images = [
                {"url": image.url, "b64": image.b64, "revised_prompt": image.revised_prompt} for image in outcome.images
            ]
            refused = [describe(error)["error"] for error in outcome.refused]
            return {
                "done": {
                    "images": images,
                    "refused": refused,
                    "upstream_id": outcome.upstream_id,
                    "usage": outcome.usage,
                }
            }
        case Pending():
            return {
                "pending": {
                    "task_id": outcome.task_id,
                    "upstream_id": outcome.upstream_id,
                    "poll_after": outcome.poll_after,
                }
            }
        case ProviderError():
            return {"error": dict(vars(outcome))}
        case PollFailed():
            return {"poll_failed": dict(vars(outcome))}
    return {"nothing": outcome is None}


def narrow(whole: Any, wanted: Any) -> Any:
    """`whole` without the members that `wanted` does not speak of."""
    if isinstance(wanted, dict) and isinstance(whole, dict):
        return {name: narrow(whole[name], wanted[name]) if name in whole else "missing" for name in wanted}
    if isinstance(wanted, list) and isinstance(whole, list) and len(wanted) == len(whole):
        return [narrow(*pair) for pair in zip(whole, wanted, strict=True)]
    return whole
