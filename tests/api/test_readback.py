"""Generations read back: by id, in a list, and ordered to be collected later."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from billing.models import Account
from crazyrouter.files.models import StoredImage
from crazyrouter.files.storage import get_storage
from crazyrouter.generation.models import Generation
from crazyrouter.generation.runtime import get_runtime
from tests.api.test_anonymity import FAULTS, find_leaks
from tests.books import count_rows_async, read_violations_async
from tests.shop import Customer, open_customer
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
TWO = "qwen-image-2.0"
BODY = {"model": TWO, "prompt": "a cat", "size": "512x512"}
SLOW = BODY | {"prompt": "a cat [[sim: latency seconds=0.7]]"}
LATER = {"Prefer": "respond-async"}
RETRY = {"x-stainless-retry-count": "1"}
UNKNOWN_ID = "gen_01jzzzzzzzzzzzzzzzzzzzzzzz"


async def buy(gateway: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    response = await gateway.post(URL, json=BODY | changes)
    assert response.status_code == 200, response.text
    return response


async def finish(identity: str) -> None:
    task = get_runtime().engine.find(identity)
    if task is not None:
        await task


def read_error(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


# --- one ---


async def test_the_generation_object(gateway: httpx.AsyncClient) -> None:
    answer = await buy(gateway, n=2)
    identity = answer.headers["x-request-id"]
    response = await gateway.get(f"{URL}/{identity}")
    expires = [image.expires_at async for image in StoredImage.objects.order_by("slot")]
    assert response.status_code == 200
    assert response.headers["x-request-id"] == identity
    assert response.headers["cache-control"] == "no-store"
    assert "retry-after" not in response.headers
    assert response.json() == {
        "id": identity,
        "object": "image.generation",
        "status": "succeeded",
        "model": TWO,
        "created": answer.json()["created"],
        "n": 2,
        "data": [
            {"url": item["url"], "expires_at": int(expires[slot].timestamp())}
            for slot, item in enumerate(answer.json()["data"])
        ],
        "charged": {"images": 2, "amount": "0.40", "currency": "CNY"},
        "error": None,
    }
    assert abs(expires[0] - timezone.now() - timedelta(hours=72)) < timedelta(minutes=1)


async def test_partial_delivery_is_charged_for_what_is_there(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    simulator.add_rule("image_broken", how="crc", times=1, match={"endpoint": "image"})
    answer = await buy(gateway, n=3)
    body = (await gateway.get(f"{URL}/{answer.headers['x-request-id']}")).json()
    assert (body["status"], body["n"], len(body["data"])) == ("succeeded", 3, 2)
    assert body["charged"] == {"images": 2, "amount": "0.40", "currency": "CNY"}


@pytest.mark.parametrize(
    ("fault", "type", "code"),
    [
        ("html status=502", "upstream_error", "upstream_failed"),
        ("moderation_input", "image_generation_user_error", "moderation_blocked"),
        ("throttle", "rate_limit_error", "rate_limit_exceeded"),
    ],
)
async def test_one_that_failed(gateway: httpx.AsyncClient, fault: str, type: str, code: str) -> None:  # noqa: A002
    answer = await gateway.post(URL, json=BODY | {"prompt": f"a cat [[sim: {fault}]]"})
    response = await gateway.get(f"{URL}/{answer.headers['x-request-id']}")
    body = response.json()
    assert (response.status_code, body["status"], body["data"]) == (200, "failed", [])
    assert body["charged"] == {"images": 0, "amount": "0.00", "currency": "CNY"}
    message = answer.json()["error"]["message"]
    assert body["error"] == {"message": message, "type": type, "param": None, "code": code}


async def test_base64_is_read_back_as_base64(gateway: httpx.AsyncClient) -> None:
    answer = await buy(gateway, n=2, response_format="b64_json")
    items = answer.json()["data"]
    assert base64.b64decode(items[0]["b64_json"])[:8] == b"\x89PNG\r\n\x1a\n"
    body = (await gateway.get(f"{URL}/{answer.headers['x-request-id']}")).json()
    assert [set(item) for item in body["data"]] == [{"b64_json", "expires_at"}] * 2
    assert [item["b64_json"] for item in body["data"]] == [item["b64_json"] for item in items]
    # A list stays small.
    (listed,) = (await gateway.get(URL)).json()["data"]
    assert [set(item) for item in listed["data"]] == [{"url", "expires_at"}] * 2


async def test_base64_whose_file_has_expired_is_still_described(gateway: httpx.AsyncClient) -> None:
    answer = await buy(gateway, response_format="b64_json")
    image = await StoredImage.objects.aget()
    await sync_to_async(get_storage().delete)(image.name)
    response = await gateway.get(f"{URL}/{answer.headers['x-request-id']}")
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "succeeded")
    url = f"http://127.0.0.1:8000/files/{image.name}"
    assert body["data"] == [{"url": url, "expires_at": int(image.expires_at.timestamp())}]
    assert body["charged"]["amount"] == "0.20"


async def test_a_running_one_tells_no_images_and_when_to_ask_again(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    later = await gateway.post(URL, json=SLOW | {"n": 2}, headers=LATER)
    identity = later.json()["id"]
    running = await gateway.get(f"{URL}/{identity}")
    assert (running.status_code, running.headers["retry-after"]) == (200, "2")
    assert running.headers["x-request-id"] == identity
    assert "preference-applied" not in running.headers
    body = running.json()
    assert (body["status"], body["data"], body["error"]) == ("running", [], None)
    assert body["charged"] == {"images": 0, "amount": "0.00", "currency": "CNY"}
    await finish(identity)
    ended = await gateway.get(f"{URL}/{identity}")
    assert "retry-after" not in ended.headers
    assert len(ended.json()["data"]) == 2
    assert ended.json()["charged"]["amount"] == "0.40"


@pytest.mark.parametrize("identity", [UNKNOWN_ID, "gen_", "x", "%00", "gen_%00", "0" * 300, "é", "..%2f..", "gen_'--"])
async def test_what_is_not_there(gateway: httpx.AsyncClient, identity: str) -> None:
    response = await gateway.get(f"{URL}/{identity}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] in {"not_found", "unknown_url"}


async def test_nobody_sees_anothers(gateway: httpx.AsyncClient) -> None:
    identity = (await buy(gateway)).headers["x-request-id"]
    bob = await sync_to_async(open_customer)("bob")
    stranger = await gateway.get(f"{URL}/{identity}", headers=bob.headers)
    missing = await gateway.get(f"{URL}/{UNKNOWN_ID}", headers=bob.headers)
    assert read_error(stranger) == read_error(missing) == (404, "not_found", None)
    assert stranger.content == missing.content
    assert (await gateway.get(URL, headers=bob.headers)).json()["data"] == []
    nobody = {"Authorization": "Bearer sk-cr-nobody"}
    for path in (URL, f"{URL}/{identity}"):
        assert read_error(await gateway.get(path, headers=nobody)) == (401, "invalid_api_key", None)


async def test_a_timeout_is_collected_by_id(gateway: httpx.AsyncClient, settings: Any) -> None:
    settings.GENERATION_DEADLINE_S = 0.2
    timeout = await gateway.post(URL, json=SLOW)
    assert timeout.status_code == 504
    identity = timeout.json()["error"]["generation_id"]
    assert (await gateway.get(f"{URL}/{identity}")).json()["status"] == "running"
    await finish(identity)
    body = (await gateway.get(f"{URL}/{identity}")).json()
    assert (body["status"], len(body["data"]), body["charged"]["amount"]) == ("succeeded", 1, "0.20")
    path = body["data"][0]["url"].removeprefix("http://127.0.0.1:8000")
    assert (await gateway.get(path)).headers["content-type"] == "image/png"


# --- many ---


async def test_pages_of_the_list(gateway: httpx.AsyncClient) -> None:
    ids = [(await buy(gateway)).headers["x-request-id"] for _ in range(5)]
    bob = await sync_to_async(open_customer)("bob")
    await gateway.post(URL, json=BODY, headers=bob.headers)
    newest = sorted(ids, reverse=True)
    whole = (await gateway.get(URL)).json()
    assert whole["object"] == "list"
    assert [item["id"] for item in whole["data"]] == newest
    assert (whole["first_id"], whole["last_id"], whole["has_more"]) == (newest[0], newest[-1], False)
    seen: list[str] = []
    after: dict[str, Any] = {}
    for has_more in (True, True, False):
        page = (await gateway.get(URL, params={"limit": 2} | after)).json()
        seen += [item["id"] for item in page["data"]]
        assert (page["has_more"], page["last_id"]) == (has_more, seen[-1])
        after = {"after": page["last_id"]}
    assert seen == newest
    end = (await gateway.get(URL, params={"after": newest[-1]})).json()
    assert end == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    exact = (await gateway.get(URL, params={"limit": 5})).json()
    assert (len(exact["data"]), exact["has_more"]) == (5, False)


async def test_a_list_shows_every_state_as_by_id(gateway: httpx.AsyncClient) -> None:
    done = await buy(gateway)
    failed = await gateway.post(URL, json=BODY | {"prompt": "a cat [[sim: html status=502]]"})
    running = await gateway.post(URL, json=SLOW, headers=LATER)
    ids = [response.headers["x-request-id"] for response in (running, failed, done)]
    listed = (await gateway.get(URL)).json()["data"]
    assert [item["id"] for item in listed] == sorted(ids, reverse=True)
    assert {item["id"]: item["status"] for item in listed} == dict(
        zip(ids, ("running", "failed", "succeeded"), strict=True)
    )
    for item in listed:
        assert item == (await gateway.get(f"{URL}/{item['id']}")).json()
    await finish(ids[0])


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("limit=0", (400, "integer_below_min_value", "limit")),
        ("limit=101", (400, "integer_above_max_value", "limit")),
        ("limit=-1", (400, "integer_below_min_value", "limit")),
        ("limit=two", (400, "invalid_type", "limit")),
        ("limit=1.0", (400, "invalid_type", "limit")),
        ("limit=", (400, "invalid_value", "limit")),
        ("limit=1&limit=2", (400, "invalid_value", "limit")),
        ("after=", (400, "invalid_value", "after")),
        ("after=%00", (400, "invalid_value", "after")),
        ("after=abc", (400, "invalid_value", "after")),
        ("after=GEN_01JZZZZZZZZZZZZZZZZZZZZZZZ", (400, "invalid_value", "after")),
        ("after=" + "x" * 41, (400, "string_above_max_length", "after")),
        ("before=gen_1", (400, "unknown_parameter", "before")),
        ("order=asc", (400, "unknown_parameter", "order")),
    ],
)
async def test_what_a_list_does_not_take(gateway: httpx.AsyncClient, query: str, answer: tuple[int, str, str]) -> None:
    assert read_error(await gateway.get(f"{URL}?{query}")) == answer


async def test_the_other_urls_take_no_parameters(gateway: httpx.AsyncClient) -> None:
    identity = (await buy(gateway)).headers["x-request-id"]
    assert read_error(await gateway.get(f"{URL}/{identity}?x=1")) == (400, "unknown_parameter", "x")


# --- later ---


@pytest.mark.parametrize("prefer", ["respond-async", "respond-async, wait=10", "return=minimal, Respond-Async"])
async def test_respond_async(gateway: httpx.AsyncClient, simulator: RunningSimulator, prefer: str) -> None:
    later = await gateway.post(URL, json=SLOW, headers={"Prefer": prefer})
    body = later.json()
    identity = body["id"]
    assert later.status_code == 202
    assert later.headers["preference-applied"] == "respond-async"
    assert later.headers["location"] == f"{URL}/{identity}"
    assert later.headers["x-request-id"] == identity
    assert later.headers["retry-after"] == "2"
    assert (body["object"], body["status"], body["data"]) == ("image.generation", "running", [])
    await finish(identity)
    ended = (await gateway.get(later.headers["location"])).json()
    assert (ended["status"], len(ended["data"]), ended["charged"]["amount"]) == ("succeeded", 1, "0.20")
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert await read_violations_async() == []


@pytest.mark.parametrize("prefer", ["wait=10", "respond-asynchronously", ""])
async def test_202_is_never_sent_unasked(gateway: httpx.AsyncClient, prefer: str) -> None:
    response = await gateway.post(URL, json=BODY, headers={"Prefer": prefer})
    assert (response.status_code, len(response.json()["data"])) == (200, 1)
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"n": 0}, (400, "integer_below_min_value", "n")),
        ({"size": "1x1"}, (400, "invalid_value", "size")),
        ({"model": "nothing"}, (404, "model_not_found", "model")),
        ({"surprise": 1}, (400, "unknown_parameter", "surprise")),
    ],
    ids=str,
)
async def test_what_is_refused_is_refused_at_once(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, changes: dict[str, Any], answer: tuple[int, str, str]
) -> None:
    assert read_error(await gateway.post(URL, json=BODY | changes, headers=LATER)) == answer
    assert (await count_rows_async())["generations"] == 0


async def test_without_money_there_is_no_202(
    gateway: httpx.AsyncClient, customer: Customer, simulator: RunningSimulator
) -> None:
    await Account.objects.filter(pk=customer.account.pk).aupdate(balance_micros=199_999)
    response = await gateway.post(URL, json=BODY, headers=LATER)
    assert read_error(response) == (403, "insufficient_quota", None)
    assert "location" not in response.headers
    assert (await count_rows_async())["generations"] == 0
    assert simulator.totals()["submissions"] == 0


async def test_a_202_was_delivered_and_its_failure_is_told_by_id(gateway: httpx.AsyncClient) -> None:
    later = await gateway.post(URL, json=BODY | {"prompt": "a cat [[sim: html status=502]]"}, headers=LATER)
    assert later.status_code == 202
    identity = later.json()["id"]
    await finish(identity)
    body = (await gateway.get(f"{URL}/{identity}")).json()
    assert (body["status"], body["error"]["code"]) == ("failed", "upstream_failed")
    # An automatic retry has nothing to join: the client knows the id.
    retry = await gateway.post(URL, json=BODY | {"prompt": "a cat [[sim: html status=502]]"}, headers=RETRY)
    assert retry.headers["x-request-id"] != identity
    assert await Generation.objects.acount() == 2


# --- what is not said ---


@pytest.mark.parametrize("model", ["qwen-image-plus", TWO])
async def test_nothing_read_back_names_a_carrier(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, model: str
) -> None:
    host = str(simulator.port).encode()
    body = {"model": model, "size": "1024x1024"}
    prompts = [f"a cat [[sim: {fault}]]" if fault else "a cat" for fault in FAULTS]
    answers = await asyncio.gather(
        *[gateway.post(URL, json=body | {"prompt": prompt}, headers=LATER) for prompt in prompts]
    )
    for answer in answers:
        assert find_leaks(answer, [host]) == []
        await finish(answer.json()["id"])
        response = await gateway.get(answer.headers["location"])
        assert response.json()["status"] in {"succeeded", "failed"}
        assert find_leaks(response, [host]) == []
    listed = await gateway.get(URL)
    assert len(listed.json()["data"]) == len(FAULTS)
    assert find_leaks(listed, [host]) == []
