"""The work belongs to the process, not to the connection; and money is exact under load."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db.models import F

from billing.models import Account
from crazyrouter.generation.models import Generation
from tests.books import count_rows, count_rows_async, read_violations, read_violations_async
from tests.server import RunningServer
from tests.shop import Customer, open_customer
from tests.simulator.running import RunningSimulator

pytestmark = pytest.mark.live


def wait_until(true: Callable[[], bool], *, seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def send_order(server: RunningServer, customer: Customer, prompt: str, *, n: int = 1) -> http.client.HTTPConnection:
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = json.dumps({"model": "qwen-image-2.0", "prompt": prompt, "size": "512x512", "n": n})
    headers = customer.headers | {"Content-Type": "application/json"}
    link.request("POST", "/v1/images/generations", body, headers)
    return link


def test_a_client_that_leaves_cancels_nothing(customer: Customer, simulator: RunningSimulator) -> None:
    with RunningServer() as server:
        links = [send_order(server, customer, "a cat [[sim: latency seconds=1]]", n=2) for _ in range(3)]
        wait_until(lambda: simulator.totals()["submissions"] == 3)
        for link in links:
            link.close()
        wait_until(lambda: Generation.objects.filter(state="succeeded").count() == 3)
    assert count_rows() == {"generations": 3, "attempts": 3, "images": 6, "charges": 6, "held": 0}
    assert set(Generation.objects.values_list("answered_at", flat=True)) == {None}
    assert read_violations() == []


def test_answered_at_is_recorded_after_the_answer(customer: Customer) -> None:
    with RunningServer() as server:
        for prompt, start in (("a cat", b'{"created":'), ("a cat [[sim: html status=502]]", b'{"error":')):
            with closing(send_order(server, customer, prompt)) as link:
                assert link.getresponse().read().startswith(start)
        wait_until(lambda: Generation.objects.exclude(answered_at=None).count() == 2)
    assert set(Generation.objects.values_list("state", flat=True)) == {"succeeded", "failed"}
    assert not Generation.objects.filter(answered_at__lt=F("finished_at")).exists()


def test_sigterm_lets_running_generations_end(customer: Customer, simulator: RunningSimulator) -> None:
    with RunningServer() as server:
        with closing(send_order(server, customer, "a cat [[sim: latency seconds=1]]")) as link:
            wait_until(lambda: simulator.totals()["submissions"] == 1)
            assert server.process is not None
            server.process.terminate()
            assert link.getresponse().status == 200
        server.process.wait(20)
    assert count_rows()["charges"] == 1
    assert read_violations() == []


def test_a_killed_process_leaves_rows_that_reconcile_explains(customer: Customer, simulator: RunningSimulator) -> None:
    from crazyrouter.generation.reconcile import check_books

    with RunningServer(LEASE_S=1, LEASE_REFRESH_S=0.5) as server:
        link = send_order(server, customer, "a cat [[sim: latency seconds=20]]", n=3)
        wait_until(lambda: simulator.totals()["submissions"] == 1)
        server.kill()
        link.close()
    time.sleep(1.2)
    found = list(check_books())
    assert [(one.rule, one.notice) for one in found] == [("driver-is-gone", True)]
    assert "600000 micro-units stay held" in found[0].detail
    assert count_rows() == {"generations": 1, "attempts": 1, "images": 0, "charges": 0, "held": 600_000}


async def test_two_hundred_at_once_with_money_for_ten(customer: Customer, simulator: RunningSimulator) -> None:
    poor = await sync_to_async(open_customer)("poor", micros=2_000_000)
    server = await sync_to_async(RunningServer().__enter__)()
    try:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=server.base_url, limits=limits, timeout=60) as client:
            body = {"model": "qwen-image-2.0", "prompt": "a cat [[sim: latency seconds=0.3]]", "size": "512x512"}
            answers = await asyncio.gather(
                *[client.post("/v1/images/generations", json=body, headers=poor.headers) for _ in range(200)]
            )
    finally:
        await sync_to_async(server.__exit__)(None, None, None)
    assert Counter(answer.status_code for answer in answers) == {200: 10, 403: 190}
    assert {a.json()["error"]["code"] for a in answers if a.status_code == 403} == {"insufficient_quota"}
    assert await count_rows_async() == {"generations": 10, "attempts": 10, "images": 10, "charges": 10, "held": 0}
    balance = await sync_to_async(lambda: Account.objects.get(name="poor").balance_micros)()
    assert balance == 0
    assert simulator.totals()["submissions"] == 10
    assert await read_violations_async() == []
