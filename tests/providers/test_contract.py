"""One suite for every adapter: whoever is registered keeps the contract, by recorded wire data."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from providers.adapters import find_option_faults, get_adapter_class, kinds
from providers.contract import Billed, Code, Done, PollFailed, ProviderError, Scope, Shape
from providers.transport import Transport
from tests.providers.exchanges import (
    CREDENTIAL,
    WIRE,
    describe,
    list_errors,
    list_exchanges,
    list_replies,
    load,
    narrow,
    play,
)
from tests.providers.upstream import Received

#: What any carrier may say, whatever its protocol; `wire/every` has it.
COMMON = {Code.UNREACHABLE, Code.TIMEOUT, Code.CONNECTION_LOST, Code.BAD_RESPONSE, Code.AUTH, Code.RATE_LIMITED}
#: Of a job, what a customer may leave out.
OPTIONAL = {"negative_prompt": "blurred", "seed": 424242, "prompt_extend": False, "watermark": True}
#: The ends that the recorded exchanges of a call must show.
ENDS = {
    (Shape.SYNC, "submit"): {"done", "error"},
    (Shape.ASYNC, "submit"): {"pending", "error"},
    (Shape.ASYNC, "poll"): {"pending", "done", "error", "poll_failed"},
}


@pytest.mark.parametrize(("kind", "exchange"), list(list_exchanges()))
async def test_what_an_exchange_means(kind: str, exchange: dict[str, Any]):
    outcome, upstream = await play(kind, exchange)
    assert narrow(describe(outcome), exchange["outcome"]) == exchange["outcome"]
    replies = list_replies(exchange)
    # A question is asked a second time where the connection is lost; an order never is.
    sent = {"refuse": 0, "hang_up_always": len(replies) + 1}.get(replies[-1].get("fault", ""), len(replies))
    assert len(upstream.received) == sent
    if exchange["call"] != "submit":
        check_free_of_charge(upstream.received)
    expected = exchange.get("expect", [])
    for request, wanted in zip(upstream.received, expected if isinstance(expected, list) else [expected], strict=False):
        check_request(request, wanted)


def check_free_of_charge(received: list[Received]) -> None:
    """A poll and a probe order nothing."""
    assert {(request.method, request.body) for request in received} <= {("GET", b"")}


def check_request(request: Received, expected: dict[str, Any]) -> None:
    line = {"method": request.method, "target": request.target}
    assert line == {name: expected.get(name, value) for name, value in line.items()}
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
    table = load(kind, "errors.json")
    said = COMMON | {Code(row["means"]) for row in table["rows"]} | find_codes(kind, "submit")
    # What a carrier has no documented word for is owned to, not invented.
    undocumented = {Code(code) for code in table.get("undocumented", ())}
    assert said & undocumented == set()
    assert said | undocumented | {Code.TASK_FAILED, Code.TASK_LOST} == set(Code)


@pytest.mark.parametrize("kind", kinds())
def test_the_wire_data_shows_every_end(kind: str):
    adapter = get_adapter_class(kind)
    for (shape, call), ends in ENDS.items():
        if shape is adapter.shape:
            said = {end for exchange in list_calls(kind, call) for end in exchange["outcome"]}
            assert ends <= said | {"error"}
    if adapter.shape is Shape.ASYNC:
        assert Code.TASK_FAILED in find_codes(kind, "poll")
    assert {end for exchange in list_calls(kind, "probe") for end in exchange["outcome"]} == (
        {"nothing", "error"} if adapter.free_probe else set()
    )


def list_calls(kind: str, call: str) -> list[dict[str, Any]]:
    """The kind's own exchanges of one call."""
    exchanges = [parameters.values[1] for parameters in list_exchanges(kind) if "/every " not in str(parameters.id)]
    return [exchange for exchange in exchanges if exchange["call"] == call]


