"""What happens upstream -> answer -> money, over HTTP against the simulated upstream that misbehaves as asked.

The prompt carries the fault; every case ends with the books proved and nothing held.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.books import count_rows_async, read_attempts_async, read_violations_async
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
PLUS, TWO = "qwen-image-plus", "qwen-image-2.0"

MODERATED = (400, "image_generation_user_error", "moderation_blocked")
FAILED = (502, "upstream_error", "upstream_failed")
NOBODY = (503, "service_unavailable", "no_channel_available")
BUSY = (429, "rate_limit_error", "rate_limit_exceeded")
INVALID = (400, "invalid_request_error", "invalid_value")

REJECTED, UNKNOWN, BROKEN = "rejected", "unknown", "failed"

#: (model, fault) -> answer, the one attempt as (state, code, billed)
CASES: list[tuple[str, str, tuple[int, str, str], tuple[str, str, str]]] = [
    (TWO, "moderation_input", MODERATED, (REJECTED, "content_policy", "no")),
    (PLUS, "moderation_input", MODERATED, (REJECTED, "content_policy", "no")),
    (PLUS, "moderation_input late=true", MODERATED, (BROKEN, "content_policy", "no")),
    (TWO, "moderation_output", MODERATED, (REJECTED, "content_policy", "no")),
    (PLUS, "moderation_output", MODERATED, (BROKEN, "content_policy", "no")),
    (TWO, "error status=400 code=InvalidParameter", INVALID, (REJECTED, "bad_request", "no")),
    (TWO, "error status=401 code=InvalidApiKey", NOBODY, (REJECTED, "auth", "no")),
    (TWO, "error status=400 code=Arrearage", NOBODY, (REJECTED, "arrears", "no")),
    (PLUS, "error status=429 code=PostpaidBillOverdue", NOBODY, (REJECTED, "arrears", "no")),
    (TWO, "error status=403 code=AccessDenied.Unpurchased", NOBODY, (REJECTED, "not_available", "no")),
    (TWO, "error status=404 code=ModelNotFound", NOBODY, (REJECTED, "not_available", "no")),
    (TWO, "throttle", BUSY, (REJECTED, "rate_limited", "no")),
    (PLUS, "throttle", BUSY, (REJECTED, "rate_limited", "no")),
    (TWO, "error status=500 code=InternalError", FAILED, (REJECTED, "overloaded", "no")),
    (PLUS, "failed code=InternalError.Algo", FAILED, (BROKEN, "overloaded", "no")),
    (PLUS, "failed code=InternalError.Timeout", FAILED, (BROKEN, "timeout", "no")),
    (TWO, "html status=502", FAILED, (UNKNOWN, "bad_response", "unknown")),
    (PLUS, "html status=502", FAILED, (UNKNOWN, "bad_response", "unknown")),
    (TWO, "empty status=200", FAILED, (UNKNOWN, "bad_response", "unknown")),
    (TWO, "truncated how=json", FAILED, (UNKNOWN, "bad_response", "unknown")),
    (TWO, "code200 code=InternalError", FAILED, (REJECTED, "overloaded", "no")),
    (TWO, "reset", FAILED, (UNKNOWN, "connection_lost", "unknown")),
    (TWO, "reset billed=true", FAILED, (UNKNOWN, "connection_lost", "unknown")),
    (PLUS, "reset billed=true", FAILED, (UNKNOWN, "connection_lost", "unknown")),
    (TWO, "hang", FAILED, (UNKNOWN, "timeout", "unknown")),
    (PLUS, "never_ends", FAILED, (UNKNOWN, "timeout", "unknown")),
    (TWO, "image_broken how=crc", FAILED, (BROKEN, "bad_response", "yes")),
    (TWO, "image_broken how=truncated", FAILED, (BROKEN, "bad_response", "yes")),
    (PLUS, "image_broken how=html", FAILED, (BROKEN, "bad_response", "yes")),
    (TWO, "image_broken how=empty", FAILED, (BROKEN, "bad_response", "yes")),
    (TWO, "image_size width=512 height=512", FAILED, (BROKEN, "bad_response", "yes")),
    (TWO, "image_size width=1024 height=768", FAILED, (BROKEN, "bad_response", "yes")),
    (TWO, "image_oversized bytes=50000000", FAILED, (BROKEN, "bad_response", "yes")),
    (TWO, "image_error status=403", FAILED, (BROKEN, "bad_response", "yes")),
    (TWO, "image_redirect location=https://169.254.169.254/latest", FAILED, (BROKEN, "bad_response", "yes")),
]


@pytest.fixture
def impatient(settings: Any) -> None:
    """What never answers is given up after a second."""
    settings.SYNC_HORIZON_S = settings.ASYNC_HORIZON_S = 1.0


@pytest.mark.parametrize(("model", "fault", "answer", "attempt"), CASES, ids=lambda value: str(value)[:60])
async def test_a_failure_is_free_and_said_clearly(
    impatient: None,
    gateway: httpx.AsyncClient,
    simulator: RunningSimulator,
    model: str,
    fault: str,
    answer: tuple[int, str, str],
    attempt: tuple[str, str, str],
) -> None:
    body = {"model": model, "prompt": f"a cat [[sim: {fault}]]", "size": "1024x1024"}
    response = await gateway.post(URL, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == answer
    assert response.headers["x-request-id"].startswith("gen_")
    assert ("retry-after" in response.headers) == (answer in {NOBODY, BUSY})
    assert (response.headers.get("x-should-retry") == "false") == (answer in {MODERATED, FAILED, INVALID})
    assert await read_attempts_async() == [attempt]
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 0, "charges": 0, "held": 0}
    assert await read_violations_async() == []
    assert simulator.totals()["submissions"] == 1


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (PLUS, "poll_error status=500 code=InternalError"),
        (PLUS, "poll_error status=503 code=ServiceUnavailable"),
        (PLUS, "poll_throttle"),
        (TWO, "image_count count=5"),
        (TWO, "image_format format=jpeg"),
        (TWO, "image_format format=webp"),
        (TWO, "image_size width=1040 height=1030"),
        (TWO, "image_slow seconds=0.3"),
    ],
)
async def test_what_is_no_failure(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, model: str, fault: str
) -> None:
    if fault.startswith("poll_"):
        # The first poll fails; only the second says how the task is.
        name, _, options = fault.partition(" ")
        given: dict[str, Any] = dict(option.split("=") for option in options.split())
        simulator.add_rule(name, times=1, **given)
        fault = ""
    prompt = f"a cat [[sim: {fault}]]" if fault else "a cat"
    response = await gateway.post(URL, json={"model": model, "prompt": prompt, "size": "1024x1024"})
    assert response.status_code == 200, response.text
    assert len(response.json()["data"]) == 1
    assert (await count_rows_async())["charges"] == 1
    assert await read_violations_async() == []


async def test_k_of_n_are_delivered_and_only_they_are_charged(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    simulator.add_rule("image_broken", how="crc", times=2, match={"endpoint": "image"})
    body = {"model": TWO, "prompt": "four cats", "n": 4, "size": "512x512"}
    response = await gateway.post(URL, json=body)
    assert response.status_code == 200
    assert len(response.json()["data"]) == 2
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 2, "charges": 2, "held": 0}
    assert await read_violations_async() == []


async def test_fanned_out_calls_fail_one_by_one(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    # Every rule that fits strikes, so the first of the four calls meets both, and its connection breaks.
    simulator.add_rule("failed", code="InternalError", times=2, match={"endpoint": "async"})
    simulator.add_rule("reset", billed=True, times=1, match={"endpoint": "async"})
    response = await gateway.post(URL, json={"model": PLUS, "prompt": "cats", "n": 4})
    assert response.status_code == 200
    assert len(response.json()["data"]) == 2
    assert sorted(state for state, _, _ in await read_attempts_async()) == [
        "failed",
        "succeeded",
        "succeeded",
        "unknown",
    ]
    assert (await count_rows_async())["charges"] == 2
    assert await read_violations_async() == []


async def test_some_refused_and_none_delivered_is_moderation(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    simulator.add_rule("moderation_input", times=1, match={"endpoint": "async"})
    simulator.add_rule("failed", code="InternalError", times=2, match={"endpoint": "async"})
    response = await gateway.post(URL, json={"model": PLUS, "prompt": "cats", "n": 2})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "moderation_blocked")


async def test_a_full_disk_is_our_fault_and_free(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crazyrouter.files.errors import StorageUnavailable
    from crazyrouter.files.storage import LocalStorage

    def refuse(self: LocalStorage, name: str, data: bytes) -> None:
        raise StorageUnavailable("no space left")

    monkeypatch.setattr(LocalStorage, "write", refuse)
    response = await gateway.post(URL, json={"model": TWO, "prompt": "a cat", "size": "512x512"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "storage_unavailable")
    assert response.headers["x-should-retry"] == "false"
    assert await read_attempts_async() == [("failed", "storage_unavailable", "yes")]
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 0, "charges": 0, "held": 0}
    assert await read_violations_async() == []


async def test_no_money_is_refused_before_anything_is_written(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    from asgiref.sync import sync_to_async

    from tests.shop import open_customer

    poor = await sync_to_async(open_customer)("poor", micros=199_999)
    response = await gateway.post(URL, json={"model": TWO, "prompt": "a cat"}, headers=poor.headers)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == response.json()["error"]["type"] == "insufficient_quota"
    assert response.headers["x-should-retry"] == "false"
    assert await count_rows_async() == {"generations": 0, "attempts": 0, "images": 0, "charges": 0, "held": 0}
    assert simulator.totals()["submissions"] == 0


async def test_past_the_deadline_the_work_goes_on(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, settings: Any
) -> None:
    from crazyrouter.generation.runtime import get_runtime

    settings.GENERATION_DEADLINE_S = 0.3
    body = {"model": TWO, "prompt": "a cat [[sim: latency seconds=1]]", "size": "512x512"}
    response = await gateway.post(URL, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (504, "upstream_error", "generation_timeout")
    assert error["generation_id"] == response.headers["x-request-id"]
    assert response.headers["x-should-retry"] == "false"
    assert (await count_rows_async())["held"] == 200_000
    await get_runtime().engine.stop(patience_s=10)
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 1, "charges": 1, "held": 0}
    assert await read_violations_async() == []
