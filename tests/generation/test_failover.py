"""Who is asked next, and who is not: what may have been charged for is never ordered twice by itself."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from crazyrouter.generation.models import Attempt
from providers.models import Channel, Credential
from tests.books import count_rows_async, read_attempts_async, read_violations_async
from tests.shop import open_channel
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
BODY = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512x512"}


@sync_to_async
def add_reseller(simulator: RunningSimulator, *, max_n: int = 1, **options: Any) -> Channel:
    """A second candidate, behind the first by priority."""
    return open_channel(f"{simulator.base_url}/v1", "openai_images", {"qwen-image-2.0": max_n}, priority=10, **options)


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        ({"fault": "throttle"}, ("rejected", "rate_limited", "no")),
        ({"fault": "error", "status": 500, "code": "InternalError"}, ("rejected", "overloaded", "no")),
        ({"fault": "error", "status": 401, "code": "InvalidApiKey"}, ("rejected", "auth", "no")),
        ({"fault": "error", "status": 404, "code": "ModelNotFound"}, ("rejected", "not_available", "no")),
    ],
)
async def test_what_cost_nothing_goes_to_the_next_candidate(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, fault: dict[str, Any], first: tuple[str, str, str]
) -> None:
    await add_reseller(simulator)
    simulator.add_rule(match={"endpoint": "sync"}, **fault)
    response = await gateway.post(URL, json=BODY | {"n": 2})
    assert response.status_code == 200, response.text
    assert len(response.json()["data"]) == 2
    # One call for two images was refused; the reseller gives one image a call.
    assert await read_attempts_async() == [first, ("succeeded", "", ""), ("succeeded", "", "")]
    slots = await sync_to_async(lambda: list(Attempt.objects.order_by("id").values_list("slots", flat=True)))()
    assert slots == [[0, 1], [0], [1]]
    assert await count_rows_async() == {"generations": 1, "attempts": 3, "images": 2, "charges": 2, "held": 0}
    assert await read_violations_async() == []


@pytest.mark.parametrize("fault", ["html status=502", "reset billed=true", "moderation_input", "image_broken how=crc"])
async def test_what_may_be_charged_or_is_the_customers_fault_stays(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, fault: str
) -> None:
    await add_reseller(simulator)
    response = await gateway.post(URL, json=BODY | {"prompt": f"a cat [[sim: {fault}]]"})
    assert response.status_code in {400, 502}
    assert simulator.totals()["submissions"] == 1
    assert (await count_rows_async())["attempts"] == 1


async def test_a_channel_may_allow_a_second_order(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await add_reseller(simulator)
    await sync_to_async(Channel.objects.filter(kind="dashscope_sync").update)(retry_billed=1)
    simulator.add_rule("reset", match={"endpoint": "sync"})
    response = await gateway.post(URL, json=BODY)
    assert response.status_code == 200
    assert [state for state, _, _ in await read_attempts_async()] == ["unknown", "succeeded"]
    assert (await count_rows_async())["charges"] == 1
    assert await read_violations_async() == []


async def test_a_channel_that_cannot_be_reached_is_passed_over(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await add_reseller(simulator)
    # Port 1 is not in EGRESS_ALLOW: the guard refuses before anything is sent.
    await sync_to_async(Channel.objects.filter(kind="dashscope_sync").update)(base_url="http://127.0.0.1:1/api/v1")
    response = await gateway.post(URL, json=BODY)
    assert response.status_code == 200
    assert (await read_attempts_async())[0] == ("rejected", "unreachable", "no")


async def test_a_credential_that_does_not_open_is_passed_over(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await add_reseller(simulator)
    wrong = "gAAAAABnotatoken"
    await sync_to_async(Credential.objects.filter(channel__kind="dashscope_sync").update)(ciphertext=wrong)
    response = await gateway.post(URL, json=BODY)
    assert response.status_code == 200
    assert (await read_attempts_async())[0] == ("rejected", "auth", "no")


async def test_options_an_adapter_refuses_do_not_hold_the_money(gateway: httpx.AsyncClient) -> None:
    await sync_to_async(Channel.objects.filter(kind="dashscope_sync").update)(options={"read_timeout_s": "soon"})
    response = await gateway.post(URL, json=BODY)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_channel_available")
    assert (await count_rows_async())["held"] == 0


async def test_a_fault_of_ours_inside_a_call_ends_the_generation(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from providers.adapters.dashscope_sync import DashScopeSync

    async def break_down(self: DashScopeSync, job: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(DashScopeSync, "submit", break_down)
    response = await gateway.post(URL, json=BODY)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_failed")
    assert await read_attempts_async() == [("unknown", "bad_response", "unknown")]
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 0, "charges": 0, "held": 0}


async def test_no_channel_at_all_is_refused_before_anything_is_written(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await sync_to_async(Channel.objects.update)(enabled=False)
    response = await gateway.post(URL, json=BODY)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_channel_available")
    assert response.headers["retry-after"] == "10"
    assert (await count_rows_async())["generations"] == 0


@pytest.mark.parametrize("mode", ["url", "b64_json"])
@pytest.mark.parametrize("separator", ["x", "*"])
async def test_resellers_in_every_mode(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, mode: str, separator: str
) -> None:
    await add_reseller(simulator, max_n=4)
    await sync_to_async(Channel.objects.filter(kind="dashscope_sync").update)(enabled=False)
    await sync_to_async(Channel.objects.filter(kind="openai_images").update)(
        options={"response_format": mode, "size_separator": separator}
    )
    response = await gateway.post(URL, json=BODY | {"n": 4})
    assert response.status_code == 200, response.text
    assert len(response.json()["data"]) == 4
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 4, "charges": 4, "held": 0}


@pytest.mark.parametrize("fault", ["no_data", "no_results", "code200", "task_object"])
async def test_a_reseller_that_answers_nothing_usable(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, fault: str
) -> None:
    await add_reseller(simulator)
    await sync_to_async(Channel.objects.filter(kind="dashscope_sync").update)(enabled=False)
    response = await gateway.post(URL, json=BODY | {"prompt": f"a cat [[sim: {fault}]]"})
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_failed")
    assert await read_attempts_async() == [("unknown", "bad_response", "unknown")]
    assert await read_violations_async() == []
