"""Outages by control URL, and faults for one account of several."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.simulator.conftest import FAL_HEADERS, Submit
from tests.simulator.running import RunningSimulator

OTHER = {"Authorization": "Bearer sk-sim-other.one"}


@pytest.fixture
def orders(submit: Submit, generate: Submit, resell: Submit, relay: Submit, enqueue: Submit, flow: Submit) -> Any:
    """Status of one order by each protocol."""

    def call(**named: Any) -> list[int]:
        return [order(**named).status_code for order in (submit, generate, resell, relay, enqueue, flow)]

    return call


def test_an_account_is_refused_everything_and_recovers(
    simulator: RunningSimulator, orders: Any, submit: Submit, enqueue: Submit, client: httpx.Client, bare: httpx.Client
) -> None:
    task_id = submit().json()["output"]["task_id"]
    link = client.get(f"/api/v1/tasks/{task_id}").json()["output"]["results"][0]["url"]
    request = enqueue().json()

    def ask() -> list[int]:
        return [
            client.get(f"/api/v1/tasks/{task_id}").status_code,
            client.get("/api/v1/tasks/").status_code,
            client.post(f"/api/v1/tasks/{task_id}/cancel").status_code,
            client.get("/v1/models").status_code,
            client.get(request["status_url"], headers=FAL_HEADERS).status_code,
            client.get(request["response_url"], headers=FAL_HEADERS).status_code,
        ]

    before, entries = simulator.totals(), len(simulator.bill()["entries"])
    simulator.begin_outage(account="acme")
    assert orders() == [503] * 6
    assert ask() == [503] * 6
    assert bare.get(link).status_code == 200
    assert simulator.totals() == before | {"submissions": before["submissions"] + 6, "refused": 6}
    assert {entry["code"] for entry in simulator.bill()["entries"][entries:]} == {"ServiceUnavailable"}
    assert [submit(headers=OTHER).status_code, orders()[0]] == [200, 503]
    assert simulator.end_outages(account="acme") == 1
    assert orders() == [200] * 6
    assert ask() == [200, 200, 400, 200, 200, 200]


def test_one_that_ends_by_itself(simulator: RunningSimulator, generate: Submit) -> None:
    simulator.begin_outage(account="acme", seconds=60)
    assert generate().status_code == 503
    (listed,) = simulator.call("GET", "/outages")["outages"]
    assert (listed["match"], listed["seconds"]) == ({"account": "acme"}, 60)
    simulator.advance(61)
    assert generate().status_code == 200
    assert simulator.call("GET", "/outages") == {"outages": []}


@pytest.mark.parametrize(
    ("match", "status"),
    [
        ({}, 503),
        ({"key": "sk-sim-acme.one"}, 503),
        ({"key": "sk-sim-acme.two"}, 200),
        ({"model": "qwen-image-2.0"}, 503),
        ({"model": "qwen-image-max"}, 200),
        ({"endpoint": "sync"}, 503),
        ({"endpoint": "async"}, 200),
    ],
)
def test_whom_it_meets(simulator: RunningSimulator, generate: Submit, match: dict[str, Any], status: int) -> None:
    simulator.begin_outage(**match)
    assert generate().status_code == status


def test_what_it_looks_like(simulator: RunningSimulator, generate: Submit) -> None:
    by_id = simulator.begin_outage(account="acme", fault={"name": "reset"})
    with pytest.raises(httpx.ReadError):
        generate("a cat [[sim: throttle]]")
    simulator.begin_outage(account="acme", fault={"name": "error", "status": 401})
    assert simulator.end_outages(id=by_id) == 1
    assert generate().status_code == 401
    assert simulator.end_outages() == 1
    assert generate().status_code == 200
    assert simulator.totals()["images"] == 1


def test_pictures_too(simulator: RunningSimulator, generate: Submit, bare: httpx.Client) -> None:
    link = generate().json()["output"]["choices"][0]["message"]["content"][0]["image"]
    simulator.call("POST", "/outages", {"match": {"account": "acme"}, "images": True})
    assert bare.get(link).status_code == 503


@pytest.mark.parametrize(
    "outage",
    [
        [],
        {"for": "ever"},
        {"match": {"colour": "red"}},
        {"fault": {"name": "latency", "seconds": 5}},
        {"fault": {"name": "reset", "billed": True}},
        {"fault": {"name": "drip"}},
        {"fault": {"name": "poll_error"}},
        {"seconds": 0},
        {"seconds": "long"},
    ],
)
def test_outages_that_cannot_be(simulator: RunningSimulator, outage: object) -> None:
    with pytest.raises(ValueError, match="/outages: "):
        simulator.call("POST", "/outages", outage)


def test_they_are_ended_by_what_they_have(simulator: RunningSimulator) -> None:
    with pytest.raises(ValueError, match="by id, account, key, not by colour"):
        simulator.end_outages(colour="red")


def test_a_rule_for_one_account_of_several(
    simulator: RunningSimulator, submit: Submit, client: httpx.Client, generate: Submit, bare: httpx.Client
) -> None:
    for fault in ({"name": "failed"}, {"name": "poll_error", "status": 503}, {"name": "image_error", "status": 404}):
        simulator.call("POST", "/rules", {"match": {"account": "other"}, "fault": fault})
    mine, theirs = (submit(headers=headers).json()["output"]["task_id"] for headers in (None, OTHER))
    assert client.get(f"/api/v1/tasks/{mine}").json()["output"]["task_status"] == "SUCCEEDED"
    assert client.get(f"/api/v1/tasks/{theirs}", headers=OTHER).status_code == 503
    assert generate(headers=OTHER).status_code == 500
    link = generate().json()["output"]["choices"][0]["message"]["content"][0]["image"]
    assert bare.get(link).status_code == 200


def test_rules_are_listed_and_taken_away_one_by_one(simulator: RunningSimulator, generate: Submit) -> None:
    first = simulator.call("POST", "/rules", {"fault": {"name": "throttle"}, "times": 2})
    second = simulator.call("POST", "/rules", {"fault": {"name": "html"}})
    assert (first["rules"], second["rules"]) == (1, 2)
    assert generate().status_code == 429
    listed = simulator.call("GET", "/rules")["rules"]
    assert [(rule["id"], rule["fault"]["name"], rule["times"]) for rule in listed] == [
        (first["id"], "throttle", 1),
        (second["id"], "html", None),
    ]
    assert simulator.call("DELETE", f"/rules?id={first['id']}") == {"rules": 1}
    assert generate().status_code == 502
