"""DashScope multimodal-generation, over plain HTTP."""

from __future__ import annotations

import httpx
import pytest

from tests.simulator.conftest import MULTIMODAL, Submit
from tests.simulator.running import RunningSimulator


def test_the_answer_of_the_2_0_series(generate: Submit) -> None:
    body = generate(n=2).json()
    assert set(body) == {"request_id", "output", "usage"}
    assert set(body["output"]) == {"choices"}
    (choice,) = body["output"]["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert [list(item) for item in choice["message"]["content"]] == [["image"], ["image"]]
    assert body["usage"] == {"width": 512, "height": 512, "image_count": 2}


def test_plus_and_max_tell_a_metric(generate: Submit) -> None:
    body = generate(model="qwen-image-max").json()
    assert body["output"]["task_metric"] == {"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0}
    assert body["usage"] == {"width": 1664, "height": 928, "image_count": 1}


def test_the_default_size_of_2_0(client: httpx.Client) -> None:
    body = {"model": "qwen-image-2.0", "input": {"messages": [{"role": "user", "content": [{"text": "a"}]}]}}
    assert client.post(MULTIMODAL, json=body).json()["usage"] == {"width": 2048, "height": 2048, "image_count": 1}


def test_the_task_header_is_refused(generate: Submit) -> None:
    answer = generate(headers={"X-DashScope-Async": "enable"})
    assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied")
    assert answer.json()["message"] == "Current user api does not support asynchronous calls."


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        ("qwen-image-max", {"size": "512*512"}, "size must be one of "),
        ("qwen-image-max", {"n": 2}, "num_images_per_prompt must be 1"),
        ("qwen-image-2.0", {"size": "511*512"}, "total pixels of size must be between "),
        ("qwen-image-2.0", {"size": "2049*2048"}, "total pixels of size must be between "),
        ("qwen-image-2.0", {"size": "1024x1024"}, "size must match the format "),
        ("qwen-image-2.0", {"n": 7}, "num_images_per_prompt must be between 1 and 6"),
        ("qwen-image-2.0", {"n": 0}, "num_images_per_prompt must be between 1 and 6"),
        ("qwen-image-3", {}, "Model not exist."),
    ],
)
def test_limits_of_models(generate: Submit, model: str, parameters: dict, message: str) -> None:
    answer = generate(model=model, **parameters)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize("size", ["512*512", "2048*2048", "2688*1536", "1536*2688", "2368*1728", "1728*2368"])
def test_sizes_of_2_0(generate: Submit, size: str) -> None:
    usage = generate(size=size).json()["usage"]
    assert f"{usage['width']}*{usage['height']}" == size


USER = {"role": "user", "content": [{"text": "a cat"}]}


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        [USER, USER],
        [{"role": "system", "content": [{"text": "a cat"}]}],
        [{"role": "user", "content": "a cat"}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"text": "a cat"}, {"text": "a dog"}]}],
        [{"role": "user", "content": [{"text": ""}]}],
        [{"role": "user", "content": [{"image": "https://example.com/a.png"}]}],
    ],
)
def test_exactly_one_text(client: httpx.Client, messages: object) -> None:
    answer = client.post(MULTIMODAL, json={"model": "qwen-image-2.0", "input": {"messages": messages}})
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")


def test_prompts_are_cut_at_1300_and_800(simulator: RunningSimulator, generate: Submit) -> None:
    generate("x" * 1500)
    generate("x" * 1500, model="qwen-image-max")
    entries = [entry for entry in simulator.bill()["entries"] if entry["kind"] == "submission"]
    assert [len(entry["prompt"]) for entry in entries] == [1300, 800]
