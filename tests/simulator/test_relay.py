"""The reseller that answers with a task object, and the other one where a fault makes it do so."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.simulator.conftest import Submit
from tests.simulator.running import RunningSimulator


@pytest.fixture
def poll(client: httpx.Client) -> Callable[[str], httpx.Response]:
    def call(task_id: str) -> httpx.Response:
        return client.get(f"/relay/v1/tasks/{task_id}")

    return call


def test_from_the_order_to_the_pictures(
    simulator: RunningSimulator, relay: Submit, poll: Callable, bare: httpx.Client
) -> None:
    simulator.set_scenario(latency_s={"relay": 10})
    answer = relay(n=2)
    task = answer.json()
    assert (task["object"], task["status"], task["progress"]) == ("image.generation.task", "pending", 0)
    assert task["id"] == task["task_id"]
    assert poll(task["id"]).json() == task
    simulator.advance(5)
    assert [poll(task["id"]).json()[name] for name in ("status", "progress")] == ["processing", 50]
    assert simulator.totals()["images"] == 0
    simulator.advance(6)
    done = poll(task["id"]).json()
    assert (done["status"], done["progress"], done["model"]) == ("completed", 100, "qwen-image-2.0")
    assert [item["url"] for item in done["data"]] == done["results"]
    assert Image.open(io.BytesIO(bare.get(done["results"][1]).content)).size == (512, 512)
    order, first, second = simulator.bill()["entries"]
    assert (order["endpoint"], order["task_id"]) == ("relay", task["id"])
    assert order["request_id"] == answer.headers["x-oneapi-request-id"]
    assert (first["task_id"], second["index"]) == (task["id"], 1)


def test_the_wrapped_kind(simulator: RunningSimulator, relay: Submit, poll: Callable) -> None:
    simulator.set_scenario(reseller={"task_style": "wrapped"})
    taken = relay(n=2).json()
    assert set(taken) == {"code", "data"}
    assert taken["data"][0]["status"] == "submitted"
    done = poll(taken["data"][0]["task_id"]).json()
    assert (done["code"], done["data"]["status"], done["data"]["progress"]) == (200, "completed", 100)
    assert [len(image["url"]) for image in done["data"]["result"]["images"]] == [1, 1]
    failed = relay("a [[sim: failed code=service_error message=sorry]]").json()["data"][0]["task_id"]
    error = {"code": "service_error", "message": "sorry", "type": "upstream_error"}
    assert poll(failed).json()["data"]["error"] == error


def test_a_task_instead_of_pictures(simulator: RunningSimulator, resell: Submit, client: httpx.Client) -> None:
    task = resell("a [[sim: task_object]]").json()
    assert (task["status"], "data" in task) == ("pending", False)
    done = client.get(f"/v1/tasks/{task['id']}").json()
    assert (done["status"], len(done["data"])) == ("completed", 1)
    assert simulator.totals()["images"] == 1
    assert "data" in resell("a").json()


@pytest.mark.parametrize("directive", ["failed code=InternalError.Algo", "moderation_output", "partial ok=0"])
def test_a_task_that_fails(simulator: RunningSimulator, relay: Submit, poll: Callable, directive: str) -> None:
    answer = poll(relay(f"a cat [[sim: {directive}]]").json()["id"])
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert answer.json()["error"]["code"] in {"InternalError.Algo", "DataInspectionFailed"}
    assert (simulator.totals()["accepted"], simulator.totals()["images"]) == (1, 0)


def test_fewer_and_no_pictures(simulator: RunningSimulator, relay: Submit, poll: Callable) -> None:
    assert len(poll(relay("a [[sim: partial ok=2]]", n=4).json()["id"]).json()["results"]) == 2
    assert poll(relay("a [[sim: no_results]]").json()["id"]).json()["results"] == []
    assert "results" not in poll(relay("a [[sim: no_data billed=true]]").json()["id"]).json()
    assert simulator.totals()["images"] == 3


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_polls_that_fail(relay: Submit, poll: Callable, status: int) -> None:
    task_id = relay(f"a cat [[sim: poll_error status={status} times=1]]").json()["id"]
    assert [poll(task_id).status_code for _ in range(2)] == [status, 200]


def test_a_status_of_any_name(relay: Submit, poll: Callable) -> None:
    assert poll(relay("a [[sim: status value=dreaming]]").json()["id"]).json()["status"] == "dreaming"


def test_who_knows_a_task(relay: Submit, poll: Callable, submit: Submit, client: httpx.Client) -> None:
    task_id = relay().json()["id"]
    foreign = client.get(f"/relay/v1/tasks/{task_id}", headers={"Authorization": "Bearer sk-sim-other.one"})
    error: dict[str, Any] = foreign.json()["error"]
    assert (foreign.status_code, error["code"], error["type"]) == (404, "task_not_exist", "new_api_error")
    assert poll("none").status_code == 404
    assert client.get(f"/api/v1/tasks/{task_id}").json()["output"]["task_status"] == "UNKNOWN"
    native = submit().json()["output"]["task_id"]
    assert poll(native).status_code == 404
    unknown_key = client.get(f"/relay/v1/tasks/{task_id}", headers={"Authorization": "Bearer sk-configured"})
    assert unknown_key.status_code == 401


def test_models(client: httpx.Client) -> None:
    assert len(client.get("/relay/v1/models").json()["data"]) == 4
