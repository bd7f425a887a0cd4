"""The OpenAI-images reseller."""

from __future__ import annotations

import base64
import io

import httpx
import pytest
from PIL import Image

from tests.simulator.conftest import Submit
from tests.simulator.running import RunningSimulator


def test_urls(resell: Submit, bare: httpx.Client) -> None:
    body = resell(n=2).json()
    assert set(body) == {"created", "data"}
    assert [list(item) for item in body["data"]] == [["url"], ["url"]]
    assert Image.open(io.BytesIO(bare.get(body["data"][1]["url"]).content)).size == (512, 512)


def test_b64_json(resell: Submit) -> None:
    (item,) = resell(response_format="b64_json").json()["data"]
    assert list(item) == ["b64_json"]
    assert Image.open(io.BytesIO(base64.b64decode(item["b64_json"]))).size == (512, 512)


@pytest.mark.parametrize(
    ("separator", "size", "status"),
    [
        ("any", "512x512", 200),
        ("any", "512*512", 200),
        ("x", "512*512", 400),
        ("*", "512x512", 400),
        ("*", "512*512", 200),
    ],
)
def test_spelling_of_sizes(simulator: RunningSimulator, resell: Submit, separator: str, size: str, status: int) -> None:
    simulator.set_scenario(reseller={"size_separator": separator})
    assert resell(size=size).status_code == status


def test_a_rewrite_in_the_answer(simulator: RunningSimulator, resell: Submit) -> None:
    simulator.set_scenario(reseller={"revised_prompt": True})
    assert resell("a cat").json()["data"][0]["revised_prompt"].startswith("a cat ")


@pytest.mark.parametrize("key", ["sk-reseller", "sk-sim-quickstart"])
def test_its_keys(resell: Submit, key: str) -> None:
    assert resell(headers={"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/models"])
def test_keys_of_the_vendor_do_not_open_it(client: httpx.Client, path: str) -> None:
    headers = {"Authorization": "Bearer sk-configured"}
    answer = client.request("GET" if path == "/v1/models" else "POST", path, headers=headers)
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("new_api_error", "", "")
    assert error["message"].startswith("Invalid token (request id: ")


def test_an_unknown_model_has_no_channel(resell: Submit) -> None:
    answer = resell(model="dall-e-3")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_found")
    assert answer.json()["error"]["type"] == "new_api_error"


@pytest.mark.parametrize(
    ("fields", "code", "kind"),
    [
        ({"size": "100x100"}, "InvalidParameter", "upstream_error"),
        ({"n": 9}, "InvalidParameter", "upstream_error"),
        ({"prompt": ""}, "invalid_request", "new_api_error"),
        ({"response_format": "png"}, "invalid_request", "new_api_error"),
    ],
)
def test_bad_fields(resell: Submit, fields: dict, code: str, kind: str) -> None:
    prompt = fields.pop("prompt", "a cat")
    answer = resell(prompt, **fields)
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["type"]) == (400, code, kind)


def test_models(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == [
        "qwen-image-plus",
        "qwen-image-max",
        "qwen-image-2.0",
        "qwen-image-2.0-pro",
    ]


def test_success_without_pictures(simulator: RunningSimulator, resell: Submit) -> None:
    assert resell("a [[sim: no_results]]").json()["data"] == []
    assert simulator.totals()["images"] == 0
    assert set(resell("a [[sim: no_data billed=true]]").json()) == {"created"}
    assert simulator.totals()["images"] == 1


def test_success_that_is_an_error(resell: Submit) -> None:
    answer = resell("a [[sim: code200 code=insufficient_user_quota message='no quota']]")
    assert (answer.status_code, set(answer.json())) == (200, {"error"})
    assert answer.json()["error"]["code"] == "insufficient_user_quota"


def test_5xx_after_the_work_is_done(simulator: RunningSimulator, resell: Submit) -> None:
    answer = resell("a [[sim: error status=502 code=bad_response_status_code billed=true]]", n=2)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_response_status_code")
    assert simulator.totals()["images"] == 2


def test_an_exhausted_balance(simulator: RunningSimulator, resell: Submit) -> None:
    answer = resell("a [[sim: error status=403 code=insufficient_user_quota]]")
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "new_api_error")
    assert simulator.totals() | {"cost": ""} == {
        "submissions": 1,
        "accepted": 0,
        "refused": 1,
        "images": 0,
        "cost": "",
        "currency": "CNY",
    }


def test_fewer_pictures_than_ordered(simulator: RunningSimulator, resell: Submit) -> None:
    assert len(resell("a [[sim: partial ok=2]]", n=4).json()["data"]) == 2
    assert simulator.totals()["images"] == 2


def test_a_broken_picture_in_base64(resell: Submit) -> None:
    (item,) = resell("a [[sim: image_broken how=html]]", response_format="b64_json").json()["data"]
    assert base64.b64decode(item["b64_json"]).startswith(b"<html>")
