"""Every row of the outcome table over HTTP: the answer, the money, the Idempotency-Key, and what follows.

What is expected is written out here and not read from the table, so that both must say the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import httpx
import orjson
import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError

from billing.ledger import top_up
from billing.models import Account, ApiKey, LedgerEntry
from crazyrouter.files.errors import StorageUnavailable
from crazyrouter.files.storage import LocalStorage
from crazyrouter.generation import driver, engine
from crazyrouter.generation.models import Attempt, Generation, IdempotencyKey
from crazyrouter.generation.outcomes import TABLE
from crazyrouter.generation.runtime import close_runtime, get_runtime
from providers.models import Capacity, Channel, UpstreamAccount
from tests.books import count_rows_async, read_attempts_async, read_violations_async
from tests.shop import Customer, open_channel, open_customer
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
PLUS, TWO = "qwen-image-plus", "qwen-image-2.0"
BODY = {"model": TWO, "prompt": "a cat", "size": "512x512"}
KEY = "order-1"
START, PRICE = 100_000_000, 200_000

Test = TypeVar("Test", bound=Callable[..., Any])
#: Rows of the table, and the tests that prove them.
PROVED: dict[str, list[str]] = {}


def proves(name: str) -> Callable[[Test], Test]:
    """Marks a test as the proof of a row."""

    def note(test: Test) -> Test:
        PROVED.setdefault(name, []).append(test.__name__)
        return test

    return note


def test_every_row_has_a_test() -> None:
    assert list(PROVED) == [row.name for row in TABLE]
    names = [name for tests in PROVED.values() for name in tests]
    assert all(name.startswith("test_") and name in globals() for name in names)
    assert len(set(names)) == len(names)


# --- what is asked and looked at ---


@dataclass(frozen=True)
class Money:
    """`charges` are (generation, slot, micros) in the order of the ledger."""

    balance: int
    held: int
    charges: list[tuple[str, int, int]]


@sync_to_async
def read_money(name: str = "alice") -> Money:
    account = Account.objects.get(name=name)
    entries = LedgerEntry.objects.filter(account=account, kind="charge").order_by("sequence")
    return Money(
        account.balance_micros, account.held_micros, list(entries.values_list("reference", "line", "amount_micros"))
    )


@sync_to_async
def find_key(key: str = KEY) -> str | None:
    """The generation that the key stands for."""
    return IdempotencyKey.objects.filter(key=key).values_list("generation_id", flat=True).first()


@sync_to_async
def add_reseller(simulator: RunningSimulator, model: str = TWO) -> Channel:
    """A second candidate, behind the first by priority."""
    return open_channel(f"{simulator.base_url}/v1", "openai_images", {model: 1}, priority=10)


async def order(gateway: httpx.AsyncClient, *, key: str | None = KEY, **changes: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await gateway.post(URL, json=BODY | changes, headers=headers)


def steer(response: httpx.Response) -> tuple[str | None, str | None]:
    """The headers that an SDK's retries go by."""
    return response.headers.get("x-should-retry"), response.headers.get("retry-after")


