"""Adapters against the simulated upstream, which was written from the carriers' documents without a look at them.

What an adapter says of money is held against the bill.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async

from crazyrouter.generation.models import Attempt
from providers.adapters import get_adapter_class
from providers.contract import Adapter, Billed, Code, Done, Job, Pending, PollFailed, ProviderError
from providers.models import Channel, Offer
from providers.transport import Transport
from tests.books import count_rows_async, read_violations_async
from tests.providers.upstream import Received, Upstream, build_reply
from tests.shop import open_channel
from tests.simulator.running import RunningSimulator

KEY = "sk-sim-acme.one"


@dataclass(frozen=True)
class Carrier:
    """A kind as the simulator speaks it. `task_style` is a way of its resellers."""

    kind: str
    path: str
    model: str
    size: tuple[int, int] = (1328, 1328)
    most: int = 1
    task_style: str = "flat"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.task_style}" if self.task_style != "flat" else self.kind


FAL = Carrier("fal_queue", "/fal", "fal-ai/qwen-image-2/text-to-image", most=4)
SILICONFLOW = Carrier("siliconflow", "/siliconflow", "Qwen/Qwen-Image")
TASKS = Carrier("openai_images_tasks", "/relay", "qwen-image-2.0", most=4)
WRAPPED = Carrier("openai_images_tasks", "/relay/v1", "qwen-image-2.0", most=4, task_style="wrapped")
RESELLER = Carrier("openai_images", "", "qwen-image-2.0", most=4)
ASYNC = Carrier("dashscope_async", "/api/v1", "qwen-image-plus")
SYNC = Carrier("dashscope_sync", "/api/v1", "qwen-image-2.0", most=4)
CARRIERS = (FAL, SILICONFLOW, TASKS, WRAPPED, RESELLER, ASYNC, SYNC)


@pytest.fixture(autouse=True)
def prompt_upstream(simulator: RunningSimulator) -> Iterator[None]:
    """Whatever a test makes of the scenario, the next one finds it as it was."""
    yield
    simulator.set_scenario(latency_s=0, reseller={})


@pytest.fixture
async def transport(simulator: RunningSimulator) -> AsyncIterator[Transport]:
    client = Transport(allow=[f"127.0.0.1:{simulator.port}"])
    yield client
    await client.aclose()


def open_adapter(carrier: Carrier, transport: Transport, simulator: RunningSimulator) -> Adapter:
    simulator.set_scenario(reseller={"task_style": carrier.task_style})
    timeouts = {"read_timeout_s": 2} if carrier.kind in {"siliconflow", "openai_images", "dashscope_sync"} else {}
    return get_adapter_class(carrier.kind)(
        transport,
        credential=KEY,
        base_url=simulator.base_url + carrier.path,
        options={**carrier.options, **timeouts},
    )


def make_job(carrier: Carrier, prompt: str = "a cat", **fields: Any) -> Job:
    return Job(carrier.model, prompt, *carrier.size, **fields)


async def bring(adapter: Adapter, job: Job) -> Done | PollFailed:
    """Submit, and ask until it is over; a poll that fails is the end here."""
    answer = await adapter.submit(job)
    for _ in range(20):
        if isinstance(answer, Done):
            return answer
        try:
            answer = await adapter.poll(answer.task_id)
        except PollFailed as error:
            return error
    raise AssertionError("it never ended")


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
async def test_a_whole_order(carrier: Carrier, transport: Transport, simulator: RunningSimulator) -> None:
    adapter = open_adapter(carrier, transport, simulator)
    done = await bring(adapter, make_job(carrier, n=carrier.most, seed=7))
    assert isinstance(done, Done)
    assert (len(done.images), done.refused) == (carrier.most, ())
    assert done.upstream_id
    for image in done.images:
        picture = await transport.fetch(image.url or "", max_bytes=30_000_000, timeout=20)
        assert picture.startswith(b"\x89PNG")
    assert simulator.totals()["images"] == carrier.most


#: What a fault means with every carrier, and with those whose own words say more, or less.
TABLE: dict[str, dict[str, str]] = {
    "error status=401": {"": "auth no channel"},
    "error code=Arrearage": {
        "": "arrears no channel",
        "openai_images": "not_available no offer",
        "openai_images_tasks": "not_available no offer",
    },
    "error code=InvalidParameter": {"": "bad_request no request"},
    "error status=404": {"": "not_available no offer"},
    "throttle retry_after=7": {"": "rate_limited no offer"},
    "error status=500": {"": "overloaded unknown offer", "dashscope": "overloaded no offer"},
    "error status=503": {"": "overloaded unknown offer", "dashscope": "overloaded no offer"},
    "error status=504": {"": "timeout unknown offer", "dashscope": "overloaded no offer"},
    "moderation_input": {"": "content_policy no request", "siliconflow": "bad_request no request"},
    "moderation_output": {
        "": "content_policy no request",
        "siliconflow": "bad_request no request",
        "openai_images_tasks": "content_policy unknown request",
    },
    "html status=502": {"": "bad_response unknown offer"},
    "html status=502 billed=true": {"": "bad_response unknown offer"},
    "empty": {"": "bad_response unknown offer"},
    "code200": {"": "bad_response unknown offer", "dashscope": "overloaded no offer"},
    "truncated": {"": "bad_response unknown offer"},
    "truncated how=body": {"": "connection_lost unknown offer"},
    "reset": {"": "connection_lost unknown offer"},
    "reset billed=true": {"": "connection_lost unknown offer"},
    "no_data": {"": "bad_response unknown offer"},
    "no_data billed=true": {"": "bad_response unknown offer"},
    "no_results": {"": "bad_response unknown offer"},
    "failed": {
        "": "overloaded no offer",
        "siliconflow": "overloaded unknown offer",
        "openai_images": "overloaded unknown offer",
        "openai_images_tasks": "task_failed unknown offer",
    },
}


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
@pytest.mark.parametrize("fault", TABLE)
async def test_whatever_goes_wrong_is_an_error_and_never_free_when_the_bill_says_otherwise(
    carrier: Carrier, fault: str, transport: Transport, simulator: RunningSimulator
) -> None:
    adapter = open_adapter(carrier, transport, simulator)
    with pytest.raises(ProviderError) as caught:
        await bring(adapter, make_job(carrier, f"a cat [[sim: {fault}]]"))
    error, means = caught.value, TABLE[fault]
    family = carrier.kind.partition("_")[0]
    assert f"{error.code} {error.billed} {error.scope}" == means.get(carrier.kind, means.get(family, means[""]))
    assert error.retry_after == (7.0 if error.code is Code.RATE_LIMITED else None)
    assert KEY not in error.detail
    if error.billed is Billed.NO:
        assert simulator.totals()["images"] == 0


@pytest.mark.parametrize("carrier", [FAL, TASKS, WRAPPED, ASYNC], ids=str)
@pytest.mark.parametrize("fault", ["status value=ODD", "poll_error status=500", "poll_throttle", "html at=poll"])
async def test_a_question_without_an_answer_says_nothing_of_the_task(
    carrier: Carrier, fault: str, transport: Transport, simulator: RunningSimulator
) -> None:
    adapter = open_adapter(carrier, transport, simulator)
    assert isinstance(await bring(adapter, make_job(carrier, f"a cat [[sim: {fault}]]")), PollFailed)


@pytest.mark.parametrize("carrier", [FAL, TASKS, WRAPPED, ASYNC], ids=str)
async def test_another_process_asks_for_a_task(
    carrier: Carrier, transport: Transport, simulator: RunningSimulator
) -> None:
    simulator.set_scenario(latency_s=10)
    accepted = await open_adapter(carrier, transport, simulator).submit(make_job(carrier))
    assert isinstance(accepted, Pending)
    assert len(accepted.task_id) <= 128
    later = open_adapter(carrier, transport, simulator)
    assert isinstance(await later.poll(accepted.task_id), Pending)
    simulator.advance(11)
    done = await later.poll(accepted.task_id)
    assert isinstance(done, Done)
    assert len(done.images) == 1


async def test_a_result_that_cannot_be_had_yet_is_asked_for_again(
    transport: Transport, simulator: RunningSimulator
) -> None:
    adapter = open_adapter(FAL, transport, simulator)
    accepted = await adapter.submit(make_job(FAL))
    assert isinstance(accepted, Pending)
    simulator.add_rule("html", match={"endpoint": "result"}, times=1, status=502)
    with pytest.raises(PollFailed):
        await adapter.poll(accepted.task_id)
    assert isinstance(await adapter.poll(accepted.task_id), Done)
    assert simulator.totals()["submissions"] == 1


async def test_a_picture_that_the_carrier_flags_is_not_passed_on(
    transport: Transport, simulator: RunningSimulator
) -> None:
    with pytest.raises(ProviderError) as caught:
        await bring(open_adapter(FAL, transport, simulator), make_job(FAL, "a cat [[sim: image_flagged]]"))
    assert (caught.value.code, caught.value.billed) == (Code.CONTENT_POLICY, Billed.UNKNOWN)
    assert simulator.totals()["images"] == 1


@pytest.mark.parametrize("carrier", [carrier for carrier in CARRIERS if carrier is not FAL], ids=str)
async def test_a_probe_orders_nothing(carrier: Carrier, transport: Transport, simulator: RunningSimulator) -> None:
    await open_adapter(carrier, transport, simulator).probe()
    assert simulator.totals()["submissions"] == 0


@pytest.mark.parametrize("carrier", [FAL, WRAPPED], ids=str)
async def test_a_generation_over_a_carrier_of_tasks(
    carrier: Carrier, gateway: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    simulator.set_scenario(reseller={"task_style": carrier.task_style})
    await sync_to_async(put_first)(carrier, simulator)
    body = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "1024x1024", "n": 3}
    answer = await gateway.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    attempts = [attempt async for attempt in Attempt.objects.select_related("channel").order_by("number")]
    assert [(attempt.channel.kind, attempt.state, len(attempt.slots)) for attempt in attempts] == [
        (carrier.kind, "succeeded", 2),
        (carrier.kind, "succeeded", 1),
    ]
    assert all(attempt.task_id for attempt in attempts)
    assert (simulator.totals()["submissions"], simulator.totals()["images"]) == (2, 3)
    assert await count_rows_async() == {"generations": 1, "attempts": 2, "images": 3, "charges": 3, "held": 0}
    assert await read_violations_async() == []


def put_first(carrier: Carrier, simulator: RunningSimulator) -> None:
    """A channel of a carrier before all others, two pictures a call."""
    base_url = simulator.base_url + carrier.path
    channel = open_channel(base_url, carrier.kind, {"qwen-image-2.0": 2}, priority=-1)
    Channel.objects.filter(pk=channel.pk).update(options={**carrier.options, "poll_interval_s": 0.05})
    Offer.objects.filter(channel=channel).update(upstream_model=carrier.model)


async def test_a_carrier_that_is_asked_to_hold_its_answer_is_given_the_time() -> None:
    async def hold(request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.6)
        body = b'{"id": "p1", "status": "succeeded", "output": ["https://a.example/1.png"]}'
        writer.write(build_reply(body, status=201))

    async with Upstream(hold) as upstream:
        transport = Transport(allow=[upstream.pair])
        options = {"submit_timeout_s": 0.2, "wait_s": 5}
        adapter = get_adapter_class("replicate")(transport, credential="k", base_url=upstream.url, options=options)
        done = await adapter.submit(Job("qwen/qwen-image", "a cat", 1328, 1328))
        await transport.aclose()
    assert isinstance(done, Done)
    assert upstream.received[0].headers["prefer"] == "wait=5"
