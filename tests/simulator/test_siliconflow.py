"""SiliconFlow, over plain HTTP."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.simulator.conftest import Submit
from tests.simulator.running import RunningSimulator


def test_a_picture(simulator: RunningSimulator, flow: Submit, bare: httpx.Client) -> None:
    answer = flow(seed=7, image_size="1664x928")
    body = answer.json()
    assert set(body) == {"images", "timings", "seed"}
    assert (body["timings"], body["seed"]) == ({"inference": 0.0}, 7)
    (image,) = body["images"]
    assert set(image) == {"url"}
    assert image["url"].startswith(f"{simulator.base_url}/siliconflow/outputs/")
    assert Image.open(io.BytesIO(bare.get(image["url"]).content)).size == (1664, 928)
    order, charge = simulator.bill()["entries"]
    assert (order["endpoint"], order["model"], order["n"]) == ("siliconflow", "Qwen/Qwen-Image", 1)
    assert order["request_id"] == answer.headers["x-siliconcloud-trace-id"]
    assert (charge["cost"], charge["account"]) == ("0.30", "acme")


def test_links_live_for_an_hour(simulator: RunningSimulator, flow: Submit, bare: httpx.Client) -> None:
    link = flow().json()["images"][0]["url"]
    simulator.advance(3590)
    assert bare.get(link).status_code == 200
    simulator.advance(20)
    assert bare.get(link).status_code == 403


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "Qwen/Qwen-Image-Max"}, 20012),
        ({"image_size": "1472x1104"}, 20015),
        ({"image_size": "1328*1328"}, 20015),
        ({"image_size": None}, 20015),
        ({"prompt": " "}, 20015),
        ({"batch_size": 2}, 20015),
        ({"seed": 10_000_000_000}, 20015),
    ],
)
def test_wrong_fields(simulator: RunningSimulator, flow: Submit, fields: dict[str, Any], code: int) -> None:
    answer = flow(**fields)
    assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (400, code, None)
    assert simulator.totals()["images"] == 0


@pytest.mark.parametrize(
    ("directive", "status", "body"),
    [
        ("error status=401", 401, "Api key is invalid"),
        ("error status=403", 403, "Forbidden"),
        (
            "error code=Arrearage",
            403,
            {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None},
        ),
        (
            "error status=503",
            503,
            {"code": 50505, "message": "Model service overloaded. Please try again later.", "data": None},
        ),
        ("error status=504", 504, "Gateway Timeout"),
        ("error status=503 code=50603 message=busy", 503, {"code": 50603, "message": "busy", "data": None}),
        ("error status=500 message=oh", 500, {"code": 50507, "message": "oh", "data": None}),
        (
            "moderation_input",
            400,
            {"code": 20015, "message": "Input data may contain inappropriate content.", "data": None},
        ),
    ],
)
def test_errors(simulator: RunningSimulator, flow: Submit, directive: str, status: int, body: Any) -> None:
    answer = flow(f"a cat [[sim: {directive}]]")
    assert (answer.status_code, answer.json()) == (status, body)
    assert (simulator.totals()["refused"], simulator.totals()["images"]) == (1, 0)


def test_throttled_without_a_code(flow: Submit) -> None:
    answer = flow("a cat [[sim: throttle]]")
    assert (answer.status_code, set(answer.json())) == (429, {"message", "data"})


def test_keys(flow: Submit) -> None:
    answer = flow(headers={"Authorization": "Bearer nobody"})
    assert (answer.status_code, answer.json()) == (401, "Api key is invalid")
    assert flow(headers={"Authorization": "Bearer sk-configured"}).status_code == 200


def test_what_is_free_of_charge(simulator: RunningSimulator, client: httpx.Client) -> None:
    assert [model["id"] for model in client.get("/siliconflow/v1/models").json()["data"]] == ["Qwen/Qwen-Image"]
    assert client.get("/siliconflow/v1/user/info").json()["data"]["id"] == "acme"
    assert client.get("/siliconflow/v1/models", headers={"Authorization": "Bearer x"}).status_code == 401
    assert client.get("/siliconflow/v1/none").json() == "404 page not found"
    assert simulator.totals()["submissions"] == 0


def test_success_without_pictures(simulator: RunningSimulator, flow: Submit) -> None:
    assert flow("a [[sim: no_results]]").json()["images"] == []
    assert set(flow("a [[sim: no_data billed=true]]").json()) == {"timings", "seed"}
    assert simulator.totals()["images"] == 1
