"""Rate limits by account, switched while it runs, and what is counted of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from providers.simulator.traffic import Traffic
from tests.simulator.conftest import FAL_HEADERS, Submit
from tests.simulator.running import RunningSimulator


def sign(account: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-sim-{account}.one"}


def test_three_accounts_with_two_each(simulator: RunningSimulator, generate: Submit) -> None:
    """In half a minute, so that a busy machine does not let more through."""
    two = {"submits": {"qwen-image-2.0": [2, 30]}}
    simulator.set_scenario(limits={"accounts": dict.fromkeys(("a", "b", "c"), two)})
    for account in ("a", "b", "c", "free"):
        statuses = [generate(headers=sign(account)).status_code for _ in range(4)]
        assert statuses == ([200] * 4 if account == "free" else [200, 200, 429, 429]), account
    simulator.advance(31)
    assert generate(headers=sign("a")).status_code == 200
    assert simulator.bill()["throttled"] == {name: {"submits": 2, "queries": 0} for name in ("a", "b", "c")}


def test_an_account_of_its_own_among_documented_ones(simulator: RunningSimulator, generate: Submit) -> None:
    simulator.set_scenario(limits={"submits": {"*": [1, 60]}, "accounts": {"slow": "documented", "shop": {}}})

    def count(account: str, model: str) -> int:
        return sum(generate(model=model, headers=sign(account)).status_code == 200 for _ in range(4))

    assert [count(account, "qwen-image-max") for account in ("shop", "slow", "any")] == [4, 2, 1]
    assert [count(account, "qwen-image-2.0-pro") for account in ("shop", "slow", "any")] == [4, 2, 1]


def test_keys_of_one_account_share_its_limits_and_resellers_and_fal_have_them_too(
    simulator: RunningSimulator, resell: Submit, relay: Submit, enqueue: Submit, flow: Submit
) -> None:
    simulator.set_scenario(limits={"submits": {"*": [1, 60]}})
    assert resell(headers=sign("shop")).status_code == 200
    assert relay(headers={"Authorization": "Bearer sk-sim-shop.another"}).status_code == 429
    assert [enqueue().status_code for _ in range(2)] == [200, 429]
    assert [flow().status_code for _ in range(2)] == [200, 429]
    assert simulator.bill()["throttled"]["shop"] == {"submits": 1, "queries": 0}
    assert simulator.bill()["throttled"]["acme"] == {"submits": 2, "queries": 0}


def test_they_are_switched_while_it_runs(simulator: RunningSimulator, generate: Submit) -> None:
    assert [generate(model="qwen-image-max").status_code for _ in range(3)] == [200] * 3
    simulator.set_scenario(limits="documented")
    assert [generate(model="qwen-image-max").status_code for _ in range(3)] == [200, 200, 429]
    simulator.set_scenario(limits={})
    assert generate(model="qwen-image-max").status_code == 200


def test_a_task_too_many_is_a_submit_that_was_throttled(simulator: RunningSimulator, submit: Submit) -> None:
    simulator.set_scenario(limits={"async_concurrency": 2}, latency_s=10)
    assert [submit().status_code for _ in range(3)] == [200, 200, 429]
    assert submit(headers=sign("other")).status_code == 200
    assert simulator.bill()["throttled"] == {"acme": {"submits": 1, "queries": 0}}


def test_a_throttle_that_was_asked_for_is_none_of_the_limiter(simulator: RunningSimulator, generate: Submit) -> None:
    assert generate("a [[sim: throttle]]").status_code == 429
    assert simulator.bill()["throttled"] == {}


def test_twenty_queries_a_second(simulator: RunningSimulator, client: httpx.Client) -> None:
    """All within one second by the simulator's clock, which is the machine's: a busy one asks again."""
    simulator.set_scenario(limits="documented")
    for _ in range(20):
        simulator.reset()
        statuses = [client.get("/api/v1/tasks/any").status_code for _ in range(23)]
        if statuses.count(429) == 3:
            break
    assert statuses == [200] * 20 + [429] * 3
    bill = simulator.bill()
    assert bill["throttled"] == {"acme": {"submits": 0, "queries": 3}}
    counted = {"count": 23, "peak_per_s": 23}
    assert bill["queries"] == {**counted, "by_account": {"acme": counted}}


def test_whose_queries_are_counted(simulator: RunningSimulator, client: httpx.Client, enqueue: Submit) -> None:
    """Questions for tasks and results; not lists, cancels and models."""
    urls = enqueue().json()
    client.get(urls["status_url"], headers=FAL_HEADERS)
    client.get(urls["response_url"], headers=FAL_HEADERS)
    client.get("/api/v1/tasks/any", headers=sign("other"))
    client.get("/v1/tasks/any", headers=sign("other"))
    for method, path in (("GET", "/api/v1/tasks/"), ("POST", "/api/v1/tasks/any/cancel"), ("GET", "/v1/models")):
        client.request(method, path)
    queries: dict[str, Any] = simulator.bill()["queries"]
    assert queries["count"] == 4
    assert {name: counts["count"] for name, counts in queries["by_account"].items()} == {"acme": 2, "other": 2}
    simulator.call("DELETE", "/bill")
    assert simulator.bill()["queries"] == {"count": 0, "peak_per_s": 0, "by_account": {}}


def test_the_most_in_any_one_second() -> None:
    traffic = Traffic()
    for account, moments in (("a", (0.0, 0.5, 0.9, 1.0, 5.0)), ("b", (5.1, 5.2, 5.9))):
        for moment in moments:
            traffic.note_query(account=account, now=moment)
    assert traffic.describe()["queries"] == {
        "count": 8,
        "peak_per_s": 4,
        "by_account": {"a": {"count": 5, "peak_per_s": 3}, "b": {"count": 3, "peak_per_s": 3}},
    }


@pytest.mark.parametrize("limits", [{"accounts": []}, {"accounts": {"a": "strict"}}, "strict", {"accounts": {"a": 5}}])
def test_limits_that_cannot_be_read(simulator: RunningSimulator, limits: object) -> None:
    with pytest.raises(ValueError, match="/scenario: "):
        simulator.set_scenario(limits=limits)
