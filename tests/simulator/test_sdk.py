"""The official SDK takes the simulator for the real thing."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import dashscope
import httpx
import pytest
from dashscope import ImageSynthesis, MultiModalConversation
from dashscope.common.error import InvalidTask

from tests.simulator.conftest import KEY
from tests.simulator.running import RunningSimulator

#: The SDK's own stub does not know all that the class can do.
Images: Any = ImageSynthesis


@pytest.fixture(autouse=True)
def sdk(simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{simulator.base_url}/api/v1")
    monkeypatch.setattr(dashscope, "api_key", KEY)
    yield
    dashscope.close_shared_sync_session()


def ask(prompt: str, *, model: str = "qwen-image-2.0", key: str = KEY, **parameters):
    messages = [{"role": "user", "content": [{"text": prompt}]}]
    return MultiModalConversation.call(model=model, messages=messages, api_key=key, **parameters)


def test_call_polls_until_the_picture_is_there(simulator: RunningSimulator, bare: httpx.Client) -> None:
    simulator.set_scenario(latency_s=0.5)
    done = Images.call("qwen-image-plus", "a cat", negative_prompt="dogs", size="1664*928", n=1)
    assert done.status_code == HTTPStatus.OK
    assert done.output.task_status == "SUCCEEDED"
    assert done.output.submit_time < done.output.scheduled_time < done.output.end_time
    assert done.output.task_metrics == {"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0}
    assert done.usage.image_count == 1
    assert len(done.output.results) == 1
    assert done.output.results[0].orig_prompt == "a cat"
    assert bare.get(done.output.results[0].url).headers["content-type"] == "image/png"


def test_async_call_then_fetch_then_wait(simulator: RunningSimulator) -> None:
    simulator.set_scenario(latency_s=10)
    task = Images.async_call("qwen-image-plus", "a cat")
    assert task.output.task_status == "PENDING"
    assert Images.fetch(task).output.task_status == "PENDING"
    simulator.advance(3)
    running = Images.fetch(task)
    assert running.output.task_status == "RUNNING"
    assert "end_time" not in running.output
    simulator.advance(8)
    done = Images.wait(task)
    assert done.output.task_status == "SUCCEEDED"
    assert done.output.task_id == task.output.task_id


def test_cancel_a_pending_task(simulator: RunningSimulator) -> None:
    simulator.set_scenario(latency_s=10)
    task = Images.async_call("qwen-image-plus", "a cat")
    assert Images.cancel(task).status_code == HTTPStatus.OK
    assert Images.wait(task).output.task_status == "CANCELED"
    simulator.advance(60)
    assert simulator.totals()["images"] == 0


def test_cancel_a_running_task_is_refused(simulator: RunningSimulator) -> None:
    simulator.set_scenario(latency_s=10)
    task = Images.async_call("qwen-image-plus", "a cat")
    simulator.advance(3)
    refused = Images.cancel(task)
    assert (refused.status_code, refused.code) == (400, "UnsupportedOperation")
    assert refused.message == "Failed to cancel the task, please confirm if the task is in PENDING status."


def test_list() -> None:
    first = Images.async_call("qwen-image-plus", "a cat")
    second = Images.async_call("qwen-image", "a dog")
    listed = Images.list(page_size=1)
    assert {name: listed.output[name] for name in ("total", "total_page", "page_no", "page_size")} == {
        "total": 2,
        "total_page": 2,
        "page_no": 1,
        "page_size": 1,
    }
    assert [task["task_id"] for task in listed.output["data"]] == [second.output.task_id]
    filtered = Images.list(model_name="qwen-image-plus", status="SUCCEEDED")
    assert [task["task_id"] for task in filtered.output["data"]] == [first.output.task_id]
    assert Images.list(status="RUNNING").output["data"] == []


def test_a_failed_task_comes_back_as_a_success_with_a_code() -> None:
    done = Images.call("qwen-image-plus", "a cat [[sim: failed code=InternalError.Algo]]")
    assert (done.status_code, done.code) == (HTTPStatus.OK, None)
    assert (done.output.task_status, done.output.code) == ("FAILED", "InternalError.Algo")
    assert done.output.results == []


def test_an_unknown_task() -> None:
    done = Images.wait("00000000-0000-0000-0000-000000000000")
    assert (done.status_code, done.output.task_status, done.output.results) == (HTTPStatus.OK, "UNKNOWN", [])


def test_partial_results(simulator: RunningSimulator) -> None:
    done = Images.call("qwen-image-plus", "a cat [[sim: partial of=4 ok=3]]")
    assert done.output.task_status == "SUCCEEDED"
    assert [bool(result.url) for result in done.output.results] == [True, True, True, False]
    assert done.output.results[3].code == "DataInspectionFailed"
    assert done.output.results[3].message == "Output data may contain inappropriate content."
    assert done.output.task_metrics == {"TOTAL": 4, "SUCCEEDED": 3, "FAILED": 1}
    assert done.usage.image_count == 3
    assert simulator.totals()["images"] == 3


def test_a_wrong_key() -> None:
    with pytest.raises(InvalidTask, match="InvalidApiKey"):
        Images.call("qwen-image-plus", "a cat", api_key="sk-of-nobody")
    refused = ask("a cat", key="sk-of-nobody")
    assert (refused.status_code, refused.code) == (401, "InvalidApiKey")


def test_throttled_at_submit(simulator: RunningSimulator) -> None:
    simulator.add_rule("throttle", match={"endpoint": "async"})
    with pytest.raises(InvalidTask, match=r"Throttling\.RateQuota"):
        Images.call("qwen-image-plus", "a cat")


def test_the_sdk_rides_out_503_on_a_poll_and_gives_up_on_429(simulator: RunningSimulator) -> None:
    simulator.add_rule("error", code="ServiceUnavailable", times=1, match={"endpoint": "tasks"})
    assert Images.call("qwen-image-plus", "a cat").output.task_status == "SUCCEEDED"
    simulator.add_rule("throttle", times=1, match={"endpoint": "tasks"})
    gave_up = Images.call("qwen-image-plus", "a cat")
    assert (gave_up.status_code, gave_up.code) == (429, "Throttling.RateQuota")


@pytest.mark.parametrize("model", ["qwen-image-plus", "qwen-image-max", "qwen-image-2.0", "qwen-image-2.0-pro"])
def test_sync_speaks_for_all_models(model: str, bare: httpx.Client) -> None:
    size = "1328*1328" if model in {"qwen-image-plus", "qwen-image-max"} else "512*512"
    done = ask("a cat", model=model, size=size, result_format="message", negative_prompt="dogs", seed=7)
    assert done.status_code == HTTPStatus.OK
    assert len(done.output.choices) == 1
    content = done.output.choices[0].message.content
    assert [list(item) for item in content] == [["image"]]
    assert bare.get(content[0]["image"]).status_code == HTTPStatus.OK


def test_sync_with_four_pictures(simulator: RunningSimulator) -> None:
    done = ask("a cat", model="qwen-image-2.0", size="512*512", n=4)
    assert len({item["image"] for item in done.output.choices[0].message.content}) == 4
    assert (done.usage.image_count, done.usage["width"], done.usage["height"]) == (4, 512, 512)
    assert simulator.totals() == {
        "submissions": 1,
        "accepted": 1,
        "refused": 0,
        "images": 4,
        "cost": "0.80",
        "currency": "CNY",
    }


def test_sync_refusals_are_returned(simulator: RunningSimulator) -> None:
    refused = ask("a cat", model="qwen-image-max", n=2)
    assert (refused.status_code, refused.code) == (400, "InvalidParameter")
    assert refused.message == "num_images_per_prompt must be 1"
    moderated = ask("a cat [[sim: moderation_input]]")
    assert (moderated.status_code, moderated.code) == (400, "DataInspectionFailed")


def test_an_html_page_is_an_unknown_error() -> None:
    broken = ask("a cat [[sim: html status=502]]")
    assert (broken.status_code, broken.code) == (502, "Unknown")
    assert "502 Bad Gateway" in broken.message