def find_codes(kind: str, call: str) -> set[Code]:
    """The codes of errors in the kind's own exchanges of one call."""
    outcomes = [exchange["outcome"] for exchange in list_calls(kind, call)]
    return {Code(outcome["error"]["code"]) for outcome in outcomes if "error" in outcome}


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
    outcome, upstream = await play(kind, {"call": "poll", "task_id": "1", "reply": {"status": 200, "json": {}}})
    if get_adapter_class(kind).shape is Shape.ASYNC:
        assert isinstance(outcome, PollFailed)
        return
    assert isinstance(outcome, ProviderError)
    assert (outcome.code, outcome.billed, outcome.scope) == (Code.BAD_RESPONSE, Billed.UNKNOWN, Scope.OFFER)
    assert upstream.received == []


@pytest.mark.parametrize("kind", kinds())
async def test_whoever_has_no_free_call_makes_none(kind: str):
    adapter = get_adapter_class(kind)
    if not adapter.free_probe:
        build = adapter(Transport(), credential="k", base_url="https://a.example")
        with pytest.raises(NotImplementedError, match=f"{kind} knows no call that is free of charge"):
            await build.probe()


@pytest.mark.parametrize("kind", kinds())
async def test_what_a_channel_cannot_pass_on_is_never_sent_and_all_else_is(kind: str):
    for options in load(kind, "carrier.json").get("options", [{}]):
        unsupported = get_adapter_class(kind).find_unsupported(options)
        bare = await read_order(kind, options, {})
        sent = {name for name, value in OPTIONAL.items() if await read_order(kind, options, {name: value}) != bare}
        assert sent == set(OPTIONAL) - unsupported
        assert unsupported <= set(OPTIONAL)


async def read_order(kind: str, options: dict[str, Any], job: dict[str, Any]) -> Any:
    """The body of the order for a job, whatever comes of it."""
    exchange = {"call": "submit", "job": job, "options": options, "reply": {"status": 200, "json": {}}}
    _, upstream = await play(kind, exchange)
    return orjson.loads(upstream.received[0].body)


@pytest.mark.parametrize("kind", kinds())
def test_a_kind_is_what_it_is_registered_as(kind: str):
    adapter = get_adapter_class(kind)
    assert adapter.kind == kind
    assert isinstance(adapter.shape, Shape)
    assert isinstance(adapter.faithful_rewrite, bool)
    assert isinstance(adapter.free_probe, str)
    assert {name.lower() for name in adapter.open_weights} == adapter.open_weights


def test_every_kind_and_no_other_has_wire_data():
    assert {folder.name for folder in WIRE.iterdir()} == {*kinds(), "every"}


def test_a_kind_that_is_gone_has_no_class():
    with pytest.raises(LookupError, match="no adapter of kind 'midjourney'"):
        get_adapter_class("midjourney")


@pytest.mark.parametrize("kind", kinds())
def test_no_closed_model_counts_as_open(kind: str):
    closed = {"qwen-image-plus", "qwen-image-max", "qwen-image-2.0", "qwen-image-2.0-pro", "qwen-image"}
    assert closed.isdisjoint(get_adapter_class(kind).open_weights)


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
        ("openai_images_tasks", {"size_separator": ":", "failed_tasks_free": True}, []),
        (
            "fal_queue",
            {"prompt_expansion": 1},
            ["prompt_expansion: whether the app knows enable_prompt_expansion, true or false"],
        ),
        ("replicate", {"size_input": "size", "n_input": "num_outputs", "input": {"go_fast": True}, "wait_s": 60}, []),
        (
            "replicate",
            {"size_input": "ratio", "n_input": 1, "input": [], "wait_s": 61},
            [
                'size_input: how the model is told a size: "aspect_ratio" (16:9), "size" (1664*928) or "width_height" '
                "(two numbers)",
                'n_input: the input for the number of pictures, "num_outputs"; "": none',
                "input: further inputs of the model, an object",
                "wait_s: how long to wait for the pictures before polling, in whole seconds, at most 60",
            ],
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