def read_error(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return response.status_code, error["type"], error["code"]


def is_replay(response: httpx.Response) -> bool:
    return response.headers.get("idempotent-replayed") == "true"


async def check_kept(gateway: httpx.AsyncClient, first: httpx.Response, **changes: Any) -> None:
    """The key stands for this generation, and the same request gets its very answer."""
    identity = first.headers["x-request-id"]
    assert await find_key() == identity
    again = await order(gateway, **changes)
    assert is_replay(again)
    assert not is_replay(first)
    assert again.headers["x-request-id"] == identity
    assert (again.status_code, again.content, steer(again)) == (first.status_code, first.content, steer(first))


async def check_freed(gateway: httpx.AsyncClient, first: httpx.Response) -> None:
    """The key stands for nothing, and buys anew: once, another generation."""
    before = await read_money()
    assert await find_key() is None
    again = await order(gateway)
    assert again.status_code == 200, again.text
    assert not is_replay(again)
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert await find_key() == again.headers["x-request-id"]
    assert (await read_money()).balance == before.balance - PRICE


async def check_unpaid() -> None:
    assert await read_money() == Money(START, 0, [])
    assert await read_violations_async() == []


async def leave(customer: Customer, body: Mapping[str, Any], headers: Mapping[str, str]) -> list[Any]:
    """Send a request and hang up at once; what the server sent nevertheless."""
    from crazyrouter.asgi import application

    given = {**customer.headers, **headers, "content-type": "application/json", "host": "gateway"}
    raw = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": URL,
        "raw_path": URL.encode(),
        "query_string": b"",
        "headers": raw,
        "client": ("127.0.0.1", 1),
        "server": ("gateway", 80),
    }
    messages = iter([{"type": "http.request", "body": orjson.dumps(body), "more_body": False}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    await cast("Any", application)(scope, receive, send)
    return sent


# --- refused ---

REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], tuple[int, str, str], tuple[str | None, str | None]]] = [
    ("", {}, {"n": 0}, (400, "invalid_request_error", "integer_below_min_value"), (None, None)),
    ("", {}, {"size": "1x1"}, (400, "invalid_request_error", "invalid_value"), ("false", None)),
    ("", {}, {"model": "nothing"}, (404, "invalid_request_error", "model_not_found"), (None, None)),
    ("account", {"state": "suspended"}, {}, (403, "permission_error", "account_suspended"), ("false", None)),
    ("account", {"balance_micros": PRICE - 1}, {}, (403, "insufficient_quota", "insufficient_quota"), ("false", None)),
    ("key", {"spend_limit_micros": PRICE - 1}, {}, (403, "insufficient_quota", "spend_limit_reached"), ("false", None)),
    ("key", {"max_in_flight": 0}, {}, (429, "rate_limit_error", "concurrency_limit_exceeded"), (None, "5")),
    ("key", {"enabled": False}, {}, (401, "authentication_error", "invalid_api_key"), (None, None)),
]


@proves("refused")
@pytest.mark.parametrize(
    ("where", "state", "changes", "answer", "steering"), REFUSED, ids=lambda value: str(value)[:50]
)
async def test_refused(
    gateway: httpx.AsyncClient,
    simulator: RunningSimulator,
    where: str,
    state: dict[str, Any],
    changes: dict[str, Any],
    answer: tuple[int, str, str],
    steering: tuple[str | None, str | None],
) -> None:
    table: Any = {"account": Account, "key": ApiKey}.get(where)
    if table is not None:
        await sync_to_async(table.objects.update)(**state)
    before = await read_money()
    response = await order(gateway, **changes)
    assert read_error(response) == answer
    assert steer(response) == steering
    assert await find_key() is None
    assert await count_rows_async() == {"generations": 0, "attempts": 0, "images": 0, "charges": 0, "held": 0}
    assert await read_money() == before
    assert simulator.totals()["submissions"] == 0


