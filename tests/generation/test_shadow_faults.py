"""Whatever a carrier on trial does, no customer notices: not in the answer, not in the books, not in the wait."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from crazyrouter.generation import lane as lane_module
from crazyrouter.generation import shadowing
from crazyrouter.generation.journal.shadow_ends import end_shadows
from crazyrouter.generation.journal.shadows import open_shadows
from crazyrouter.generation.models import Attempt
from crazyrouter.generation.runtime import close_runtime, get_runtime
from crazyrouter.generation.upstream_bill.differences import compare
from crazyrouter.generation.upstream_bill.reading import read_both
from providers.models import Offer
from tests.books import count_rows_async, read_violations_async
from tests.generation.test_lost_database import fail_first
from tests.generation.test_recovery import wait_for
from tests.generation.trial import (
    MODEL,
    PLUS,
    TRIAL,
    await_copies,
    count_trials,
    limit_async,
    open_trial_async,
    order,
    order_and_copy,
    read_copies_async,
    read_customer_side_async,
)
from tests.simulator.running import CONTROL_KEY, RunningSimulator


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ({"fault": "throttle"}, ("rejected", "rate_limited", "no")),
        ({"fault": "error", "status": 401, "code": "invalid_api_key"}, ("rejected", "auth", "no")),
        ({"fault": "reset", "billed": True}, ("unknown", "connection_lost", "unknown")),
        ({"fault": "html", "status": 502}, None),
        ({"fault": "moderation_input"}, ("rejected", "content_policy", "no")),
        ({"fault": "no_data"}, ("unknown", "bad_response", "unknown")),
    ],
)
async def test_a_copy_that_fails_changes_nothing_for_the_customer(
    willing: httpx.AsyncClient, simulator: RunningSimulator, fault: dict[str, Any], end: tuple[str, str, str] | None
) -> None:
    before = await order(willing)
    untouched = await read_customer_side_async()
    await open_trial_async(simulator)
    simulator.add_rule(match=TRIAL, **fault)
    await forget_snapshot()
    response = await order_and_copy(willing)
    assert response.status_code == before.status_code == 200
    assert list(response.json()) == list(before.json())
    [copy] = await read_copies_async()
    assert copy.images == 0
    assert copy.ended_at is not None
    assert end is None or (copy.state, copy.code, copy.billed) == end
    assert (copy.comparison or {})["failure"] == copy.code != ""
    after = await read_customer_side_async()
    assert after["generations"] == untouched["generations"] * 2
    assert after["attempts"] == untouched["attempts"] * 2
    assert after["entries"] == [*untouched["entries"], ("charge", -200_000, 0)]
    assert (after["account"], len(after["images"])) == ((99_600_000, 0, 3), 2)
    assert await read_violations_async() == []


async def forget_snapshot() -> None:
    """What was changed since the last request is known to the next."""
    get_runtime().snapshot._view = None


@pytest.mark.parametrize(
    ("fault", "sizes", "detail"),
    [
        ({"fault": "image_size", "width": 512, "height": 256}, [[512, 256]], "wrong_aspect: 512x256 for 512x512"),
        ({"fault": "image_size", "width": 256, "height": 256}, [[256, 256]], "too_small: 256x256 for 512x512"),
        ({"fault": "image_broken", "how": "crc"}, [], "damaged: a checksum is wrong"),
        ({"fault": "image_broken", "how": "html"}, [], "not_a_picture"),
        ({"fault": "image_format", "format": "gif"}, [], "not_a_picture"),
    ],
)
async def test_pictures_that_could_not_be_delivered_are_told_apart(
    willing: httpx.AsyncClient, simulator: RunningSimulator, fault: dict[str, Any], sizes: list[Any], detail: str
) -> None:
    await open_trial_async(simulator)
    simulator.add_rule(match=TRIAL, **fault)
    assert (await order_and_copy(willing)).status_code == 200
    [copy] = await read_copies_async()
    assert (copy.state, copy.code, copy.billed, copy.images) == ("failed", "bad_response", "yes", 0)
    assert copy.detail.startswith(detail)
    assert (copy.comparison or {})["sizes"] == sizes
    assert (await count_rows_async())["images"] == 1
    assert await read_violations_async() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "image_size", "width": 528, "height": 528},
        {"fault": "image_format", "format": "jpeg"},
        {"fault": "image_format", "format": "webp"},
    ],
)
async def test_pictures_that_would_be_made_to_fit_count(
    willing: httpx.AsyncClient, simulator: RunningSimulator, fault: dict[str, Any]
) -> None:
    await open_trial_async(simulator)
    simulator.add_rule(match=TRIAL, **fault)
    await order_and_copy(willing)
    [copy] = await read_copies_async()
    side = fault.get("width", 512)
    assert (copy.state, copy.images, (copy.comparison or {})["sizes"]) == ("succeeded", 1, [[side, side]])


async def test_a_copy_that_hangs_keeps_nobody_waiting_and_ends_with_its_process(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await open_trial_async(simulator)
    capacity = await limit_async("trial", upstream_model=MODEL, max_running=1)
    simulator.add_rule("hang", match=TRIAL)
    assert (await order(willing)).status_code == 200

    async def is_sent() -> bool:
        return count_trials(simulator) == 1

    await wait_for(is_sent)
    [copy] = await read_copies_async()
    await capacity.arefresh_from_db()
    assert (copy.state, copy.ended_at, capacity.running) == ("created", None, 1)
    assert await read_violations_async() == []
    # There is no room for a second, which therefore is none.
    assert (await order(willing)).status_code == 200
    await close_runtime()
    [copy] = await read_copies_async()
    await capacity.arefresh_from_db()
    assert (copy.state, copy.code, copy.billed, capacity.running) == ("unknown", "connection_lost", "unknown", 0)
    assert copy.comparison is None
    assert await count_rows_async() == {"generations": 2, "attempts": 3, "images": 2, "charges": 2, "held": 0}
    assert await read_violations_async() == []


async def test_a_fault_of_ours_inside_a_copy_stays_there(
    willing: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_trial_async(simulator)

    async def break_down(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(shadowing, "measure_picture", break_down)
    assert (await order_and_copy(willing)).status_code == 200
    [copy] = await read_copies_async()
    assert (copy.state, copy.code, copy.detail) == ("unknown", "bad_response", "internal: ZeroDivisionError")
    assert await read_violations_async() == []


async def test_a_connection_that_breaks_is_waited_out(
    willing: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_trial_async(simulator)
    monkeypatch.setattr(lane_module, "RETRY_PAUSES", ())
    monkeypatch.setattr(shadowing, "WRITE_PAUSE_S", 0.01)
    monkeypatch.setattr(shadowing, "open_shadows", fail_first(open_shadows, 2))
    monkeypatch.setattr(shadowing, "end_shadows", fail_first(end_shadows, 2))
    assert (await order_and_copy(willing)).status_code == 200
    assert [copy.state for copy in await read_copies_async()] == ["succeeded"]
    assert count_trials(simulator) == 1
    assert await read_violations_async() == []


async def test_a_task_that_was_given_up_meanwhile_is_polled_no_more(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    await open_trial_async(simulator, "dashscope_async", PLUS, max_n=1)
    simulator.add_rule("latency", seconds=0.5, match={"endpoint": "async"})
    running = asyncio.create_task(order(willing, model=PLUS, size="1664x928"))
    assert (await running).status_code == 200
    await wait_for(lambda: Attempt.objects.filter(purpose="shadow").aexists())
    await Attempt.objects.filter(purpose="shadow").aupdate(state="unknown")
    await await_copies()
    [copy] = await read_copies_async()
    assert (copy.state, copy.comparison, copy.ended_at) == ("unknown", None, None)


async def test_a_copy_disables_its_own_offer_and_no_channel(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    """The shadow is at the channel that serves customers; its key is refused for the model on trial."""
    served = await Offer.objects.select_related("channel").aget(model__name=MODEL)
    trial = await Offer.objects.acreate(
        channel=served.channel,
        model_id=served.model_id,
        upstream_model="qwen-image-2.0-pro",
        shape=served.shape,
        shadow_percent=100,
        shadow_per_day=5,
    )
    simulator.add_rule("error", status=401, code="InvalidApiKey", match={"model": "qwen-image-2.0-pro"})
    assert (await order_and_copy(willing)).status_code == 200
    assert [copy.code for copy in await read_copies_async()] == ["auth"]

    async def is_disabled() -> bool:
        await trial.arefresh_from_db()
        return not trial.enabled

    await wait_for(is_disabled)
    await served.channel.arefresh_from_db()
    assert served.channel.enabled
    assert (await order_and_copy(willing)).status_code == 200


async def test_the_carriers_bill_and_ours_agree_on_copies(
    willing: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    """We pay for them: whatever came of one, it stands among our attempts as on the bill."""
    await open_trial_async(simulator)
    codes = []
    faults: tuple[Any, ...] = (
        None,
        {"fault": "image_size", "width": 512, "height": 256},
        {"fault": "reset", "billed": True},
    )
    for fault in faults:
        if fault:
            simulator.add_rule(match=TRIAL, times=1, **fault)
        assert (await order_and_copy(willing, n=2)).status_code == 200
        codes.append((await read_copies_async())[-1].code)
    assert codes == ["", "bad_response", "connection_lost"]
    assert await sync_to_async(list_violations)(simulator) == []


def list_violations(simulator: RunningSimulator) -> list[str]:
    sides = read_both(simulator.base_url, key=CONTROL_KEY)
    found = compare(sides.bill, sides.calls, read_at=sides.read_at, older=sides.older)
    return [f"{one.rule} {one.subject}: {one.detail}" for one in found if not one.notice]
