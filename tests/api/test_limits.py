"""What a key and its account may do, as a customer meets it: the codes, the headers, and that nothing is written."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from billing.ledger import adjust, top_up
from billing.models import Account, AccountPrice, ApiKey, LedgerEntry
from billing.prices import append_account_price
from crazyrouter.generation.models import Generation
from models_registry.models import ImageModel
from tests.books import count_rows_async, read_violations_async
from tests.shop import Customer

URL = "/v1/images/generations"
BODY = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512x512"}
PRICE = 200_000


@sync_to_async
def limit_key(customer: Customer, **columns: Any) -> None:
    ApiKey.objects.filter(pk=customer.key_id).update(**columns)


@sync_to_async
def limit_account(customer: Customer, **columns: Any) -> None:
    Account.objects.filter(pk=customer.account.pk).update(**columns)


def read_refusal(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    return response.status_code, error["type"], error["code"]


@pytest.mark.parametrize("limit", [limit_key, limit_account])
async def test_requests_per_minute(gateway: httpx.AsyncClient, customer: Customer, limit: Any) -> None:
    await limit(customer, requests_per_minute=3)
    responses = await asyncio.gather(*[gateway.post(URL, json=BODY) for _ in range(8)])
    assert sorted(response.status_code for response in responses) == [200] * 3 + [429] * 5
    for response in responses:
        assert response.headers["x-ratelimit-limit-requests"] == "3"
        assert 1 <= int(response.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
    refused = [response for response in responses if response.status_code == 429]
    assert {read_refusal(response) for response in refused} == {(429, "rate_limit_error", "rate_limit_exceeded")}
    assert all(1 <= int(response.headers["Retry-After"]) <= 60 for response in refused)
    assert {response.headers["x-ratelimit-remaining-requests"] for response in refused} == {"0"}
    left = [response.headers["x-ratelimit-remaining-requests"] for response in responses if response not in refused]
    assert set(left) <= {"0", "1", "2"}
    assert "0" in left
    assert await count_rows_async() == {"generations": 3, "attempts": 3, "images": 3, "charges": 3, "held": 0}
    assert await read_violations_async() == []


async def test_without_a_limit_no_header_speaks_of_one(gateway: httpx.AsyncClient) -> None:
    response = await gateway.post(URL, json=BODY)
    assert response.status_code == 200
    assert [name for name in response.headers if name.startswith("x-ratelimit")] == []


@pytest.mark.parametrize("limit", [limit_key, limit_account])
async def test_generations_in_flight(gateway: httpx.AsyncClient, customer: Customer, limit: Any) -> None:
    await limit(customer, max_in_flight=2)
    slow = BODY | {"prompt": "[[sim: latency seconds=1]] a cat"}
    responses = await asyncio.gather(*[gateway.post(URL, json=slow) for _ in range(6)])
    assert sorted(response.status_code for response in responses) == [200] * 2 + [429] * 4
    refused = [response for response in responses if response.status_code == 429]
    assert {read_refusal(response) for response in refused} == {(429, "rate_limit_error", "concurrency_limit_exceeded")}
    assert {response.headers["Retry-After"] for response in refused} == {"5"}
    # What has ended makes room.
    assert (await gateway.post(URL, json=BODY)).status_code == 200
    assert await read_violations_async() == []


@pytest.mark.parametrize("limit", [limit_key, limit_account])
@pytest.mark.parametrize("column", ["spend_limit_micros", "monthly_spend_limit_micros"])
async def test_spend_limits(gateway: httpx.AsyncClient, customer: Customer, limit: Any, column: str) -> None:
    await limit(customer, **{column: 3 * PRICE + PRICE - 1})
    responses = await asyncio.gather(*[gateway.post(URL, json=BODY) for _ in range(6)])
    assert sorted(response.status_code for response in responses) == [200] * 3 + [403] * 3
    refused = [response for response in responses if response.status_code == 403]
    assert {read_refusal(response) for response in refused} == {(403, "insufficient_quota", "spend_limit_reached")}
    assert {response.headers["x-should-retry"] for response in refused} == {"false"}
    await limit(customer, **{column: 4 * PRICE})
    assert (await gateway.post(URL, json=BODY)).status_code == 200
    assert (await count_rows_async())["charges"] == 4
    assert await read_violations_async() == []


async def test_what_is_not_delivered_is_given_back_to_the_limit(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await limit_key(customer, spend_limit_micros=PRICE)
    refused = await gateway.post(URL, json=BODY | {"prompt": "[[sim: moderation_input]] a cat"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "moderation_blocked")
    assert (await gateway.post(URL, json=BODY)).status_code == 200


async def test_a_balance_of_exactly_the_price(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await limit_account(customer, credit_limit_micros=0)
    await sync_to_async(adjust)(
        customer.account, amount_micros=2 * PRICE - 1 - 100_000_000, reference="down", memo="down", actor="test"
    )
    assert (await gateway.post(URL, json=BODY)).status_code == 200
    # One micro-unit less than the price is left.
    assert read_refusal(await gateway.post(URL, json=BODY)) == (403, "insufficient_quota", "insufficient_quota")
    await sync_to_async(top_up)(customer.account, amount_micros=1, reference="up", memo="up", actor="test")
    assert (await gateway.post(URL, json=BODY)).status_code == 200
    assert (await gateway.get("/v1/balance")).json()["available"] == "0.00"
    assert await read_violations_async() == []


@pytest.mark.parametrize("limit", [limit_key, limit_account])
async def test_allowed_models(gateway: httpx.AsyncClient, customer: Customer, limit: Any) -> None:
    await limit(customer, allowed_models=["qwen-image-plus"])
    response = await gateway.post(URL, json=BODY)
    assert read_refusal(response) == (403, "permission_error", "model_not_allowed")
    assert response.json()["error"]["param"] == "model"
    assert (await gateway.post(URL, json=BODY | {"model": "qwen-image-plus", "size": "1664x928"})).status_code == 200


async def test_a_key_and_its_account_must_both_allow(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await limit_account(customer, allowed_models=["qwen-image-plus", "qwen-image-2.0"])
    await limit_key(customer, allowed_models=["qwen-image-max", "qwen-image-2.0"])
    assert (await gateway.post(URL, json=BODY)).status_code == 200
    for model in ("qwen-image-plus", "qwen-image-max"):
        response = await gateway.post(URL, json=BODY | {"model": model})
        assert read_refusal(response) == (403, "permission_error", "model_not_allowed")


#: (declared proxies, X-Forwarded-For, allowed)
ADDRESSES = [
    (0, None, True),
    (0, "203.0.113.9", True),  # a claim that nobody vouches for
    (1, "127.0.0.1", True),
    (1, "203.0.113.9", False),
    (1, "127.0.0.1, 203.0.113.9", False),  # the client's claim, then what our proxy saw
    (1, "203.0.113.9, 127.0.0.1", True),
    (2, "127.0.0.1, 203.0.113.9", True),
    (2, "198.51.100.1, 203.0.113.9, 127.0.0.1", False),
    (1, "127.0.0.1:4711", True),
    (1, "[::ffff:127.0.0.1]:4711", True),
    (1, "unknown", False),
    (2, "203.0.113.9", True),  # not through all of our proxies: the peer counts
]


@pytest.mark.parametrize(("proxies", "forwarded", "allowed"), ADDRESSES)
async def test_allowed_networks(
    gateway: httpx.AsyncClient, customer: Customer, settings: Any, proxies: int, forwarded: str | None, allowed: bool
) -> None:
    await limit_key(customer, allowed_networks=["127.0.0.0/8"])
    settings.TRUSTED_PROXY_COUNT = proxies
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    response = await gateway.get("/v1/models", headers=headers)
    if allowed:
        assert response.status_code == 200
    else:
        assert read_refusal(response) == (403, "permission_error", "ip_not_allowed")


async def test_a_key_that_is_switched_off_is_no_key(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await limit_key(customer, enabled=False)
    assert read_refusal(await gateway.get("/v1/models")) == (401, "authentication_error", "invalid_api_key")


@sync_to_async
def agree(customer: Customer, **terms: Any) -> AccountPrice:
    model = ImageModel.objects.get(name="qwen-image-2.0")
    return append_account_price(customer.account, model, reason="a year's volume", actor="test", **terms)


@sync_to_async
def read_charge() -> tuple[int, int | None, int | None]:
    entry = LedgerEntry.objects.filter(kind="charge").latest("id")
    return -entry.amount_micros, entry.account_price_version, Generation.objects.latest("id").account_price_id


@pytest.mark.parametrize(
    ("terms", "micros"),
    [
        ({"kind": "fixed", "amount_micros": 123_457}, 123_457),
        ({"kind": "discount", "discount_basis_points": 1250}, 175_000),
    ],
)
async def test_an_agreed_price(
    gateway: httpx.AsyncClient, customer: Customer, terms: dict[str, Any], micros: int
) -> None:
    agreed = await agree(customer, **terms)
    assert (await gateway.post(URL, json=BODY)).status_code == 200
    assert await read_charge() == (micros, agreed.pk, agreed.pk)
    assert await read_violations_async() == []


async def test_a_generation_in_flight_pays_the_price_it_was_opened_with(
    gateway: httpx.AsyncClient, customer: Customer
) -> None:
    running = asyncio.create_task(gateway.post(URL, json=BODY | {"prompt": "[[sim: latency seconds=2.5]] a cat"}))
    for _ in range(100):
        await asyncio.sleep(0.02)
        if await sync_to_async(Generation.objects.exists)():
            break
    agreed = await agree(customer, kind="fixed", amount_micros=1)
    assert (await running).status_code == 200
    assert await read_charge() == (PRICE, None, None)
    assert (await gateway.post(URL, json=BODY)).status_code == 200
    assert await read_charge() == (1, agreed.pk, agreed.pk)
    assert await read_violations_async() == []
