"""Recorded wire data: what a carrier is sent, what it says, and what that means here.

`wire/<kind>/carrier.json` holds the path of the carrier's base URL, and sets of options worth a try; `errors.json` a
table of its error codes and the envelopes they come in; every other file there a list of exchanges. `wire/every` holds
exchanges that mean the same with every carrier. A new carrier needs no test code, only these files.

An exchange has one `reply`, or `replies` to one call after the other; `{origin}` in them is the carrier's own host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from providers.adapters import get_adapter_class, kinds
from providers.contract import Done, Job, Pending, PollFailed, ProviderError, Shape
from providers.transport import Transport
from tests.providers import upstream as carrier_side
from tests.providers.upstream import Answer, Received, Upstream, say

WIRE = Path(__file__).parent / "wire"
EVERY = WIRE / "every"
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


def list_exchanges(*only: str) -> Iterator[Any]:
    """Every exchange of these kinds, or of all: their own, and those that mean the same with every carrier."""
    for kind in only or kinds():
        for path in [*sorted((WIRE / kind).glob("*.json")), *find_common_files(kind)]:
            if path.name not in ("carrier.json", "errors.json"):
                for exchange in orjson.loads(path.read_bytes()):
                    where = "" if path.parent.name == kind else "every "
                    yield pytest.param(kind, exchange, id=f"{kind}/{where}{path.stem}: {exchange['name']}")


def find_common_files(kind: str) -> Iterator[Path]:
    adapter = get_adapter_class(kind)
    yield EVERY / "submit.json"
    if adapter.shape is Shape.ASYNC:
        yield EVERY / "poll.json"
    if adapter.free_probe:
        yield EVERY / "probe.json"


def list_errors(*only: str) -> Iterator[Any]:
    """Every row of every table, in each envelope in which the code may arrive."""
    for kind in only or kinds():
        table = load(kind, "errors.json")
        for row in table["rows"]:
            for envelope in row.get("envelopes", table["envelopes"]):
                exchange = {
                    "call": "submit",
                    "reply": {"status": row["status"], "json": fill(table["envelopes"][envelope], row)},
                }
                yield pytest.param(kind, exchange, row, id=f"{kind}: {row['status']} {row['code']} {envelope}")


def fill(template: Any, row: dict[str, Any]) -> Any:
    """An envelope with the code and the message of a row in their places; a code that is a number stays one."""
    if isinstance(template, dict):
        return {name: fill(value, row) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(value, row) for value in template]
    return row[template.strip("{}")] if template in ("{code}", "{message}") else template


def list_replies(exchange: dict[str, Any]) -> list[dict[str, Any]]:
    return exchange["replies"] if "replies" in exchange else [exchange["reply"]]


def choose_answer(exchange: dict[str, Any]) -> Answer:
    """Answer the first call by the first reply, and so on; the last one stays."""
    replies = list_replies(exchange)
    rest = iter(replies)

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        await build_answer(next(rest, replies[-1]), f"http://{request.headers['host']}")(request, writer)

    return answer


def build_answer(reply: dict[str, Any], origin: str) -> Answer:
    if "fault" in reply:
        return FAULTS[reply["fault"]]
    status, headers = reply["status"], reply.get("headers", {})
    if "json" in reply:
        headers = {"Content-Type": "application/json", **headers}
        return say(orjson.dumps(reply["json"]).replace(b"{origin}", origin.encode()), status=status, headers=headers)
    return say(reply["text"].encode(), status=status, headers=headers)


def choose_options(kind: str, exchange: dict[str, Any]) -> dict[str, Any] | None:
    """Its options; `timeout_s` stands for all of an adapter's own timeouts."""
    if "timeout_s" not in exchange:
        return exchange.get("options")
    options = getattr(get_adapter_class(kind), "OPTIONS", {})
    return dict.fromkeys((name for name in options if name.endswith("_timeout_s")), exchange["timeout_s"])


async def play(kind: str, exchange: dict[str, Any]) -> tuple[Any, Upstream]:
    """Make the call of an exchange against a carrier that answers as recorded: what came of it, and the carrier."""
    async with Upstream(choose_answer(exchange)) as upstream:
        client = Transport(allow=[upstream.pair])
        if list_replies(exchange)[0].get("fault") == "refuse":
            await upstream.stop_listening()
        base_path = exchange.get("base_path", load(kind, "carrier.json")["base_path"])
        adapter = get_adapter_class(kind)(
            client,
            credential=CREDENTIAL,
            base_url=upstream.url + base_path,
            options=choose_options(kind, exchange),
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
