"""Automatic retries of the official OpenAI SDK, which sends no Idempotency-Key: none of them buys again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from billing.keys import create_key
from billing.models import Account, LedgerEntry
from crazyrouter.generation.models import Generation
from providers.models import Channel
from tests.books import count_rows, read_violations
from tests.server import RunningServer
from tests.shop import Customer
from tests.simulator.running import RunningSimulator

pytestmark = pytest.mark.live

PLUS, TWO = "qwen-image-plus", "qwen-image-2.0"
START, PRICE = 100_000_000, 200_000


@pytest.fixture
def server(customer: Customer) -> Iterator[RunningServer]:
    with RunningServer() as running:
        yield running


class Client:
    """The SDK, noting which retry each of its requests calls itself."""

    def __init__(self, server: RunningServer, secret: str, **options: Any) -> None:
        self.tries: list[int] = []
        http = openai.DefaultHttpxClient(event_hooks={"request": [self._note]}, trust_env=False)
        self.sdk = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=secret, http_client=http, **options)

    def _note(self, request: Any) -> None:
        assert "idempotency-key" not in request.headers
        self.tries.append(int(request.headers["x-stainless-retry-count"]))

    def order(self, prompt: str, *, model: str = TWO) -> str:
        """The URL of the image."""
        with self.sdk:
            answer = self.sdk.images.generate(model=model, prompt=prompt, size="1024x1024")
        assert answer.data is not None
        (item,) = answer.data
        assert item.url is not None
        return item.url


def repeat(server: RunningServer, secret: str, prompt: str, *, number: int, model: str = TWO) -> httpx.Response:
    """What the SDK sends as its automatic retry of this number."""
    headers = {"Authorization": f"Bearer {secret}", "x-stainless-retry-count": str(number)}
    body = {"model": model, "prompt": prompt, "size": "1024x1024"}
    return httpx.post(
        f"{server.base_url}/v1/images/generations", json=body, headers=headers, timeout=30, trust_env=False
    )


def wait_until(true: Callable[[], bool], *, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def has_ended(count: int = 1) -> bool:
    return Generation.objects.exclude(state="running").count() == count


def read_charges() -> list[tuple[str, int]]:
    entries = LedgerEntry.objects.filter(kind="charge").order_by("sequence")
    return list(entries.values_list("reference", "amount_micros"))


# --- a client that is too impatient ---


def test_two_seconds_of_patience_for_ten_seconds_of_work(
    server: RunningServer, customer: Customer, simulator: RunningSimulator
) -> None:
    client = Client(server, customer.secret, timeout=2, max_retries=2)
    prompt = "a cat [[sim: latency seconds=10]]"
    with pytest.raises(openai.APITimeoutError):
        client.order(prompt, model=PLUS)
    assert client.tries == [0, 1, 2]
    generation = Generation.objects.get()
    assert (generation.state, generation.retries_joined, generation.answered_at) == ("running", 2, None)
    assert simulator.totals()["submissions"] == 1
    wait_until(has_ended)
    assert read_charges() == [(generation.pk, -PRICE)]
    (listed,) = httpx.get(f"{server.base_url}/v1/images/generations", headers=customer.headers, trust_env=False).json()[
        "data"
    ]
    assert (listed["id"], listed["status"], len(listed["data"])) == (generation.pk, "succeeded", 1)
    # Whoever goes on trying the same gets it, and the one after that orders anew.
    collected = repeat(server, customer.secret, prompt, number=3, model=PLUS)
    assert (collected.status_code, collected.headers["x-request-id"]) == (200, generation.pk)
    assert collected.json()["data"][0]["url"] == listed["data"][0]["url"]
    assert simulator.totals()["submissions"] == 1
    assert Account.objects.get().balance_micros == START - PRICE
    assert count_rows() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert read_violations() == []


@pytest.mark.parametrize("model", [PLUS, TWO])
def test_the_third_try_gets_what_the_first_has_ordered(
    server: RunningServer, customer: Customer, simulator: RunningSimulator, model: str
) -> None:
    client = Client(server, customer.secret, timeout=1.5, max_retries=4)
    url = client.order("a cat [[sim: latency seconds=3.5]]", model=model)
    assert url.startswith(f"{server.base_url}/files/")
    assert client.tries[:2] == [0, 1]
    assert 3 <= len(client.tries) <= 4
    assert count_rows() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert simulator.totals()["submissions"] == 1
    assert read_violations() == []


def test_retries_of_two_equal_orders_do_not_meet(
    server: RunningServer, customer: Customer, simulator: RunningSimulator
) -> None:
    clients = [Client(server, customer.secret, timeout=1.5, max_retries=4) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        urls = list(pool.map(lambda client: client.order("a cat [[sim: latency seconds=3.5]]"), clients))
    assert len(set(urls)) == 2
    assert all(len(client.tries) >= 3 for client in clients)
    assert count_rows() == {"generations": 2, "attempts": 2, "images": 2, "charges": 2, "held": 0}
    assert simulator.totals()["submissions"] == 2
    assert Account.objects.get().balance_micros == START - 2 * PRICE


def test_what_was_delivered_or_is_anothers_is_never_joined(
    server: RunningServer, customer: Customer, simulator: RunningSimulator
) -> None:
    first = Client(server, customer.secret).order("a cat")
    again = repeat(server, customer.secret, "a cat", number=1)
    assert (again.status_code, again.json()["data"][0]["url"] != first) == (200, True)
    assert simulator.totals()["submissions"] == 2
    # Undelivered, but another body, another key, another number or too old.
    with pytest.raises(openai.APITimeoutError):
        Client(server, customer.secret, timeout=0.5, max_retries=0).order("a dog [[sim: latency seconds=1]]")
    wait_until(lambda: has_ended(3))
    waiting = Generation.objects.get(answered_at=None)
    _, colleague = create_key(customer.account)
    assert repeat(server, colleague, waiting.prompt, number=1).headers["x-request-id"] != waiting.pk
    assert repeat(server, customer.secret, "a dog", number=1).headers["x-request-id"] != waiting.pk
    assert repeat(server, customer.secret, waiting.prompt, number=0).headers["x-request-id"] != waiting.pk
    ordered = waiting.created_at
    Generation.objects.filter(pk=waiting.pk).update(created_at=ordered - timedelta(minutes=15))
    assert repeat(server, customer.secret, waiting.prompt, number=1).headers["x-request-id"] != waiting.pk
    Generation.objects.filter(pk=waiting.pk).update(created_at=ordered - timedelta(minutes=14))
    assert repeat(server, customer.secret, waiting.prompt, number=1).headers["x-request-id"] == waiting.pk
    assert count_rows() == {"generations": 7, "attempts": 7, "images": 7, "charges": 7, "held": 0}


# --- errors ---


def expect_error(client: Client, prompt: str) -> tuple[int, str | None]:
    with pytest.raises(openai.APIStatusError) as raised:
        client.order(prompt)
    return raised.value.status_code, raised.value.code


ERRORS = [
    ("html status=502", (502, "upstream_failed")),
    ("reset billed=true", (502, "upstream_failed")),
    ("error status=500 code=InternalError", (502, "upstream_failed")),
    ("image_broken how=crc", (502, "upstream_failed")),
    ("moderation_input", (400, "moderation_blocked")),
    ("error status=400 code=InvalidParameter", (400, "invalid_value")),
]


def test_no_error_after_a_submit_is_tried_again(
    server: RunningServer, customer: Customer, simulator: RunningSimulator
) -> None:
    for submissions, (directive, answer) in enumerate(ERRORS, 1):
        client = Client(server, customer.secret)
        assert client.sdk.max_retries == 2
        assert expect_error(client, f"a cat [[sim: {directive}]]") == answer
        assert client.tries == [0]
        assert simulator.totals()["submissions"] == submissions
    assert read_charges() == []
    assert read_violations() == []


def test_a_full_disk_is_not_tried_again(customer: Customer, simulator: RunningSimulator, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    with RunningServer(FILE_STORAGE_URL=f"file://{folder}") as server:
        shutil.rmtree(folder, ignore_errors=True)
        folder.write_text("where the folder was")
        client = Client(server, customer.secret)
        assert expect_error(client, "a cat") == (503, "storage_unavailable")
    assert client.tries == [0]
    assert simulator.totals()["submissions"] == 1
    assert count_rows() == {"generations": 1, "attempts": 1, "images": 0, "charges": 0, "held": 0}


def test_a_passed_deadline_is_not_tried_again(customer: Customer, simulator: RunningSimulator) -> None:
    with RunningServer(GENERATION_DEADLINE_S=0.5) as server:
        client = Client(server, customer.secret)
        assert expect_error(client, "a cat [[sim: latency seconds=1.5]]") == (504, "generation_timeout")
        assert client.tries == [0]
        wait_until(has_ended)
        generation = Generation.objects.get()
        collected = httpx.get(
            f"{server.base_url}/v1/images/generations/{generation.pk}", headers=customer.headers, trust_env=False
        ).json()
    assert (collected["status"], collected["charged"]["amount"]) == ("succeeded", "0.20")
    assert simulator.totals()["submissions"] == 1
    assert read_charges() == [(generation.pk, -PRICE)]


def test_refusals_are_not_tried_again(server: RunningServer, customer: Customer, simulator: RunningSimulator) -> None:
    def ask(**changes: Any) -> tuple[int, str | None, int]:
        headers = changes.pop("extra_headers", {})
        tries: list[Any] = []
        http = openai.DefaultHttpxClient(event_hooks={"request": [tries.append]}, trust_env=False)
        body = {"model": TWO, "prompt": "a cat", "size": "512x512"} | changes
        key = headers.pop("key", customer.secret)
        with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=key, http_client=http) as sdk:
            try:
                sdk.images.generate(**body, extra_headers=headers)
            except openai.APIStatusError as error:
                return error.status_code, error.code, len(tries)
            return 200, None, len(tries)

    assert ask(extra_headers={"Idempotency-Key": "one"}) == (200, None, 1)
    assert ask(prompt="a dog", extra_headers={"Idempotency-Key": "one"}) == (422, "idempotency_key_reused", 1)
    assert ask(n=0) == (400, "integer_below_min_value", 1)
    assert ask(model="nothing") == (404, "model_not_found", 1)
    assert ask(extra_headers={"key": "sk-cr-nobody"}) == (401, "invalid_api_key", 1)
    Account.objects.update(balance_micros=PRICE - 1)
    assert ask() == (403, "insufficient_quota", 1)
    assert simulator.totals()["submissions"] == 1


@pytest.mark.parametrize(
    ("fault", "options"),
    [("throttle", {"retry_after": 5}), ("error", {"status": 401, "code": "InvalidApiKey"})],
    ids=["429", "503"],
)
def test_what_may_be_tried_again_is_bought_once(
    server: RunningServer,
    customer: Customer,
    simulator: RunningSimulator,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    options: dict[str, Any],
) -> None:
    pauses: list[float] = []
    sleep = time.sleep

    def come_back(seconds: float) -> None:
        """The cool-down is over; an operator has enabled the channel again, and every process knows it."""
        pauses.append(seconds)
        sleep(1)
        Channel.objects.update(enabled=True, disabled_reason="")
        sleep(3)

    monkeypatch.setattr("openai._base_client.time.sleep", come_back)
    simulator.add_rule(fault, times=1, **options)
    client = Client(server, customer.secret)
    client.order("a cat")
    # As Retry-After said.
    assert client.tries == [0, 1]
    assert 0.5 <= pauses[0] <= 10.0
    totals = simulator.totals()
    assert (totals["submissions"], totals["accepted"], totals["images"]) == (2, 1, 1)
    assert count_rows() == {"generations": 2, "attempts": 2, "images": 1, "charges": 1, "held": 0}
    assert read_violations() == []
