"""GET /api/pricing is the registry's price list for everybody; /v1/models tells each key its own price."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from billing.prices import append_account_price
from crazyrouter.api import pricing
from crazyrouter.generation.snapshot import Unavailable
from models_registry.models import ImageModel, Price
from tests.shop import Customer, open_customer

LIST = {"qwen-image-2.0": "0.20", "qwen-image-2.0-pro": "0.50", "qwen-image-max": "0.50", "qwen-image-plus": "0.20"}


@sync_to_async
def append_price(name: str, micros: int, *, at: datetime | None = None) -> None:
    model = ImageModel.objects.get(name=name)
    Price.objects.create(model=model, amount_micros=micros, effective_from=at or timezone.now())


@sync_to_async
def agree(customer: Customer, name: str, *, amount: int | None = None, points: int | None = None) -> None:
    append_account_price(
        customer.account,
        ImageModel.objects.get(name=name),
        kind="discount" if amount is None else "fixed",
        reason="a contract",
        actor="test",
        amount_micros=amount,
        discount_basis_points=points,
    )


async def read_amounts(gateway: httpx.AsyncClient) -> dict[str, str]:
    return {row["model"]: row["amount"] for row in (await gateway.get("/api/pricing")).json()["data"]}


# --- the public list ---


async def test_anybody_reads_every_price(gateway: httpx.AsyncClient) -> None:
    response = await gateway.get("/api/pricing", headers={"Authorization": ""})
    assert response.status_code == 200
    body = response.json()
    since = {row.pop("model"): row.pop("effective_from") for row in body["data"]}
    assert list(since) == sorted(LIST) == [model["id"] for model in (await gateway.get("/v1/models")).json()["data"]]
    for moment in since.values():
        assert datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) <= timezone.now()
    verified = [{"unit": "image", "amount": a, "currency": "CNY", "verification": "verified"} for a in LIST.values()]
    assert body == {
        "object": "list",
        "currency": "CNY",
        "data": [verified[0], verified[1] | {"verification": "beta"}, *verified[2:]],
    }


async def test_a_page_of_another_site_may_read_it_and_no_cache_keeps_it(gateway: httpx.AsyncClient) -> None:
    headers = (await gateway.get("/api/pricing")).headers
    assert headers["access-control-allow-origin"] == "*"
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"].startswith("req_")
    assert "access-control-allow-origin" not in (await gateway.get("/v1/models")).headers


async def test_a_change_shows_at_once(gateway: httpx.AsyncClient) -> None:
    assert await read_amounts(gateway) == LIST
    at = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
    await append_price("qwen-image-max", 1_234_560, at=timezone.now() + timedelta(hours=1))
    await append_price("qwen-image-plus", 123_456)
    await sync_to_async(ImageModel.objects.filter(name="qwen-image-2.0").update)(status="hidden")
    await sync_to_async(ImageModel.objects.filter(name="qwen-image-2.0-pro").update)(verification="verified")
    body = (await gateway.get("/api/pricing")).json()
    shown = {row["model"]: (row["amount"], row["verification"]) for row in body["data"]}
    assert shown == {
        "qwen-image-2.0-pro": ("0.50", "verified"),
        "qwen-image-max": ("0.50", "verified"),
        "qwen-image-plus": ("0.123456", "verified"),
    }
    assert pricing.write_time(at) == "2026-03-04T05:06:07Z"


async def test_a_model_without_a_price_in_force_is_not_on_it(gateway: httpx.AsyncClient) -> None:
    coming = await sync_to_async(ImageModel.objects.create)(
        name="qwen-image-next", title="Next", execution_shape="sync", default_size="1024x1024"
    )
    await sync_to_async(Price.objects.create)(
        model=coming, amount_micros=1, effective_from=timezone.now() + timedelta(days=1)
    )
    assert await read_amounts(gateway) == LIST


async def test_head_tells_the_length(gateway: httpx.AsyncClient) -> None:
    whole, head = await gateway.get("/api/pricing"), await gateway.head("/api/pricing")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))


async def test_it_can_only_be_read(gateway: httpx.AsyncClient) -> None:
    response = await gateway.post("/api/pricing", json={})
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"
    assert response.json()["error"] == {
        "message": "Use GET or HEAD here.",
        "type": "invalid_request_error",
        "param": None,
        "code": "method_not_allowed",
    }


async def test_a_database_that_is_down_is_said_in_the_envelope(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(pricing, "load_catalog", fail)
    response = await gateway.get("/api/pricing")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "service_unavailable"
    assert response.headers["retry-after"] == "5"
    assert response.headers["access-control-allow-origin"] == "*"


# --- what a key's own account pays ---


async def test_models_tell_the_price_that_was_agreed(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await agree(customer, "qwen-image-max", amount=333_000)
    await agree(customer, "qwen-image-plus", points=1_250)
    listed = {model["id"]: model["pricing"] for model in (await gateway.get("/v1/models")).json()["data"]}
    agreed = LIST | {"qwen-image-max": "0.333", "qwen-image-plus": "0.175"}
    assert {name: price["amount"] for name, price in listed.items()} == agreed
    one = (await gateway.get("/v1/models/qwen-image-max")).json()
    assert one["pricing"] == {"unit": "image", "amount": "0.333", "currency": "CNY"} == listed["qwen-image-max"]


async def test_what_was_agreed_with_one_is_nobody_elses_price(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await agree(customer, "qwen-image-max", amount=333_000)
    bob = await sync_to_async(open_customer)("bob")
    other = await gateway.get("/v1/models/qwen-image-max", headers=bob.headers)
    assert other.json()["pricing"]["amount"] == "0.50"
    assert await read_amounts(gateway) == LIST
