"""Who is asked next, and who is not: what may have been charged for is never ordered twice by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from crazyrouter.files.store import StoredPicture
from crazyrouter.generation.ends import list_again, make_withdrawn
from crazyrouter.generation.models import Attempt
from crazyrouter.generation.order import Call, CallResult, Failure
from providers.models import Channel, Credential
from tests.books import count_rows_async, read_attempts_async, read_violations_async
from tests.generation.test_allocation import make_route
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
    assert (await read_attempts_async())[0] == ("rejected", "unreachable", "no")
    assert await Channel.objects.filter(enabled=True).acount() == 3


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


# --- some pictures of a call came, others did not ---


async def read_slots() -> list[tuple[str, list[int], int, str]]:
    """(channel, slots, pictures, code) of every attempt, in order."""
    rows = Attempt.objects.order_by("id").values_list("channel__kind", "slots", "images", "code")
    return [row async for row in rows]


async def test_pictures_that_failed_free_of_charge_are_made_elsewhere(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    """Two of four came, and the carrier counts two: what it does not count it does not charge."""
    await add_reseller(simulator)
    simulator.add_rule("partial", match={"endpoint": "sync"}, ok=2, of=4, code="InternalError.Algo", message="broke")
    response = await gateway.post(URL, json=BODY | {"n": 4})
    assert (response.status_code, len(response.json()["data"])) == (200, 4)
    assert await read_slots() == [
        ("dashscope_sync", [0, 1, 2, 3], 2, "bad_response"),
        ("openai_images", [2], 1, ""),
        ("openai_images", [3], 1, ""),
    ]
    assert simulator.totals()["images"] == 4
    assert await count_rows_async() == {"generations": 1, "attempts": 3, "images": 4, "charges": 4, "held": 0}
    assert await read_violations_async() == []


@pytest.mark.parametrize(("retry_billed", "delivered"), [(0, 1), (1, 2)])
async def test_a_picture_that_came_broken_is_ordered_again_only_where_its_channel_allows_it(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, retry_billed: int, delivered: int
) -> None:
    """The carrier has charged for both; the other picture is delivered in any case."""
    await add_reseller(simulator)
    await sync_to_async(Channel.objects.filter(kind="dashscope_sync").update)(retry_billed=retry_billed)
    simulator.add_rule("image_broken", match={"endpoint": "image"}, times=1, how="crc")
    response = await gateway.post(URL, json=BODY | {"n": 2})
    assert (response.status_code, len(response.json()["data"])) == (200, delivered)
    calls = await read_slots()
    assert calls[0][2:] == (1, "bad_response")
    assert [(kind, len(slots)) for kind, slots, _, _ in calls[1:]] == [("openai_images", 1)] * retry_billed
    counts = {"generations": 1, "attempts": 1 + retry_billed, "images": delivered, "charges": delivered, "held": 0}
    assert await count_rows_async() == counts
    assert await read_violations_async() == []


async def test_what_nobody_else_can_make_is_settled_as_it_is(
    gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    simulator.add_rule("partial", ok=3, of=4, code="InternalError.Algo", message="broke")
    response = await gateway.post(URL, json=BODY | {"n": 4})
    assert (response.status_code, len(response.json()["data"])) == (200, 3)
    assert await read_slots() == [("dashscope_sync", [0, 1, 2, 3], 3, "bad_response")]
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 3, "charges": 3, "held": 0}
    assert await read_violations_async() == []


async def test_who_cannot_pass_on_a_field_is_not_asked(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    """A seed that would be dropped in silence is not what was ordered."""
    await add_reseller(simulator)
    simulator.add_rule("error", match={"endpoint": "sync"}, status=500, code="InternalError")
    refused = await gateway.post(URL, json=BODY | {"seed": 7})
    assert refused.status_code == 502
    served = await gateway.post(URL, json=BODY)
    assert served.status_code == 200
    excluded = await Attempt.objects.order_by("id").values_list("routing", flat=True).afirst()
    assert [one["why"] for one in excluded["excluded"]] == ["it does not take seed"]  # type: ignore[index]


ROUTE = make_route(1)


def fail(code: str, billed: str, *slots: int, scope: str = "offer") -> Failure:
    return Failure(code, billed, scope, slots=slots)


@pytest.mark.parametrize(
    ("failures", "again"),
    [
        ([fail("overloaded", "no")], [((1, 2, 3), {7, 1}, 0)]),
        ([fail("rate_limited", "no")], [((1, 2, 3), {7}, 0)]),
        ([fail("overloaded", "no", 1), fail("content_policy", "no", 2, scope="request")], [((1,), {7, 1}, 0)]),
        ([fail("content_policy", "no", scope="request")], []),
        ([fail("timeout", "unknown")], []),
        ([fail("bad_response", "yes", 1), fail("overloaded", "no", 3)], [((3,), {7, 1}, 0)]),
        ([fail("overloaded", "no", 2), fail("task_failed", "no")], [((2,), {7, 1}, 0), ((1, 3), {7, 1}, 0)]),
    ],
)
def test_each_slot_goes_by_its_own_failure(failures: list[Failure], again: list[Any]) -> None:
    """Slot 0 has its picture; offer 7 was tried before this one. A busy offer may be asked again."""
    call = Call(1, (0, 1, 2, 3), ROUTE, tried=frozenset({7}))
    picture = StoredPicture("name", 0, 512, 512, 1, "")
    result = CallResult(1, "succeeded", (picture,), tuple(failures))
    assert [(one.slots, set(one.tried), one.paid_tries) for one in list_again(call, result)] == again


def test_what_was_paid_for_is_ordered_again_as_often_as_the_channel_allows() -> None:
    result = CallResult(1, "unknown", failures=(fail("timeout", "unknown"),))
    route = replace(ROUTE, retry_billed=2)
    tries = [len(list(list_again(Call(1, (0,), route, paid_tries=paid), result))) for paid in range(4)]
    assert tries == [1, 1, 0, 0]


def test_the_next_attempt_says_what_became_of_the_last() -> None:
    call = Call(1, (0,), ROUTE)
    withdrawn = make_withdrawn(call)
    failed = CallResult(1, "rejected", failures=(fail("overloaded", "no"),))
    reasons = [one.reason for result in (withdrawn, failed) for one in list_again(call, result)]
    assert reasons == ["after channel 1 was taken out of service", "after channel 1 failed: overloaded"]