@proves("refused")
async def test_a_refused_request_leaves_the_key_to_the_next(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    poor = await sync_to_async(open_customer)("poor", micros=PRICE - 1)
    headers = poor.headers | {"Idempotency-Key": KEY}
    refused = await gateway.post(URL, json=BODY, headers=headers)
    assert read_error(refused) == (403, "insufficient_quota", "insufficient_quota")
    await sync_to_async(top_up)(poor.account, amount_micros=1, reference="second", memo="", actor="test")
    bought = await gateway.post(URL, json=BODY, headers=headers)
    assert (bought.status_code, is_replay(bought)) == (200, False)
    assert await read_money("poor") == Money(0, 0, [(bought.headers["x-request-id"], 0, -PRICE)])
    assert simulator.totals()["submissions"] == 1


# --- how a generation ends ---


@proves("delivered")
async def test_what_was_delivered_is_paid_and_the_rest_is_not(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await add_reseller(simulator)
    simulator.add_rule("image_broken", how="crc", times=2, match={"endpoint": "image"})
    response = await order(gateway, n=4)
    assert response.status_code == 200
    assert len(response.json()["data"]) == 2
    assert steer(response) == (None, None)
    await check_kept(gateway, response, n=4)
    money = await read_money()
    assert (money.balance, money.held, len(money.charges)) == (START - 2 * PRICE, 0, 2)
    assert {(reference, micros) for reference, _, micros in money.charges} == {
        (response.headers["x-request-id"], -PRICE)
    }
    assert simulator.totals()["submissions"] == 1
    assert await read_violations_async() == []


@proves("moderation")
@pytest.mark.parametrize(
    ("model", "fault"), [(TWO, "moderation_input"), (TWO, "moderation_output"), (PLUS, "moderation_output")]
)
async def test_moderation(gateway: httpx.AsyncClient, simulator: RunningSimulator, model: str, fault: str) -> None:
    await add_reseller(simulator, model)
    changes = {"model": model, "prompt": f"a cat [[sim: {fault}]]", "size": "1664x928" if model == PLUS else "512x512"}
    response = await order(gateway, **changes)
    assert read_error(response) == (400, "image_generation_user_error", "moderation_blocked")
    assert steer(response) == ("false", None)
    await check_kept(gateway, response, **changes)
    assert [code for _, code, _ in await read_attempts_async()] == ["content_policy"]
    assert simulator.totals()["submissions"] == 1
    await check_unpaid()


@proves("invalid")
async def test_what_no_upstream_accepts(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await add_reseller(simulator)
    changes = {"prompt": "a cat [[sim: error status=400 code=InvalidParameter]]"}
    response = await order(gateway, **changes)
    assert read_error(response) == (400, "invalid_request_error", "invalid_value")
    assert steer(response) == ("false", None)
    await check_kept(gateway, response, **changes)
    assert await read_attempts_async() == [("rejected", "bad_request", "no")]
    assert simulator.totals()["submissions"] == 1
    await check_unpaid()


@proves("storage")
async def test_images_that_cannot_be_stored(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: LocalStorage, name: str, data: bytes) -> None:
        raise StorageUnavailable("no space left")

    # No channel's leave to order again is leave to order for a full disk.
    await sync_to_async(Channel.objects.update)(retry_billed=1)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "write", refuse)
        response = await order(gateway)
    assert read_error(response) == (503, "service_unavailable", "storage_unavailable")
    assert steer(response) == ("false", None)
    # What the carrier takes for it is on record.
    costs = await sync_to_async(lambda: list(Attempt.objects.values_list("code", "billed", "cost_micros")))()
    assert costs == [("storage_unavailable", "yes", 150_000)]
    assert simulator.totals()["submissions"] == 1
    await check_unpaid()
    await check_freed(gateway, response)


@proves("free-failure")
@pytest.mark.parametrize(
    ("model", "fault", "first"),
    [
        (TWO, {"fault": "throttle"}, ("rejected", "rate_limited", "no")),
        (TWO, {"fault": "error", "status": 500, "code": "InternalError"}, ("rejected", "overloaded", "no")),
        (TWO, {"fault": "error", "status": 401, "code": "InvalidApiKey"}, ("rejected", "auth", "no")),
        (TWO, {"fault": "error", "status": 400, "code": "Arrearage"}, ("rejected", "arrears", "no")),
        (TWO, {"fault": "error", "status": 404, "code": "ModelNotFound"}, ("rejected", "not_available", "no")),
        (PLUS, {"fault": "failed", "code": "InternalError.Algo"}, ("failed", "overloaded", "no")),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_failure_that_costs_nothing_goes_to_the_next_channel(
    gateway: httpx.AsyncClient,
    simulator: RunningSimulator,
    model: str,
    fault: dict[str, Any],
    first: tuple[str, str, str],
) -> None:
    await add_reseller(simulator, model)
    simulator.add_rule(match={"endpoint": "async" if model == PLUS else "sync"}, **fault)
    changes = {"model": model, "size": "1664x928" if model == PLUS else "512x512"}
    response = await order(gateway, **changes)
    assert response.status_code == 200, response.text
    assert await read_attempts_async() == [first, ("succeeded", "", "")]
    await check_kept(gateway, response, **changes)
    assert await read_money() == Money(START - PRICE, 0, [(response.headers["x-request-id"], 0, -PRICE)])
    assert await read_violations_async() == []


@proves("billed-failure")
@pytest.mark.parametrize("fault", ["html status=502", "reset billed=true", "empty status=200", "image_broken how=html"])
async def test_a_failure_that_may_cost_is_not_ordered_again(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, fault: str
) -> None:
    await add_reseller(simulator)
    response = await order(gateway, prompt=f"a cat [[sim: {fault}]]")
    assert read_error(response) == (502, "upstream_error", "upstream_failed")
    (attempt,) = await read_attempts_async()
    assert attempt[2] in {"yes", "unknown"}
    assert simulator.totals()["submissions"] == 1
    await check_unpaid()


@proves("billed-failure")
async def test_a_channel_may_allow_to_order_again(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await sync_to_async(Channel.objects.filter(kind="dashscope_sync").update)(retry_billed=1)
    simulator.add_rule("reset", billed=True, times=1)
    response = await order(gateway)
    assert response.status_code == 200, response.text
    assert await read_attempts_async() == [("unknown", "connection_lost", "unknown"), ("succeeded", "", "")]
    # The upstream charges for two; the customer pays for one.
    assert simulator.totals()["images"] == 2
    assert await read_money() == Money(START - PRICE, 0, [(response.headers["x-request-id"], 0, -PRICE)])


async def take_all_room() -> Capacity:
    """Every channel's account has just been sent its one submit a minute."""
    account = await UpstreamAccount.objects.acreate(name="acme")
    await Channel.objects.aupdate(account=account)
    start = int(time.time() * 1000)
    return await Capacity.objects.acreate(account=account, submit_interval_ms=60_000, starts=[start])


@proves("no-capacity")
async def test_no_room_by_estimate(gateway: httpx.AsyncClient, simulator: RunningSimulator, settings: Any) -> None:
    """Refused before anything is written, with the moment at which it would be taken."""
    settings.QUEUE_LIMIT_S = 20.0
    capacity = await take_all_room()
    response = await order(gateway)
    assert read_error(response) == (429, "rate_limit_error", "rate_limit_exceeded")
    retry, after = steer(response)
    assert retry is None
    assert 37 <= int(after or 0) <= 41
    await check_unpaid()
    assert await count_rows_async() == {"generations": 0, "attempts": 0, "images": 0, "charges": 0, "held": 0}
    assert simulator.totals()["submissions"] == 0
    await capacity.adelete()
    await asyncio.sleep(2)  # the snapshot of this process
    await check_freed(gateway, response)


@proves("no-capacity")
async def test_no_room_after_waiting(gateway: httpx.AsyncClient, simulator: RunningSimulator, settings: Any) -> None:
    """The upstream is busy, cools down, and is not asked again in time."""
    settings.QUEUE_LIMIT_S = 1.0
    simulator.add_rule("throttle", retry_after=30, times=1)
    response = await order(gateway)
    assert read_error(response) == (429, "rate_limit_error", "rate_limit_exceeded")
    retry, after = steer(response)
    assert retry is None
    assert 20 <= int(after or 0) <= 31
    await check_unpaid()
    assert await read_attempts_async() == [("rejected", "rate_limited", "no")]
    assert await find_key() is None


@proves("no-channel")
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 401, "code": "InvalidApiKey"},
        {"status": 400, "code": "Arrearage"},
        {"status": 403, "code": "AccessDenied.Unpurchased"},
    ],
    ids=lambda fault: fault["code"],
)
async def test_every_upstream_is_down(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, fault: dict[str, Any]
) -> None:
    simulator.add_rule("error", times=1, **fault)
    response = await order(gateway)
    assert read_error(response) == (503, "service_unavailable", "no_channel_available")
    assert steer(response) == (None, "10")
    await check_unpaid()
    await check_freed(gateway, response)


@proves("no-channel")
async def test_none_is_set_up(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await sync_to_async(Channel.objects.update)(enabled=False)
    response = await order(gateway)
    assert read_error(response) == (503, "service_unavailable", "no_channel_available")
    assert steer(response) == (None, "10")
    assert await find_key() is None
    assert await count_rows_async() == {"generations": 0, "attempts": 0, "images": 0, "charges": 0, "held": 0}
    assert simulator.totals()["submissions"] == 0


@proves("exhausted")
@pytest.mark.parametrize(
    ("fault", "times"), [("html", {"status": 502}), ("error", {"status": 500, "code": "InternalError"})]
)
async def test_nothing_could_be_generated(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, fault: str, times: dict[str, Any]
) -> None:
    simulator.add_rule(fault, times=1, **times)
    response = await order(gateway)
    assert read_error(response) == (502, "upstream_error", "upstream_failed")
    assert steer(response) == ("false", None)
    assert simulator.totals()["submissions"] == 1
    await check_unpaid()
    await check_freed(gateway, response)


# --- how a request ends ---


@proves("timeout")
async def test_past_the_deadline_it_keeps_running_and_is_collected(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, settings: Any
) -> None:
    settings.GENERATION_DEADLINE_S = 0.3
    changes = {"prompt": "a cat [[sim: latency seconds=1.5]]"}
    response = await order(gateway, **changes)
    identity = response.headers["x-request-id"]
    assert read_error(response) == (504, "upstream_error", "generation_timeout")
    assert response.json()["error"]["generation_id"] == identity
    assert steer(response) == ("false", None)
    assert await read_money() == Money(START, PRICE, [])
    # While it runs the key waits as long as the first one did, and says the same.
    await check_kept(gateway, response, **changes)
    task = get_runtime().engine.find(identity)
    assert task is not None
    await task
    assert await read_money() == Money(START - PRICE, 0, [(identity, 0, -PRICE)])
    by_key = await order(gateway, **changes)
    assert (by_key.status_code, is_replay(by_key), by_key.headers["x-request-id"]) == (200, True, identity)
    url = by_key.json()["data"][0]["url"]
    by_id = (await gateway.get(f"{URL}/{identity}")).json()
    assert (by_id["status"], [item["url"] for item in by_id["data"]]) == ("succeeded", [url])
    assert (await gateway.get(URL)).json()["data"] == [by_id]
    assert simulator.totals()["submissions"] == 1
    assert await read_violations_async() == []


@proves("client-left")
async def test_a_client_that_leaves_pays_and_may_collect(
    gateway: httpx.AsyncClient, customer: Customer, simulator: RunningSimulator
) -> None:
    assert await leave(customer, BODY, {"Idempotency-Key": KEY}) == []
    generation = await sync_to_async(Generation.objects.get)()
    assert (generation.state, generation.answered_at) == ("succeeded", None)
    assert await read_money() == Money(START - PRICE, 0, [(generation.pk, 0, -PRICE)])
    assert (await gateway.get(URL)).json()["data"][0]["id"] == generation.pk
    by_id = (await gateway.get(f"{URL}/{generation.pk}")).json()
    by_key = await order(gateway)
    assert (by_key.status_code, is_replay(by_key), by_key.headers["x-request-id"]) == (200, True, generation.pk)
    assert [item["url"] for item in by_key.json()["data"]] == [item["url"] for item in by_id["data"]]
    assert simulator.totals()["submissions"] == 1
    assert await read_violations_async() == []


async def wait_for_attempt(state: str) -> None:
    async with asyncio.timeout(10):
        while state not in [attempt[0] for attempt in await read_attempts_async()]:  # noqa: ASYNC110 - rows tell nobody
            await asyncio.sleep(0.02)


async def wait_for_submission(simulator: RunningSimulator) -> None:
    async with asyncio.timeout(10):
        while simulator.totals()["submissions"] == 0:  # noqa: ASYNC110 - nor does a bill
            await asyncio.sleep(0.02)


@proves("process-killed")
@pytest.mark.parametrize(
    ("model", "state", "answer"), [(PLUS, "accepted", 200), (TWO, "created", 502)], ids=["async", "sync"]
)
async def test_another_process_goes_on(
    gateway: httpx.AsyncClient,
    simulator: RunningSimulator,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    state: str,
    answer: int,
) -> None:
    settings.LEASE_S, settings.RECOVERY_S = 1.0, 0.1
    changes = {"model": model, "prompt": "a cat [[sim: latency seconds=1]]", "size": "1024x1024"}
    asking = asyncio.create_task(order(gateway, **changes))
    await wait_for_attempt(state)
    await wait_for_submission(simulator)
    # Its work ends where it stands, and nobody gives its leases back.
    monkeypatch.setattr(engine, "give_back_leases", lambda connection, owners: [None for _ in owners])
    await close_runtime(patience_s=0)
    with pytest.raises(asyncio.CancelledError):
        await asking
    identity = await find_key()
    assert identity is not None
    assert await read_money() == Money(START, PRICE, [])
    # The next runtime of this process stands for another process.
    response = await order(gateway, **changes)
    assert (response.status_code, is_replay(response), response.headers["x-request-id"]) == (answer, True, identity)
    stored = 1 if answer == 200 else 0
    assert await read_money() == Money(START - PRICE * stored, 0, [(identity, 0, -PRICE)] * stored)
    generation = await sync_to_async(Generation.objects.get)()
    assert (generation.takeovers, generation.delivered) == (1, stored)
    assert simulator.totals()["submissions"] == 1
    assert await read_violations_async() == []


# --- which generation answers ---


@proves("replayed")
async def test_the_same_key_and_body_get_the_first_answer(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    changes = {"prompt": "a cat [[sim: latency seconds=0.5]]"}
    asking = asyncio.create_task(order(gateway, **changes))
    await wait_for_attempt("created")
    waiting = await order(gateway, **changes)
    first = await asking
    assert (first.status_code, is_replay(first)) == (200, False)
    assert (waiting.status_code, is_replay(waiting)) == (200, True)
    assert waiting.content == first.content
    assert waiting.headers["x-request-id"] == first.headers["x-request-id"]
    await check_kept(gateway, first, **changes)
    assert await read_money() == Money(START - PRICE, 0, [(first.headers["x-request-id"], 0, -PRICE)])
    assert simulator.totals()["submissions"] == 1


@proves("key-reused")
async def test_the_same_key_with_another_body(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    first = await order(gateway)
    other = await order(gateway, prompt="a dog")
    assert read_error(other) == (422, "invalid_request_error", "idempotency_key_reused")
    assert steer(other) == ("false", None)
    assert not is_replay(other)
    await check_kept(gateway, first)
    assert await read_money() == Money(START - PRICE, 0, [(first.headers["x-request-id"], 0, -PRICE)])
    assert simulator.totals()["submissions"] == 1


@proves("sdk-retry")
async def test_an_automatic_retry_joins_what_was_not_delivered(
    gateway: httpx.AsyncClient, customer: Customer, simulator: RunningSimulator
) -> None:
    assert await leave(customer, BODY, {"x-stainless-retry-count": "0"}) == []
    first = await sync_to_async(Generation.objects.get)()
    retry = {"x-stainless-retry-count": "1"}
    joined = await gateway.post(URL, json=BODY, headers=retry)
    assert (joined.status_code, joined.headers["x-request-id"]) == (200, first.pk)
    assert await read_money() == Money(START - PRICE, 0, [(first.pk, 0, -PRICE)])
    assert simulator.totals()["submissions"] == 1
    assert await find_key() is None
    # Delivered now: the next one finds nothing to join.
    further = await gateway.post(URL, json=BODY, headers={"x-stainless-retry-count": "2"})
    assert further.headers["x-request-id"] != first.pk
    assert (await read_money()).balance == START - 2 * PRICE
    assert simulator.totals()["submissions"] == 2


@proves("sdk-retry")
async def test_an_automatic_retry_after_a_fault_of_ours_joins_what_was_submitted(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(connection: Any, items: Any) -> None:
        raise DatabaseError("the database is away")

    settings.LEASE_S, settings.RECOVERY_S = 1.0, 0.1
    body = BODY | {"model": PLUS, "size": "1664x928"}
    with monkeypatch.context() as patch:
        patch.setattr(driver, "finish_generations", break_down)
        patch.setattr(driver, "WRITE_PATIENCE_S", 0)
        broken = await gateway.post(URL, json=body)
    assert read_error(broken) == (503, "service_unavailable", "service_unavailable")
    assert steer(broken) == (None, "5")
    assert await read_money() == Money(START, PRICE, [])
    joined = await gateway.post(URL, json=body, headers={"x-stainless-retry-count": "1"})
    generation = await sync_to_async(Generation.objects.get)()
    assert (joined.status_code, joined.headers["x-request-id"]) == (200, generation.pk)
    assert await read_money() == Money(START - PRICE, 0, [(generation.pk, 0, -PRICE)])
    assert simulator.totals()["submissions"] == 1
    assert await read_violations_async() == []
