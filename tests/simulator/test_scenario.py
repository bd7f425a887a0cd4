"""What a scenario sets: accounts, latency, limits; and the control URL that changes it."""

from __future__ import annotations

import time

import httpx
import pytest

from providers.simulator.errors import ScenarioError
from providers.simulator.faults import Endpoint
from providers.simulator.scenario import read_scenario
from tests.simulator.conftest import Submit
from tests.simulator.running import CONTROL_KEY, RunningSimulator


@pytest.mark.parametrize(
    ("key", "account"),
    [
        ("sk-a", "acme"),
        ("sk-b", "acme"),
        ("sk-sim-shop.one", "shop"),
        ("sk-sim-shop.two", "shop"),
        ("sk-sim-x", "sim-d02304cb"),
        ("sk-sim-", None),
        ("sk-c", None),
        ("", None),
    ],
)
def test_accounts(key: str, account: str | None) -> None:
    assert read_scenario({"accounts": {"acme": ["sk-a", "sk-b"]}}).find_account(key) == account


def test_the_most_specific_latency_counts() -> None:
    latency = {"default": 1, "async": 2, "qwen-image-max": 3, "qwen-image-plus/async": 4}
    scenario = read_scenario({"latency_s": latency})
    assert scenario.get_latency("qwen-image-2.0", Endpoint.SYNC) == 1.0
    assert scenario.get_latency("qwen-image", Endpoint.ASYNC) == 2.0
    assert scenario.get_latency("qwen-image-max", Endpoint.RESELLER) == 3.0
    assert scenario.get_latency("qwen-image-plus", Endpoint.ASYNC) == 4.0
    assert read_scenario({}).get_latency("qwen-image-plus", Endpoint.SYNC) == 1.0


@pytest.mark.parametrize(
    "raw",
    [
        [],
        {"accounts": []},
        {"latency": 1},
        {"latency_s": "soon"},
        {"limits": {"submits": {"qwen-image-max": 2}}},
        {"limits": {"when_full": "panic"}},
        {"limits": {"per_day": 5}},
        {"reseller": {"size_separator": "by"}},
        {"reseller": {"colour": "red"}},
        {"rules": [{"fault": {"name": "nothing"}}]},
    ],
)
def test_scenarios_that_cannot_be_read(raw: object) -> None:
    with pytest.raises(ScenarioError):
        read_scenario(raw)


def test_submits_are_limited_by_account_and_model(simulator: RunningSimulator, generate: Submit) -> None:
    simulator.set_scenario(limits="documented")
    other = {"Authorization": "Bearer sk-sim-acme.two"}
    assert [generate(model="qwen-image-max").status_code for _ in range(2)] == [200, 200]
    refused = generate(model="qwen-image-max", headers=other)
    assert (refused.status_code, refused.json()["code"]) == (429, "Throttling.RateQuota")
    assert generate(model="qwen-image-2.0").status_code == 200
    assert generate(model="qwen-image-max", headers={"Authorization": "Bearer sk-sim-x.y"}).status_code == 200
    simulator.advance(61)
    assert generate(model="qwen-image-max").status_code == 200


def test_two_tasks_at_once(simulator: RunningSimulator, submit: Submit) -> None:
    simulator.set_scenario(limits={"async_concurrency": 2}, latency_s=10)
    assert [submit().status_code for _ in range(2)] == [200, 200]
    refused = submit()
    assert (refused.status_code, refused.json()["code"]) == (429, "Throttling.AllocationQuota")
    simulator.advance(11)
    assert submit().status_code == 200


