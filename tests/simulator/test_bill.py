"""The upstream's own book."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from providers.simulator.bill import KEPT, Bill
from providers.simulator.clock import Clock
from tests.simulator.conftest import Submit
from tests.simulator.running import RunningSimulator


def test_one_record_per_submission_and_per_picture(simulator: RunningSimulator, generate: Submit) -> None:
    generate("a cat", n=2)
    order, first, second = simulator.bill()["entries"]
    known = {name: order[name] for name in order if name not in {"id", "at", "received_at", "request_id"}}
    assert known == {
        "kind": "submission",
        "number": 1,
        "endpoint": "sync",
        "key_last4": ".one",
        "account": "acme",
        "model": "qwen-image-2.0",
        "prompt": "a cat",
        "n": 2,
        "size": "512x512",
        "task_id": None,
        "accepted": True,
        "status": 200,
        "code": None,
    }
    assert [(image["index"], image["submission"], image["cost"]) for image in (first, second)] == [
        (0, order["id"], "0.20"),
        (1, order["id"], "0.20"),
    ]


def test_refused_ones_are_recorded_and_free(
    simulator: RunningSimulator, generate: Submit, client: httpx.Client
) -> None:
    generate(n=9)
    client.post("/v1/images/generations", headers={"Authorization": "Bearer nobody"})
    bill = simulator.bill()
    assert bill["totals"]["refused"] == 2
    assert [(entry["endpoint"], entry["status"], entry["code"]) for entry in bill["entries"]] == [
        ("sync", 400, "InvalidParameter"),
        ("reseller", 401, ""),
    ]


def test_a_task_is_charged_when_it_ends_though_nobody_asks(simulator: RunningSimulator, submit: Submit) -> None:
    simulator.set_scenario(latency_s=20)
    task_id = submit().json()["output"]["task_id"]
    assert simulator.totals()["images"] == 0
    simulator.advance(30)
    order, image = simulator.bill()["entries"]
    assert (order["task_id"], image["task_id"], image["cost"]) == (task_id, task_id, "0.20")


def test_polls_do_not_charge_again(simulator: RunningSimulator, submit: Submit, client: httpx.Client) -> None:
    task_id = submit().json()["output"]["task_id"]
    for _ in range(3):
        client.get(f"/api/v1/tasks/{task_id}")
    assert simulator.totals()["images"] == 1


def test_a_task_that_fails_is_free(simulator: RunningSimulator, submit: Submit) -> None:
    submit("[[sim: failed]]")
    assert (simulator.totals()["accepted"], simulator.totals()["images"]) == (1, 0)


@pytest.mark.parametrize(
    ("model", "cost"),
    [
        ("qwen-image-plus", "0.20"),
        ("qwen-image-max", "0.50"),
        ("qwen-image-2.0", "0.20"),
        ("qwen-image-2.0-pro", "0.50"),
    ],
)
def test_prices(simulator: RunningSimulator, generate: Submit, model: str, cost: str) -> None:
    generate(model=model)
    bill = simulator.bill()
    assert bill["totals"]["cost"] == cost
    assert (bill["images_by_model"], bill["images_by_account"]) == ({model: 1}, {"acme": 1})


def test_a_caller_that_leaves_is_charged(simulator: RunningSimulator, client: httpx.Client, generate: Submit) -> None:
    simulator.set_scenario(latency_s=0.3)
    with pytest.raises(httpx.ReadTimeout):
        generate(timeout=0.1)
    assert simulator.totals()["images"] == 0
    generate()
    assert simulator.totals()["images"] == 2


def test_reset(simulator: RunningSimulator, generate: Submit) -> None:
    generate()
    simulator.reset()
    assert simulator.bill()["totals"]["submissions"] == 0
    assert simulator.bill()["entries"] == []


def test_it_is_read_in_pages(simulator: RunningSimulator, generate: Submit) -> None:
    for n in (2, 1, 3):
        generate(n=n)
    whole = simulator.bill()
    assert [entry["number"] for entry in whole["entries"]] == list(range(1, 10))
    read: list[int] = []
    while page := simulator.call("GET", f"/bill?after={read[-1] if read else 0}&limit=4")["entries"]:
        assert len(page) <= 4
        read += [entry["number"] for entry in page]
    assert read == list(range(1, 10))
    assert whole["kept"] == {"most": 100_000, "entries": 9, "forgotten": 0}
    with pytest.raises(ValueError, match="after='x' is not a whole number"):
        simulator.call("GET", "/bill?after=x")


def test_it_says_what_it_has_forgotten() -> None:
    clock = Clock()
    bill = Bill(clock)
    for _ in range(KEPT // 2 + 5):
        entry = bill.open(endpoint="sync", request_id="r", key="sk-sim-acme.one")
        bill.accept(entry)
        bill.charge(entry, images=1, price_fen=20, at=clock.now())
    told = bill.describe(limit=2)
    assert told["totals"]["images"] == KEPT // 2 + 5
    assert told["kept"] == {"most": KEPT, "entries": KEPT, "forgotten": 10}
    assert [(entry["kind"], entry["number"]) for entry in told["entries"]] == [("submission", 11), ("image", 12)]
    assert [entry["number"] for entry in bill.describe(after=KEPT + 8)["entries"]] == [KEPT + 9, KEPT + 10]


def test_when_it_was_opened_and_when_an_order_came_is_by_the_clock_of_the_machine(
    simulator: RunningSimulator, generate: Submit
) -> None:
    before = datetime.now(UTC)
    simulator.reset()
    simulator.advance(86_400)
    generate()
    bill = simulator.bill()
    order, since = bill["entries"][0], datetime.fromisoformat(bill["since"])
    received = datetime.fromisoformat(order["received_at"])
    assert before - timedelta(milliseconds=1) <= since <= received <= datetime.now(UTC)
    assert datetime.fromisoformat(order["at"]) - received > timedelta(hours=23)


def test_an_order_that_is_refused_before_it_is_read_names_its_model(
    simulator: RunningSimulator, generate: Submit, enqueue: Submit
) -> None:
    generate(n=9)
    enqueue(model="fal-ai/nothing")
    assert [(entry["model"], entry["code"]) for entry in simulator.bill()["entries"]] == [
        ("qwen-image-2.0", "InvalidParameter"),
        ("fal-ai/nothing", "NotFound"),
    ]
