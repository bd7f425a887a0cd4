"""DashScope text2image and its tasks, over plain HTTP."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.simulator.conftest import TEXT2IMAGE, Submit
from tests.simulator.running import RunningSimulator

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"


def poll(client: httpx.Client, submitted: httpx.Response) -> dict:
    return client.get(f"/api/v1/tasks/{submitted.json()['output']['task_id']}").json()


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert set(body) == {"code", "message", "request_id"}
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, body["code"], body["message"]


def test_submit_answers_a_pending_task(submit: Submit) -> None:
    answer = submit()
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"output", "request_id"}
    assert body["output"]["task_status"] == "PENDING"
    assert re.fullmatch(UUID, body["output"]["task_id"])
    assert re.fullmatch(UUID, body["request_id"])


def test_times_appear_when_they_are_reached(simulator: RunningSimulator, submit: Submit, client: httpx.Client) -> None:
    simulator.set_scenario(latency_s=20)
    task = submit(prompt="a cat", seed=7, prompt_extend=False)
    pending = poll(client, task)
    assert set(pending) == {"request_id", "output"}
    assert set(pending["output"]) == {"task_id", "task_status", "submit_time"}
    simulator.advance(5)
    running = poll(client, task)["output"]
    assert running["task_status"] == "RUNNING"
    assert set(running) == {"task_id", "task_status", "submit_time", "scheduled_time"}
    simulator.advance(20)
    done = poll(client, task)
    assert done["usage"] == {"image_count": 1}
    assert done["output"]["task_metrics"] == {"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0}
    assert [set(result) for result in done["output"]["results"]] == [{"orig_prompt", "url"}]
    for name in ("submit_time", "scheduled_time", "end_time"):
        assert re.fullmatch(STAMP, done["output"][name])


def test_a_result_does_not_change_between_polls(submit: Submit, client: httpx.Client) -> None:
    task = submit()
    assert poll(client, task)["output"] == poll(client, task)["output"]


def test_the_rewritten_prompt_is_told(submit: Submit, client: httpx.Client) -> None:
    result = poll(client, submit("a cat"))["output"]["results"][0]
    assert result["orig_prompt"] == "a cat"
    assert result["actual_prompt"].startswith("a cat ")


def test_a_long_prompt_is_cut_in_silence(submit: Submit, client: httpx.Client) -> None:
    result = poll(client, submit("猫" * 900, prompt_extend=False))["output"]["results"][0]
    assert result["orig_prompt"] == "猫" * 800


def test_without_the_header(client: httpx.Client) -> None:
    body = {"model": "qwen-image-plus", "input": {"prompt": "a cat"}}
    answer = client.post(TEXT2IMAGE, json=body)
    assert refusal(answer) == (403, "AccessDenied", "current user api does not support synchronous calls.")


@pytest.mark.parametrize("model", ["qwen-image-max", "qwen-image-2.0", "qwen-image-2.0-pro"])
def test_models_that_have_no_tasks(submit: Submit, model: str) -> None:
    expected = (403, "AccessDenied", "Current user api does not support asynchronous calls.")
    assert refusal(submit(model=model)) == expected


def test_an_unknown_model_is_refused_at_once(submit: Submit) -> None:
    assert refusal(submit(model="qwen-image-edit-2509")) == (400, "InvalidParameter", "Model not exist.")


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer sk-of-nobody", "Basic sk-sim-acme.one"])
def test_wrong_keys(submit: Submit, key: str) -> None:
    assert refusal(submit(headers={"Authorization": key}))[:2] == (401, "InvalidApiKey")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": "qwen-image-plus", "input": []}'])
def test_bodies_that_are_none(client: httpx.Client, body: bytes) -> None:
    headers = {"X-DashScope-Async": "enable", "Content-Type": "application/json"}
    answer = client.post(TEXT2IMAGE, content=body, headers=headers)
    assert answer.status_code == 400


WRONG = [
    ({"size": "1664x928"}, "size must match the format 'width*height', got '1664x928'"),
    ({"size": "1024*1024"}, "size must be one of 1664*928, 1472*1104, 1328*1328, 1104*1472, 928*1664"),
    ({"size": 5}, "size must match the format 'width*height', got 5"),
    ({"n": 2}, "num_images_per_prompt must be 1"),
    ({"n": True}, "num_images_per_prompt must be 1"),
    ({"seed": -1}, "seed must be an integer between 0 and 2147483647"),
    ({"seed": 2**31}, "seed must be an integer between 0 and 2147483647"),
    ({"prompt_extend": "yes"}, "prompt_extend must be a boolean"),
    ({"negative_prompt": 5}, "negative_prompt must be a string"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_bad_parameters_are_found_out_late(
    submit: Submit, client: httpx.Client, parameters: dict, message: str
) -> None:
    submitted = submit(**parameters)
    assert submitted.status_code == 200
    output = poll(client, submitted)["output"]
    assert (output["task_status"], output["code"], output["message"]) == ("FAILED", "InvalidParameter", message)
    assert output["task_metrics"] == {"TOTAL": 1, "SUCCEEDED": 0, "FAILED": 1}


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_or_at_once_where_the_scenario_says_so(
    simulator: RunningSimulator, submit: Submit, parameters: dict, message: str
) -> None:
    simulator.set_scenario(late_validation=False)
    assert refusal(submit(**parameters)) == (400, "InvalidParameter", message)


def test_an_empty_prompt_fails_late(submit: Submit, client: httpx.Client) -> None:
    assert poll(client, submit(" "))["output"]["code"] == "InvalidParameter"


def test_unknown_parameters_are_tolerated(submit: Submit, client: httpx.Client) -> None:
    task = submit(wait_timeout=5, result_format="message", size="1328*1328", seed=0, watermark=True)
    assert poll(client, task)["output"]["task_status"] == "SUCCEEDED"


def test_a_task_is_known_to_every_key_of_its_account_only(submit: Submit, client: httpx.Client) -> None:
    task_id = submit().json()["output"]["task_id"]
    path = f"/api/v1/tasks/{task_id}"
    same = client.get(path, headers={"Authorization": "Bearer sk-sim-acme.two"}).json()
    assert same["output"]["task_status"] == "SUCCEEDED"
    foreign = client.get(path, headers={"Authorization": "Bearer sk-sim-other.one"})
    assert foreign.status_code == 200
    assert foreign.json()["output"] == {"task_id": task_id, "task_status": "UNKNOWN"}
    assert refusal(client.get(path, headers={"Authorization": "Bearer nobody"}))[:2] == (401, "InvalidApiKey")


def test_a_task_is_forgotten_after_a_day(simulator: RunningSimulator, submit: Submit, client: httpx.Client) -> None:
    task = submit()
    simulator.advance(86_390)
    assert poll(client, task)["output"]["task_status"] == "SUCCEEDED"
    simulator.advance(20)
    assert poll(client, task)["output"]["task_status"] == "UNKNOWN"


def test_cancel(simulator: RunningSimulator, submit: Submit, client: httpx.Client) -> None:
    simulator.set_scenario(latency_s=20)
    task_id = submit().json()["output"]["task_id"]
    answer = client.post(f"/api/v1/tasks/{task_id}/cancel")
    assert (answer.status_code, set(answer.json())) == (200, {"request_id"})
    again = client.post(f"/api/v1/tasks/{task_id}/cancel")
    assert refusal(again)[:2] == (400, "UnsupportedOperation")
    unknown = client.post("/api/v1/tasks/nothing/cancel")
    assert refusal(unknown)[:2] == (400, "UnsupportedOperation")


def test_list_window_and_fields(submit: Submit, client: httpx.Client) -> None:
    task_id = submit().json()["output"]["task_id"]
    body = client.get("/api/v1/tasks/", params={"start_time": "20200101000000", "end_time": "20200101120000"}).json()
    assert (body["total"], body["total_page"], body["data"]) == (0, 0, [])
    (listed,) = client.get("/api/v1/tasks/").json()["data"]
    assert (listed["task_id"], listed["status"], listed["model_name"]) == (task_id, "SUCCEEDED", "qwen-image-plus")
    assert listed["gmt_create"] <= listed["start_time"] <= listed["end_time"]
    other = client.get("/api/v1/tasks/", headers={"Authorization": "Bearer sk-sim-other.one"}).json()
    assert other["data"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"start_time": "yesterday"},
        {"start_time": "20200101000000", "end_time": "20200103000000"},
        {"page_size": "0"},
        {"page_no": "x"},
    ],
)
def test_list_refuses(client: httpx.Client, query: dict) -> None:
    assert refusal(client.get("/api/v1/tasks/", params=query))[:2] == (400, "InvalidParameter")


def test_other_paths(client: httpx.Client) -> None:
    wrong = client.post("/api/v1/services/aigc/image-generation/generation", json={})
    assert refusal(wrong) == (400, "InvalidParameter", "url error, please check url！")
    assert refusal(client.get("/api/v1/nothing"))[:2] == (404, "NotFound")
    assert client.get("/elsewhere").json()["error"]["type"] == "invalid_request_error"