def test_or_the_others_wait(simulator: RunningSimulator, submit: Submit, client: httpx.Client) -> None:
    simulator.set_scenario(limits={"async_concurrency": 2, "when_full": "queue"}, latency_s=10)
    paths = [f"/api/v1/tasks/{submit().json()['output']['task_id']}" for _ in range(5)]

    def look() -> list[str]:
        return [client.get(path).json()["output"]["task_status"] for path in paths]

    simulator.advance(5)
    assert look() == ["RUNNING", "RUNNING", "PENDING", "PENDING", "PENDING"]
    simulator.advance(10)
    assert look() == ["SUCCEEDED", "SUCCEEDED", "RUNNING", "RUNNING", "PENDING"]
    simulator.advance(20)
    assert look() == ["SUCCEEDED"] * 5


def test_queries_list_and_cancel_have_a_limit_each(simulator: RunningSimulator, client: httpx.Client) -> None:
    simulator.set_scenario(limits={"queries_per_s": 2})
    assert [client.get("/api/v1/tasks/any").status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/api/v1/tasks/").status_code == 200
    assert client.post("/api/v1/tasks/any/cancel").status_code == 400


def test_no_limits_unless_asked_for(submit: Submit) -> None:
    assert [submit().status_code for _ in range(30)] == [200] * 30


@pytest.mark.parametrize("key", ["", "Bearer wrong"])
@pytest.mark.parametrize(("method", "path"), [("GET", "healthz"), ("GET", "bill"), ("POST", "rules"), ("GET", "none")])
def test_control_needs_its_key(
    simulator: RunningSimulator, bare: httpx.Client, method: str, path: str, key: str
) -> None:
    answer = bare.request(method, f"{simulator.base_url}/_sim/{path}", headers={"Authorization": key})
    assert answer.status_code == 401


def test_control_is_open_without_a_key(bare: httpx.Client) -> None:
    from providers.simulator.app import create_app
    from tests.simulator.asgi import ask

    app = create_app({}, public_base_url="http://sim.test")
    assert ask(app, "GET", "/_sim/healthz") == (200, b'{"status":"ok"}')


def test_control(simulator: RunningSimulator, bare: httpx.Client, generate: Submit) -> None:
    headers = {"Authorization": f"Bearer {CONTROL_KEY}"}
    base = f"{simulator.base_url}/_sim"
    rule = {"fault": {"name": "throttle"}}
    assert bare.post(f"{base}/rules", json=rule, headers=headers).status_code == 201
    assert generate().status_code == 429
    simulator.set_scenario(latency_s=0.001)
    assert generate().status_code == 429
    assert bare.delete(f"{base}/rules", headers=headers).json() == {"rules": 0}
    assert generate().status_code == 200
    simulator.set_scenario(rules=[rule])
    assert generate().status_code == 429
    assert bare.get(f"{base}/scenario", headers=headers).json()["rules"] == [rule]
    assert bare.delete(f"{base}/bill", headers=headers).status_code == 200
    assert bare.get(f"{base}/bill", headers=headers).json()["totals"]["submissions"] == 0
    assert bare.get(f"{base}/none", headers=headers).status_code == 404
    for path, content in (("rules", b"{"), ("scenario", b"[]"), ("clock", b"{}"), ("clock", b'{"advance_s": -1}')):
        assert bare.post(f"{base}/{path}", content=content, headers=headers).status_code == 400


def test_it_ends_at_once_while_calls_hang(bare: httpx.Client) -> None:
    from threading import Thread

    body = {"model": "qwen-image-2.0", "prompt": "[[sim: hang]]"}
    seen: list[type[Exception]] = []

    def call(url: str) -> None:
        try:
            bare.post(f"{url}/v1/images/generations", json=body, headers={"Authorization": "Bearer sk-sim-a"})
        except httpx.HTTPError as error:
            seen.append(type(error))

    with RunningSimulator({"latency_s": 0}) as running:
        thread = Thread(target=call, args=(running.base_url,))
        thread.start()
        while running.totals()["submissions"] == 0:
            time.sleep(0.01)
        began = time.monotonic()
    thread.join(5)
    assert time.monotonic() - began < 2
    assert seen in ([httpx.ReadError], [httpx.RemoteProtocolError])
