"""The canary sings: whatever is planted, wherever, is found."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from crazyrouter.files.labels import Label
from crazyrouter.files.pictures import prepare
from tests.anonymity.recordings import list_recordings
from tests.anonymity.test_canary import open_stage, order_all
from tests.anonymity.words import CARRIERS, Leak, find_leaks
from tests.files.samples import insert
from tests.files.stowaways import PNGS, SIZE, make_still

LEAKY = "tests.anonymity.leaky:application"
TASK = "0f8fad5b-d9cb-469f-a165-70867728950e"
CLEAN = prepare(make_still(), asked=SIZE, target=SIZE, label=Label("crazyrouter", "gen_1-0")).data
GENERATION = {"id": "gen_0f8fad5bd9cbfal", "data": [{"url": f"http://gateway/files/qwen_image_{'fal2' * 8}.png"}]}


def answer(
    body: Any = None,
    *,
    content: bytes = b"",
    kind: str = "application/json",
    url: str = "http://gateway/v1",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    return httpx.Response(
        200,
        content=content or json.dumps(body).encode(),
        headers={"content-type": kind, **(headers or {})},
        request=httpx.Request("GET", url),
    )


def test_what_is_ours_is_no_leak() -> None:
    assert find_leaks(answer(GENERATION), [TASK]) == []
    assert find_leaks(answer({"data": [{"b64_json": base64.b64encode(CLEAN).decode()}]}), [TASK]) == []
    assert find_leaks(answer(content=CLEAN, kind="image/png"), [TASK]) == []
    assert find_leaks(answer(content=b"a false dawn, qwen-image-max, Qwen", kind="text/html"), [TASK]) == []
    assert find_leaks(answer({}, headers={"etag": f'"{"0fa1" * 16}"', "x-request-id": "gen_01JFAL"}), [TASK]) == []


@pytest.mark.parametrize("word", CARRIERS)
def test_a_carrier_is_found_by_every_name(word: str) -> None:
    for place in ({"error": {"message": f"Oh, {word.upper()}!"}}, {"a": [{word: 1}]}, {"a": word}):
        assert any(word in leak.what for leak in find_leaks(answer(place)))


PLACES: dict[str, tuple[httpx.Response, Leak]] = {
    "a message": (answer({"error": {"message": f"task {TASK} failed"}}), Leak("message", TASK)),
    "a member": (answer({"usage": {f"x-{TASK}": 1}}), Leak("member", TASK)),
    "a number": (answer({"seed": [12345678]}), Leak("seed", "12345678")),
    "a header": (answer({}, headers={"x-request-id": TASK}), Leak("headers", TASK)),
    "the name of a header": (answer({}, headers={f"x-{TASK}": "1"}), Leak("headers", TASK)),
    "an address": (answer({}, url=f"http://gateway/files/{TASK}.png"), Leak("url", TASK)),
    "a page": (answer(content=f"<p>{TASK}</p>".encode(), kind="text/html"), Leak("body", TASK)),
    "a file": (answer(content=f"day,{TASK}\r\n".encode(), kind="text/csv"), Leak("body", TASK)),
    "wide letters": (answer({"a": "ｄａｓｈｓｃｏｐｅ"}), Leak("a", "dashscope")),
    "letters with signs between": (answer({"a": "Dash Scope"}), Leak("a", "dash scope")),
    "letters that JSON escapes": (answer(content=b'{"a": "\\u0064ashscope"}'), Leak("a", "dashscope")),
    "another alphabet": (answer({"a": "由阿里云提供"}), Leak("a", "阿里")),
}


@pytest.mark.parametrize(("response", "leak"), PLACES.values(), ids=PLACES.keys())
def test_a_word_is_found_in_every_place(response: httpx.Response, leak: Leak) -> None:
    assert leak in find_leaks(response, [TASK, "12345678"])


@pytest.mark.parametrize("make", PNGS.values(), ids=PNGS.keys())
def test_whatever_travels_with_a_picture_is_found(make: Callable[[], bytes]) -> None:
    assert find_leaks(answer(content=make(), kind="image/png")) != []
    assert find_leaks(answer({"b64_json": base64.b64encode(make()).decode()})) != []


def test_a_label_that_names_somebody_else_is_found() -> None:
    labelled = prepare(make_still(), asked=SIZE, target=SIZE, label=Label("Alibaba Cloud", TASK)).data
    leaks = find_leaks(answer(content=labelled, kind="image/png"), [TASK])
    assert {(where, what) for where in ("label", "picture") for what in ("alibaba", TASK)} <= set(leaks)


def test_a_second_label_is_found() -> None:
    twice = insert(CLEAN, (b"zTXt", b"a\0\0" + zlib.compress(b"dashscope")))
    assert find_leaks(answer(content=twice, kind="image/png")) == [("picture", "b'zTXt' has no place here")]


@pytest.mark.live
async def test_a_server_that_leaks_everywhere_is_caught(database: None, settings: Any, tmp_path: Path) -> None:
    """The same orders, sent to a product with a leak in each place."""
    recordings = list_recordings("dashscope_async")[:60]
    async with open_stage(recordings, tmp_path, settings, application=LEAKY) as (stage, client, _):
        findings = await order_all(stage, client)
    places = {leak.where for _, leak in findings.leaks}
    assert places == {"headers", "message", "picture", "label", "url", "revised_prompt"}
    caught = {name.partition(" | ")[0] for name, _ in findings.leaks}
    assert caught >= {recording.name for recording in recordings if recording.delivers}
