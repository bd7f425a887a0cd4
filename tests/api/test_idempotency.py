"""One Idempotency-Key, one generation, one charge: whoever asks, how often, and in whatever spelling."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from billing.keys import create_key
from billing.models import Account, ApiKey, LedgerEntry
from crazyrouter.generation import snapshot
from crazyrouter.generation.models import Generation, IdempotencyKey
from crazyrouter.generation.readback import forget_keys
from models_registry.models import ImageModel, Price
from tests.books import count_rows_async, read_violations_async
from tests.shop import Customer, open_customer
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
TWO = "qwen-image-2.0"
BODY = {"model": TWO, "prompt": "a cat", "size": "512x512"}
START, PRICE = 100_000_000, 200_000
ONE_OF_EACH = {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}


async def send(gateway: httpx.AsyncClient, body: Any = BODY, *, key: Any = "order-1", **headers: str) -> httpx.Response:
    return await gateway.post(URL, json=body, headers={"Idempotency-Key": key} | headers)


def is_replay(response: httpx.Response) -> bool:
    return response.headers.get("idempotent-replayed") == "true"


@sync_to_async
def age_key(**ago: float) -> None:
    """As if the generation had been opened that long ago."""
    assert IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(**ago)) == 1


@sync_to_async
def read_balance() -> int:
    return Account.objects.get(name="alice").balance_micros


async def wait_until_running() -> None:
    async with asyncio.timeout(10):
        while not await Generation.objects.filter(state="running").aexists():  # noqa: ASYNC110 - rows tell nobody
            await asyncio.sleep(0.01)


# --- many at once ---


async def test_a_thousand_at_once_are_one_generation(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    body = BODY | {"prompt": "a cat [[sim: latency seconds=1]]"}
    async with asyncio.timeout(120):
        responses = await asyncio.gather(*[send(gateway, body) for _ in range(1000)])
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1
    assert len({response.headers["x-request-id"] for response in responses}) == 1
    assert sum(not is_replay(response) for response in responses) == 1
    assert await count_rows_async() == ONE_OF_EACH
    assert await read_balance() == START - PRICE
    assert simulator.totals()["submissions"] == 1
    assert await read_violations_async() == []


async def test_hundreds_at_once_that_nobody_can_pay_are_all_refused_for_it(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    poor = await sync_to_async(open_customer)("poor", micros=PRICE - 1)
    async with asyncio.timeout(60):
        responses = await asyncio.gather(*[send(gateway, **poor.headers) for _ in range(300)])
    answers = {(response.status_code, response.json()["error"]["code"]) for response in responses}
    assert answers == {(403, "insufficient_quota")}
    assert not await IdempotencyKey.objects.aexists()
    assert simulator.totals()["submissions"] == 0


async def test_two_bodies_at_once_under_one_key(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    bodies = [BODY | {"prompt": prompt} for prompt in ("a cat", "a dog")]
    responses = await asyncio.gather(*[send(gateway, body) for body in bodies * 20])
    assert sorted(response.status_code for response in responses) == [200] * 20 + [422] * 20
    assert len({response.content for response in responses if response.status_code == 200}) == 1
    assert await count_rows_async() == ONE_OF_EACH
    assert simulator.totals()["submissions"] == 1


async def test_the_second_waits_for_the_first_and_both_fail_alike(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    body = BODY | {"prompt": "a cat [[sim: latency seconds=0.4]] [[sim: code200 billed=true]]"}
    responses = await asyncio.gather(*[send(gateway, body) for _ in range(5)])
    assert {response.status_code for response in responses} == {502}
    assert len({response.headers["x-request-id"] for response in responses}) == 1
    assert simulator.totals()["submissions"] == 1


# --- what is the same body ---


@pytest.mark.parametrize(
    "spelling",
    [
        {"size": "1024*1024"},
        {"n": 1, "response_format": "url"},
        {"n": None, "response_format": None, "seed": None, "user": None, "negative_prompt": None},
        {"quality": "auto", "style": "standard", "background": "auto", "moderation": "auto"},
        {"output_format": "png", "output_compression": 100, "stream": False, "partial_images": 0},
    ],
    ids=",".join,
)
async def test_other_spellings_of_the_same(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, spelling: dict[str, Any]
) -> None:
    body = {"model": TWO, "prompt": "a cat", "size": "1024x1024"}
    first = await send(gateway, body)
    again = await send(gateway, dict(reversed((body | spelling).items())))
    assert (again.status_code, is_replay(again), again.content) == (200, True, first.content)
    assert simulator.totals()["submissions"] == 1


@pytest.mark.parametrize("first_size", [None, "auto", "1664x928", "1664*928"])
async def test_the_default_size_written_out_is_the_same(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, first_size: str | None
) -> None:
    body = {"model": "qwen-image-plus", "prompt": "a cat"}
    first = await send(gateway, body if first_size is None else body | {"size": first_size})
    assert first.status_code == 200, first.text
    for size in ("auto", "1664x928", "1664*928", None):
        again = await send(gateway, body | {"size": size})
        assert (again.status_code, again.content) == (200, first.content)
    other = await send(gateway, body | {"size": "1328x1328"})
    assert other.status_code == 422
    assert simulator.totals()["submissions"] == 1


@pytest.mark.parametrize(
    "other",
    [
        {"response_format": "b64_json"},
        {"n": 2},
        {"prompt": "a cat "},
        {"prompt": "A cat"},
        {"user": "bob"},
        {"seed": 1},
        {"negative_prompt": "dogs"},
        {"size": "512x528"},
        {"model": "qwen-image-2.0-pro"},
        {"watermark": False},
    ],
    ids=str,
)
async def test_another_body_is_refused(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, other: dict[str, Any]
) -> None:
    first = await send(gateway)
    refused = await send(gateway, BODY | other)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert (await send(gateway)).content == first.content
    assert await count_rows_async() == ONE_OF_EACH
    assert simulator.totals()["submissions"] == 1


# --- whose it is, and how long ---


async def test_a_key_belongs_to_the_account(gateway: httpx.AsyncClient, customer: Customer) -> None:
    first = await send(gateway)
    _, secret = await sync_to_async(create_key)(customer.account)
    colleague = await send(gateway, Authorization=f"Bearer {secret}")
    assert (is_replay(colleague), colleague.content) == (True, first.content)
    stranger = await sync_to_async(open_customer)("bob")
    own = await send(gateway, **stranger.headers)
    assert (own.status_code, is_replay(own)) == (200, False)
    assert own.headers["x-request-id"] != first.headers["x-request-id"]
    assert (await count_rows_async())["charges"] == 2
    holders = IdempotencyKey.objects.order_by("generation_id").values_list("account__name", "key")
    assert [row async for row in holders] == [("alice", "order-1"), ("bob", "order-1")]


async def test_a_key_lives_a_day(gateway: httpx.AsyncClient) -> None:
    first = await send(gateway)
    await age_key(hours=23, minutes=59)
    assert (await send(gateway)).content == first.content
    assert await sync_to_async(forget_keys)() == 0
    await age_key(hours=24, minutes=1)
    second = await send(gateway, BODY | {"prompt": "a dog"})
    assert (second.status_code, is_replay(second)) == (200, False)
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    key = await IdempotencyKey.objects.aget()
    assert key.generation_id == second.headers["x-request-id"]
    assert await read_balance() == START - 2 * PRICE
    await age_key(hours=24, minutes=1)
    assert await sync_to_async(forget_keys)() == 1


async def test_a_key_lives_on_while_its_generation_runs(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    body = BODY | {"prompt": "a cat [[sim: latency seconds=1]]"}
    asking = asyncio.create_task(send(gateway, body))
    await wait_until_running()
    await age_key(hours=100)
    assert await sync_to_async(forget_keys)() == 0
    again = await send(gateway, body)
    first = await asking
    assert (is_replay(again), again.content) == (True, first.content)
    assert simulator.totals()["submissions"] == 1


@pytest.mark.parametrize(
    "key",
    [b"", b"x" * 256, b"a\x01b", b"a\tb", b"a\x7fb", "钥匙".encode(), b"caf\xe9"],
    ids=["empty", "256", "control", "tab", "delete", "utf-8", "latin-1"],
)
async def test_what_cannot_be_a_key(gateway: httpx.AsyncClient, simulator: RunningSimulator, key: bytes) -> None:
    response = await gateway.post(URL, json=BODY, headers=[(b"Idempotency-Key", key)])
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["code"], error["param"]) == ("invalid_value", "Idempotency-Key")
    assert (await count_rows_async())["generations"] == 0
    assert simulator.totals()["submissions"] == 0


async def test_the_longest_key(gateway: httpx.AsyncClient) -> None:
    key = "~ '\"" + "x" * 251
    first = await send(gateway, key=key)
    again = await send(gateway, key=key)
    assert (first.status_code, is_replay(again), again.content) == (200, True, first.content)


# --- what a replay does not ask ---


async def test_a_replay_costs_no_limit(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await ApiKey.objects.filter(pk=customer.key_id).aupdate(
        requests_per_minute=1, spend_limit_micros=PRICE, max_in_flight=1
    )
    first = await send(gateway)
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    for _ in range(3):
        again = await send(gateway)
        assert (again.status_code, is_replay(again), again.content) == (200, True, first.content)
        assert "x-ratelimit-limit-requests" not in again.headers
    assert (await send(gateway, key="order-2")).json()["error"]["code"] in {
        "spend_limit_reached",
        "rate_limit_exceeded",
    }
    key = await ApiKey.objects.aget(pk=customer.key_id)
    assert (key.window_requests, key.spent_micros, key.in_flight) == (1, PRICE, 0)


@pytest.mark.parametrize("status", ["hidden", "retired"])
async def test_a_replay_ignores_todays_price_model_and_balance(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(snapshot, "REFRESH_AFTER_S", 0)
    monkeypatch.setattr(snapshot, "TOO_OLD_AFTER_S", 0)
    first = await send(gateway)
    await Price.objects.acreate(
        model=await ImageModel.objects.aget(name=TWO), amount_micros=900_000, effective_from=timezone.now()
    )
    await ImageModel.objects.filter(name=TWO).aupdate(status=status)
    await Account.objects.filter(name="alice").aupdate(balance_micros=0)
    fresh = await send(gateway, key="order-2")
    assert fresh.json()["error"]["code"] == "model_not_found"
    again = await send(gateway)
    assert (again.status_code, is_replay(again), again.content) == (200, True, first.content)
    charges = LedgerEntry.objects.filter(kind="charge").values_list("amount_micros", flat=True)
    assert [amount async for amount in charges] == [-PRICE]
    assert simulator.totals()["submissions"] == 1


# --- the answer again ---


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
async def test_the_first_answer_to_the_byte(gateway: httpx.AsyncClient, response_format: str) -> None:
    body = BODY | {"n": 3, "response_format": response_format}
    first = await send(gateway, body)
    again = await send(gateway, body)
    assert len(first.json()["data"]) == 3
    assert again.content == first.content
    assert again.json()["created"] == first.json()["created"]
    assert again.headers["x-request-id"] == first.headers["x-request-id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    generation = await Generation.objects.aget()
    assert abs(first.json()["created"] - generation.created_at.timestamp()) < 2


async def test_answers_at_once_and_later_are_told_apart_by_the_header_alone(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    body = BODY | {"prompt": "a cat [[sim: latency seconds=0.5]]"}
    later = await send(gateway, body, Prefer="respond-async")
    assert (later.status_code, later.json()["status"], is_replay(later)) == (202, "running", False)
    still = await send(gateway, body, Prefer="respond-async")
    assert (still.status_code, is_replay(still)) == (202, True)
    assert still.json()["id"] == later.json()["id"]
    waited = await send(gateway, body)
    assert (waited.status_code, is_replay(waited)) == (200, True)
    ended = await send(gateway, body, Prefer="respond-async")
    assert (ended.status_code, ended.json()["status"]) == (200, "succeeded")
    assert [item["url"] for item in ended.json()["data"]] == [item["url"] for item in waited.json()["data"]]
    assert await count_rows_async() == ONE_OF_EACH
    assert simulator.totals()["submissions"] == 1
