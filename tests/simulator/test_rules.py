"""Rules of a scenario: whom they meet and how often."""

from __future__ import annotations

import httpx
import pytest

from tests.simulator.conftest import KEY, Submit
from tests.simulator.running import RunningSimulator

HIT = 418


def status_of(generate: Submit, **order) -> int:
    return generate(**order).status_code


@pytest.mark.parametrize(
    ("match", "order", "status"),
    [
        ({}, {}, HIT),
        ({"endpoint": "sync"}, {}, HIT),
        ({"endpoint": "async"}, {}, 200),
        ({"endpoint": "image"}, {}, 200),
        ({"model": "qwen-image-2.0"}, {}, HIT),
        ({"model": "qwen-image-max"}, {}, 200),
        ({"prompt_contains": "cat"}, {"prompt": "one cat"}, HIT),
        ({"prompt_contains": "dog"}, {"prompt": "one cat"}, 200),
        ({"key": KEY}, {}, HIT),
        ({"key": "sk-configured"}, {}, 200),
        ({"key": KEY, "model": "qwen-image-max"}, {}, 200),
    ],
)
def test_match(simulator: RunningSimulator, generate: Submit, match: dict, order: dict, status: int) -> None:
    simulator.add_rule("error", status=HIT, match=match)
    assert status_of(generate, **order) == status


def test_times(simulator: RunningSimulator, generate: Submit) -> None:
    simulator.add_rule("error", status=HIT, times=2)
    assert [status_of(generate) for _ in range(3)] == [HIT, HIT, 200]


def test_the_first_rule_of_a_kind_counts(simulator: RunningSimulator, generate: Submit) -> None:
    simulator.add_rule("error", status=HIT, times=1)
    simulator.add_rule("error", status=500)
    assert [status_of(generate) for _ in range(2)] == [HIT, 500]


def test_a_directive_comes_before_rules(simulator: RunningSimulator, generate: Submit) -> None:
    simulator.add_rule("error", status=HIT)
    assert status_of(generate, prompt="[[sim: error status=500]]") == 500


def test_a_rule_for_pictures_is_met_by_where_they_were_ordered(
    simulator: RunningSimulator, generate: Submit, resell: Submit, bare: httpx.Client
) -> None:
    simulator.add_rule("image_broken", how="empty", match={"endpoint": "sync"})
    link = generate().json()["output"]["choices"][0]["message"]["content"][0]["image"]
    assert bare.get(link).content == b""
    assert bare.get(resell().json()["data"][0]["url"]).content[:4] == b"\x89PNG"


def test_a_rule_for_cancel_and_list(simulator: RunningSimulator, client: httpx.Client) -> None:
    simulator.add_rule("error", status=HIT, match={"endpoint": "cancel"})
    simulator.add_rule("error", status=419, match={"endpoint": "list"})
    assert client.post("/api/v1/tasks/any/cancel").status_code == HIT
    assert client.get("/api/v1/tasks/").status_code == 419
    assert client.get("/api/v1/tasks/any").status_code == 200


@pytest.mark.parametrize(
    "rule",
    [
        5,
        {},
        {"fault": {"name": "nothing"}},
        {"fault": {"name": "error"}, "when": "now"},
        {"fault": {"name": "error"}, "match": {"colour": "red"}},
        {"fault": {"name": "error"}, "match": {"endpoint": "moon"}},
        {"fault": {"name": "error"}, "times": -1},
        {"fault": {"name": "error", "status": "x"}},
    ],
)
def test_rules_that_cannot_be_obeyed(simulator: RunningSimulator, rule: object) -> None:
    with pytest.raises(ValueError, match="/rules: "):
        simulator.call("POST", "/rules", rule)
