"""GET /v1/models: the four models with exactly the published facts."""

from __future__ import annotations

import httpx
import pytest
from asgiref.sync import sync_to_async

from models_registry.models import ImageModel

CLASSIC = ["1664x928", "1472x1104", "1328x1328", "1104x1472", "928x1664", "1024x1024"]
RANGE = {"min_pixels": 262_144, "max_pixels": 4_194_304, "multiple": 16}
RANGED = ["2048x2048", "2688x1536", "1536x2688", "2368x1728", "1728x2368", "1024x1024"]
FACTS = {
    "qwen-image-plus": ("verified", "0.20", CLASSIC, "1664x928", None, 4),
    "qwen-image-max": ("verified", "0.50", CLASSIC, "1664x928", None, 4),
    "qwen-image-2.0": ("verified", "0.20", RANGED, "2048x2048", RANGE, 6),
    "qwen-image-2.0-pro": ("beta", "0.50", RANGED, "2048x2048", RANGE, 6),
}


@pytest.mark.parametrize("name", FACTS)
async def test_each_model_as_promised(gateway: httpx.AsyncClient, name: str) -> None:
    response = await gateway.get(f"/v1/models/{name}")
    assert response.status_code == 200
    model = response.json()
    verification, amount, sizes, default_size, size_range, max_n = FACTS[name]
    assert isinstance(model.pop("created"), int)
    assert model == {
        "id": name,
        "object": "model",
        "owned_by": "crazyrouter",
        "capability": "text-to-image",
        "verification": verification,
        "pricing": {"unit": "image", "amount": amount, "currency": "CNY"},
        "sizes": sizes,
        "default_size": default_size,
        "size_range": size_range,
        "max_n": max_n,
    }


async def test_the_list_has_the_four(gateway: httpx.AsyncClient) -> None:
    body = (await gateway.get("/v1/models")).json()
    assert body["object"] == "list"
    assert {model["id"] for model in body["data"]} == set(FACTS)


async def test_models_need_a_key(gateway: httpx.AsyncClient) -> None:
    for url in ("/v1/models", "/v1/models/qwen-image-max"):
        assert (await gateway.get(url, headers={"Authorization": ""})).status_code == 401


@pytest.mark.parametrize("status", ["hidden", "retired"])
async def test_a_model_off_sale_is_not_found_anywhere(gateway: httpx.AsyncClient, status: str) -> None:
    await sync_to_async(ImageModel.objects.filter(name="qwen-image-max").update)(status=status)
    answers = [
        await gateway.get("/v1/models/qwen-image-max"),
        await gateway.post("/v1/images/generations", json={"model": "qwen-image-max", "prompt": "x"}),
    ]
    assert [answer.json()["error"]["code"] for answer in answers] == ["model_not_found"] * 2
    assert [answer.status_code for answer in answers] == [404] * 2
    assert "qwen-image-max" not in (await gateway.get("/v1/models")).text


def test_the_published_shapes(db: None) -> None:
    from models_registry.seed import seed_models

    assert seed_models() == ["qwen-image-plus", "qwen-image-max", "qwen-image-2.0", "qwen-image-2.0-pro"]
    assert seed_models() == []
    assert dict(ImageModel.objects.values_list("name", "execution_shape")) == {
        "qwen-image-plus": "async",
        "qwen-image-max": "sync",
        "qwen-image-2.0": "sync",
        "qwen-image-2.0-pro": "sync",
    }
    assert dict(ImageModel.objects.values_list("name", "prompt_limit")) == {
        "qwen-image-plus": 800,
        "qwen-image-max": 800,
        "qwen-image-2.0": 1300,
        "qwen-image-2.0-pro": 1300,
    }
