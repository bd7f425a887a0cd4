"""Whatever is wrong with a request is said in the envelope, and nothing is written for it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.books import count_rows_async
from tests.shop import Customer
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
GOOD = {"model": "qwen-image-2.0", "prompt": "a cat"}
NOTHING = {"generations": 0, "attempts": 0, "images": 0, "charges": 0, "held": 0}

INVALID: list[tuple[dict[str, Any], str, str | None]] = [
    ({"model": None}, "missing_required_parameter", "model"),
    ({"prompt": None}, "missing_required_parameter", "prompt"),
    ({"prompt": ""}, "invalid_value", "prompt"),
    ({"prompt": " \n"}, "invalid_value", "prompt"),
    ({"prompt": "a\0b"}, "invalid_value", "prompt"),
    ({"prompt": 5}, "invalid_type", "prompt"),
    ({"prompt": ["a"]}, "invalid_type", "prompt"),
    ({"prompt": "x" * 1301}, "string_above_max_length", "prompt"),
    ({"model": "qwen-image-max", "prompt": "猫" * 801}, "string_above_max_length", "prompt"),
    ({"negative_prompt": "x" * 501}, "string_above_max_length", "negative_prompt"),
    ({"model": 7}, "invalid_type", "model"),
    ({"n": 0}, "integer_below_min_value", "n"),
    ({"n": -1}, "integer_below_min_value", "n"),
    ({"n": 7}, "integer_above_max_value", "n"),
    ({"n": 10**30}, "invalid_type", "n"),
    ({"model": "qwen-image-plus", "n": 5}, "integer_above_max_value", "n"),
    ({"n": 1.0}, "invalid_type", "n"),
    ({"n": True}, "invalid_type", "n"),
    ({"n": "1"}, "invalid_type", "n"),
    ({"size": "100x100"}, "invalid_value", "size"),
    ({"size": "1000x1000"}, "invalid_value", "size"),
    ({"size": "4096x4096"}, "invalid_value", "size"),
    ({"size": "big"}, "invalid_value", "size"),
    ({"size": 1024}, "invalid_type", "size"),
    ({"model": "qwen-image-max", "size": "512x512"}, "invalid_value", "size"),
    ({"response_format": "png"}, "invalid_value", "response_format"),
    ({"seed": -1}, "integer_below_min_value", "seed"),
    ({"seed": 2**31}, "integer_above_max_value", "seed"),
    ({"prompt_extend": "yes"}, "invalid_type", "prompt_extend"),
    ({"watermark": 1}, "invalid_type", "watermark"),
    ({"user": "u" * 257}, "string_above_max_length", "user"),
    ({"quality": "hd"}, "invalid_value", "quality"),
    ({"style": "vivid"}, "invalid_value", "style"),
    ({"background": "transparent"}, "invalid_value", "background"),
    ({"output_format": "webp"}, "invalid_value", "output_format"),
    ({"output_compression": 50}, "invalid_value", "output_compression"),
    ({"stream": True}, "invalid_value", "stream"),
    ({"stream": 0}, "invalid_value", "stream"),
    ({"partial_images": 2}, "invalid_value", "partial_images"),
    ({"steps": 30}, "unknown_parameter", "steps"),
    ({"input": {}}, "unknown_parameter", "input"),
]


def read_error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-request-id"].startswith("req_")
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(("change", "code", "param"), INVALID, ids=lambda value: str(value)[:40])
async def test_a_wrong_value_is_named(
    gateway: httpx.AsyncClient, change: dict[str, Any], code: str, param: str | None
) -> None:
    error = read_error(await gateway.post(URL, json=GOOD | change), 400)
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)


async def test_what_may_be_sent_is_written_as_json(gateway: httpx.AsyncClient) -> None:
    said = [
        read_error(await gateway.post(URL, json=GOOD | change), 400)["message"]
        for change in ({"stream": True}, {"quality": "hd"})
    ]
    assert said == [
        "'stream' is not supported here: leave it out or send false.",
        "'quality' is not supported here: leave it out or send 'auto', 'standard'.",
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b'{"model": ', "application/json", 400, "invalid_json"),
        (b"", "application/json", 400, "invalid_json"),
        (b'{"prompt": NaN}', "application/json", 400, "invalid_json"),
        (b'{"prompt": "\xff"}', "application/json", 400, "invalid_json"),
        (b'{"prompt": "\\ud800"}', "application/json", 400, "invalid_json"),
        (b"{} {}", "application/json", 400, "invalid_json"),
        (b"[" * 5000, "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_type"),
        (b'"text"', "application/json", 400, "invalid_type"),
        (b"null", "application/json", 400, "invalid_type"),
        (b"model=qwen", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b'{"prompt": "' + b"x" * 70_000 + b'"}', "application/json", 413, "request_too_large"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_body_that_is_no_request(
    gateway: httpx.AsyncClient, body: bytes, content_type: str, status: int, code: str
) -> None:
    response = await gateway.post(URL, content=body, headers={"Content-Type": content_type})
    assert read_error(response, status)["code"] == code


async def test_nothing_is_written_or_sent_for_refused_requests(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    for change, _, _ in INVALID:
        assert (await gateway.post(URL, json=GOOD | change)).status_code == 400
    assert await count_rows_async() == NOTHING
    assert simulator.totals()["submissions"] == 0


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer sk-cr-nobody-x", "Basic abc", "Bearer " + "x" * 999]
)
async def test_every_bad_key_gets_the_same_words(gateway: httpx.AsyncClient, header: str) -> None:
    error = read_error(await gateway.post(URL, json=GOOD, headers={"Authorization": header}), 401)
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert error["message"] == "Incorrect API key provided. Send it as 'Authorization: Bearer YOUR_API_KEY'."


@pytest.mark.parametrize("name", ["qwen-image-edit-2509", "dall-e-3", "", "QWEN-IMAGE-MAX", "x" * 500])
async def test_an_unknown_model_is_not_found(gateway: httpx.AsyncClient, name: str) -> None:
    error = read_error(await gateway.post(URL, json=GOOD | {"model": name}), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("method", "url", "status", "code"),
    [
        ("PUT", URL, 405, "method_not_allowed"),
        ("DELETE", URL, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1", 404, "unknown_url"),
        ("GET", "/v1/", 404, "unknown_url"),
        ("POST", "/v1/chat/completions", 404, "unknown_url"),
        ("POST", URL + "/", 404, "unknown_url"),
    ],
)
async def test_other_urls_and_methods(
    gateway: httpx.AsyncClient, method: str, url: str, status: int, code: str
) -> None:
    response = await gateway.request(method, url)
    assert read_error(response, status)["code"] == code
    assert ("allow" in response.headers) == (status == 405)


async def test_a_model_without_a_price_is_not_sold(gateway: httpx.AsyncClient, customer: Customer) -> None:
    from asgiref.sync import sync_to_async

    from models_registry.models import ImageModel

    await sync_to_async(ImageModel.objects.create)(
        name="free-lunch", title="x", execution_shape="sync", default_size="512x512"
    )
    error = read_error(await gateway.post(URL, json={"model": "free-lunch", "prompt": "x"}), 503)
    assert error["code"] == "model_unavailable"
