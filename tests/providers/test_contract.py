"""One suite for every adapter: whoever is registered keeps the contract, by recorded wire data."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from providers.adapters import find_option_faults, get_adapter_class, kinds
from providers.contract import Billed, Code, Done, PollFailed, ProviderError, Scope, Shape
from providers.transport import Transport
from tests.providers.exchanges import CREDENTIAL, describe, list_errors, list_exchanges, load, narrow, play


@pytest.mark.parametrize(("kind", "exchange"), list(list_exchanges()))
async def test_what_an_exchange_means(kind: str, exchange: dict[str, Any]):
    outcome, upstream = await play(kind, exchange)
    assert narrow(describe(outcome), exchange["outcome"]) == exchange["outcome"]
    sent = {"refuse": 0, "hang_up_always": 2}.get(exchange["reply"].get("fault", ""), 1)
    if exchange["reply"].get("fault") == "hang_up_always":
        # The first connection of a client is not an old one; aiohttp repeats a question all the same.
        assert {request.method for request in upstream.received} == {"GET"}
    assert len(upstream.received) == sent
    if "expect" in exchange:
        check_request(upstream.received[0], exchange["expect"])


def check_request(request: Any, expected: dict[str, Any]) -> None:
    assert (request.method, request.target) == (expected["method"], expected["target"])
    wanted = expected.get("headers", {})
    assert {name: request.headers.get(name) for name in wanted} == wanted
    assert set(expected.get("without", ())).isdisjoint(request.headers)
    if "json" in expected:
        assert orjson.loads(request.body) == expected["json"]
    if "body" in expected:
        assert request.body == expected["body"].encode()


@pytest.mark.parametrize(("kind", "exchange", "row"), list(list_errors()))
async def test_what_an_error_code_means(kind: str, exchange: dict[str, Any], row: dict[str, Any]):
    outcome, upstream = await play(kind, exchange)
    assert isinstance(outcome, ProviderError)
    assert (outcome.code, outcome.billed, outcome.scope) == (row["means"], row["billed"], row["scope"])
    assert outcome.detail == f"{row['status']} {row['code']}: {row['message']}"
    assert len(upstream.received) == 1


@pytest.mark.parametrize("kind", kinds())
def test_the_wire_data_covers_the_vocabulary(kind: str):
    said = {row["means"] for row in load(kind, "errors.json")["rows"]}
    said |= {
        exchange["outcome"]["error"]["code"] for exchange in load(kind, "submit.json") if "error" in exchange["outcome"]
    }
    everything = set(Code) - {Code.TASK_FAILED, Code.TASK_LOST}
    assert everything <= said
    assert {exchange["call"] for exchange in load(kind, "probe.json")} == {"probe"}


@pytest.mark.parametrize("kind", kinds())
async def test_no_credential_is_ever_quoted(kind: str):
    said = f"Incorrect key {CREDENTIAL} or Bearer {CREDENTIAL}, see https://a.example/keys?key={CREDENTIAL}"
    for body in ({"code": "InvalidApiKey", "message": said}, {"error": {"code": "x", "message": said}}, {"text": said}):
        outcome, _ = await play(kind, {"call": "submit", "reply": {"status": 401, "json": body}})
        assert isinstance(outcome, ProviderError)
        assert outcome.code is Code.AUTH
        assert CREDENTIAL not in f"{outcome} {outcome.detail}"
        assert "***" in outcome.detail


@pytest.mark.parametrize("kind", kinds())
async def test_a_sync_adapter_is_never_polled(kind: str):
    if get_adapter_class(kind).shape is Shape.ASYNC:
        outcome, _ = await play(kind, {"call": "poll", "task_id": "1", "reply": {"status": 200, "json": {}}})
        assert isinstance(outcome, PollFailed)
        return
    outcome, upstream = await play(kind, {"call": "poll", "task_id": "1", "reply": {"status": 200, "json": {}}})
    assert isinstance(outcome, ProviderError)
    assert (outcome.code, outcome.billed, outcome.scope) == (Code.BAD_RESPONSE, Billed.UNKNOWN, Scope.OFFER)
    assert upstream.received == []


@pytest.mark.parametrize("kind", kinds())
def test_a_kind_is_what_it_is_registered_as(kind: str):
    adapter = get_adapter_class(kind)
    assert adapter.kind == kind
    assert isinstance(adapter.shape, Shape)
    assert isinstance(adapter.faithful_rewrite, bool)


def test_three_kinds_are_registered():
    assert kinds() == ("dashscope_async", "dashscope_sync", "openai_images")


def test_a_kind_that_is_gone_has_no_class():
    with pytest.raises(LookupError, match="no adapter of kind 'midjourney'"):
        get_adapter_class("midjourney")


@pytest.mark.parametrize(
    ("kind", "options", "faults"),
    [
        ("dashscope_async", {"poll_interval_s": 1, "workspace": "llm-1"}, []),
        (
            "dashscope_async",
            {"poll_interval_s": 0, "pol": 1},
            [
                "pol: not an option of dashscope_async",
                "poll_interval_s: the pause between two polls of a task, in seconds, above 0 and at most 3600",
            ],
        ),
        (
            "dashscope_sync",
            {"read_timeout_s": True},
            ["read_timeout_s: the longest wait for the pictures, in seconds, above 0 and at most 3600"],
        ),
        ("openai_images", {"size_separator": "*", "response_format": "b64_json", "extra_fields": True}, []),
        (
            "openai_images",
            {"size_separator": "×", "response_format": "png", "extra_fields": "yes"},
            [
                'size_separator: between width and height: "x" or "*"',
                'response_format: how pictures come: "url" or "b64_json"',
                "extra_fields: whether seed, negative_prompt, prompt_extend and watermark are known, true or false",
            ],
        ),
    ],
)
def test_what_is_wrong_with_options(kind: str, options: dict[str, Any], faults: list[str]):
    assert find_option_faults(kind, options) == faults


def test_a_wrong_option_is_no_adapter():
    build = get_adapter_class("openai_images")
    with pytest.raises(ValueError, match="openai_images: response_format"):
        build(Transport(), credential="k", base_url="https://a.example", options={"response_format": "png"})


async def test_a_credential_is_used_without_its_blanks():
    exchange = load("dashscope_sync", "submit.json")[1]
    outcome, upstream = await play("dashscope_sync", exchange)
    assert isinstance(outcome, Done)
    assert upstream.received[0].headers["authorization"] == f"Bearer {CREDENTIAL}"
