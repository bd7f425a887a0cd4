"""The product's adapters against the simulator: what they say of the money is what the bill says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from providers.adapters import get_adapter_class
from providers.contract import Billed, Code, Done, Job, Pending, PollFailed, ProviderError
from providers.transport import Transport
from tests.simulator.conftest import FAL_APP
from tests.simulator.running import RunningSimulator

#: kind -> (path of the base URL, the carrier's name for the model, key)
CARRIERS = {
    "dashscope_async": ("/api/v1", "qwen-image-plus", "sk-sim-acme.one"),
    "dashscope_sync": ("/api/v1", "qwen-image-max", "sk-sim-acme.one"),
    "openai_images": ("/v1", "qwen-image-max", "sk-sim-acme.one"),
    "openai_images_tasks": ("/relay/v1", "qwen-image-max", "sk-sim-acme.one"),
    "fal_queue": ("/fal", FAL_APP, "sk-sim-acme.id:secret"),
    "siliconflow": ("/siliconflow/v1", "Qwen/Qwen-Image", "sk-sim-acme.one"),
}
#: Where a carrier has no word of its own for it, or one that means something else.
OTHERWISE = {
    ("siliconflow", "moderation_input"): Code.BAD_REQUEST,
    ("siliconflow", "moderation_output"): Code.BAD_REQUEST,
    ("openai_images", "error code=Arrearage status=403"): Code.NOT_AVAILABLE,
    ("openai_images_tasks", "error code=Arrearage status=403"): Code.NOT_AVAILABLE,
    ("dashscope_async", "error status=504"): Code.OVERLOADED,
    ("dashscope_sync", "error status=504"): Code.OVERLOADED,
}
QUEUES = {"dashscope_async", "openai_images_tasks", "fal_queue"}
MOST_POLLS = 4
Make = Callable[[str, str], Awaitable[Done]]


@pytest.fixture
async def transport(simulator: RunningSimulator) -> AsyncIterator[Transport]:
    opened = Transport(allow=[f"127.0.0.1:{simulator.port}"])
    yield opened
    await opened.aclose()


@pytest.fixture
def make(simulator: RunningSimulator, transport: Transport) -> Make:
    """Have a picture made by an adapter: submit, then poll until it is over."""

    async def call(kind: str, prompt: str) -> Done:
        path, model, key = CARRIERS[kind]
        options = {"read_timeout_s": 0.3, "submit_timeout_s": 0.3} if "hang" in prompt else {}
        adapter = get_adapter_class(kind)(
            transport, credential=key, base_url=simulator.base_url + path, options=options
        )
        answer = await adapter.submit(Job(model=model, prompt=prompt, width=1328, height=1328))
        task_id = answer.task_id if isinstance(answer, Pending) else ""
        for _ in range(MOST_POLLS):
            if isinstance(answer, Done):
                return answer
            with contextlib.suppress(PollFailed):
                answer = await adapter.poll(task_id)
        raise AssertionError("the task does not end")

    return call


@pytest.mark.parametrize("kind", CARRIERS)
async def test_a_picture(simulator: RunningSimulator, transport: Transport, make: Make, kind: str) -> None:
    done = await make(kind, "a cat")
    (image,) = done.images
    assert (await transport.fetch(image.url or "", max_bytes=10_000_000, timeout=5)).startswith(b"\x89PNG")
    (entry, _) = simulator.bill()["entries"]
    assert done.upstream_id == entry["request_id"] or kind in {"dashscope_async", "openai_images_tasks"}
    assert (entry["model"], entry["n"], simulator.totals()["images"]) == (CARRIERS[kind][1], 1, 1)


@pytest.mark.parametrize("kind", CARRIERS)
@pytest.mark.parametrize(
    ("directive", "code"),
    [
        ("moderation_input", Code.CONTENT_POLICY),
        ("throttle", Code.RATE_LIMITED),
        ("error status=401", Code.AUTH),
        ("error code=Arrearage status=403", Code.ARREARS),
        ("html", None),
        ("html billed=true", None),
        ("empty status=503", None),
        ("empty", Code.BAD_RESPONSE),
        ("truncated", Code.BAD_RESPONSE),
        ("truncated how=body", Code.CONNECTION_LOST),
        ("reset", Code.CONNECTION_LOST),
        ("reset billed=true", Code.CONNECTION_LOST),
        ("hang billed=true", Code.TIMEOUT),
        ("error status=503", Code.OVERLOADED),
        ("error status=504", Code.TIMEOUT),
        ("failed", None),
        ("moderation_output", Code.CONTENT_POLICY),
        ("no_results", Code.BAD_RESPONSE),
        ("no_results billed=true", Code.BAD_RESPONSE),
        ("no_data billed=true", Code.BAD_RESPONSE),
    ],
)
async def test_what_fails_is_free_only_where_the_bill_says_so(
    simulator: RunningSimulator, make: Make, kind: str, directive: str, code: Code | None
) -> None:
    with pytest.raises(ProviderError) as caught:
        await make(kind, f"a cat [[sim: {directive}]]")
    charged = simulator.totals()["images"]
    assert caught.value.billed is not Billed.NO or charged == 0
    assert caught.value.billed is not Billed.YES or charged == 1
    assert code is None or caught.value.code is OTHERWISE.get((kind, directive), code)


@pytest.mark.parametrize("kind", sorted(QUEUES))
@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_polls_that_fail_lose_nothing(simulator: RunningSimulator, make: Make, kind: str, status: int) -> None:
    done = await make(kind, f"a cat [[sim: poll_error status={status} times=2]]")
    assert (len(done.images), simulator.totals()["images"]) == (1, 1)


@pytest.mark.parametrize("kind", [kind for kind in CARRIERS if get_adapter_class(kind).free_probe])
async def test_probes_order_nothing(simulator: RunningSimulator, transport: Transport, kind: str) -> None:
    adapter_class = get_adapter_class(kind)
    path, _, key = CARRIERS[kind]
    await adapter_class(transport, credential=key, base_url=simulator.base_url + path).probe()
    simulator.begin_outage(account="acme", fault={"name": "error", "status": 503})
    with pytest.raises(ProviderError):
        await adapter_class(transport, credential=key, base_url=simulator.base_url + path).probe()
    assert simulator.totals()["submissions"] == 0
