"""Processes killed at every point of a generation's life: who takes over, what is charged, what can be collected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crazyrouter.generation.models import Generation
from tests.books import read_violations
from tests.live.scenes import (
    CRASHING,
    IN_FLIGHT,
    LESS_LONG,
    LONG,
    MAX,
    PLUS,
    QUICK,
    Case,
    Scene,
    check_collection,
    check_takeover,
    count_expired,
    find_held,
    open_scene,
    wait_until_over,
)
from tests.ops.processes import wait_until
from tests.server import RunningServer, RunningWorker
from tests.shop import Customer
from tests.simulator.running import RunningSimulator

pytestmark = pytest.mark.live

ASYNC = [
    Case(PLUS, "opened", delivered=0, submissions=0),
    Case(PLUS, "submitted", delivered=0, submissions=1),
    Case(PLUS, "accepted", delivered=1, submissions=1),
    Case(PLUS, "polled", delivered=1, submissions=1, fault=LESS_LONG),
    Case(PLUS, "succeeded", delivered=1, submissions=1),
    Case(PLUS, "stored", delivered=1, submissions=1),
    Case(PLUS, "finished", delivered=1, submissions=1),
    Case(PLUS, "booked", n=4, delivered=4, submissions=4),
]
#: The answer is the only trace of a synchronous call: what was in flight is unknown, and nobody pays for it.
SYNC = [
    Case(MAX, "opened", delivered=0, submissions=0),
    Case(MAX, "flying", delivered=0, submissions=1, fault=IN_FLIGHT),
    Case(MAX, "succeeded", delivered=0, submissions=1),
    Case(MAX, "stored", delivered=0, submissions=1),
    Case(MAX, "finished", delivered=1, submissions=1),
    Case(MAX, "booked", n=4, delivered=2, submissions=4),
]


@pytest.fixture
def scene(customer: Customer, simulator: RunningSimulator, tmp_path: Path) -> Iterator[Scene]:
    with open_scene(customer, simulator, tmp_path) as scene:
        yield scene


def test_another_web_process_takes_over(scene: Scene) -> None:
    cases = ASYNC + SYNC
    first, second = RunningServer(CRASHING, **scene.hold(0)), RunningServer(**QUICK)
    scene.start(first, second)
    scene.order(first, cases)
    scene.wait_until_held(0, find_held(cases, 0), submissions=18, booked=6)
    assert read_violations() == []
    first.kill()
    scene.simulator.advance(300)
    wait_until_over()
    check_takeover(scene)
    check_collection(scene, second)


#: Where the web process is killed, then where the worker that took over is.
TWICE = [
    Case(PLUS, "opened stored", delivered=0, submissions=0),
    Case(PLUS, "opened finished", delivered=0, submissions=0),
    Case(PLUS, "submitted stored", delivered=0, submissions=1),
    Case(PLUS, "accepted polled", delivered=1, submissions=1, fault=LONG),
    Case(PLUS, "polled succeeded", delivered=1, submissions=1, fault=LESS_LONG),
    Case(PLUS, "succeeded stored", delivered=1, submissions=1),
    Case(PLUS, "stored finished", delivered=1, submissions=1),
    Case(PLUS, "booked stored", n=4, delivered=4, submissions=4),
    Case(PLUS, "opened granted", n=2, delivered=0, submissions=0, unsent=(0, 1)),
    Case(PLUS, "opened submitted", n=2, delivered=0, submissions=1, unsent=(1,)),
    Case(PLUS, "opened accepted", delivered=1, submissions=1, unsent=(0,)),
    Case(PLUS, "opened polled", delivered=1, submissions=1, unsent=(0,), fault=LONG),
    Case(MAX, "flying stored", delivered=0, submissions=1, fault=IN_FLIGHT),
    Case(MAX, "opened flying", delivered=0, submissions=1, unsent=(0,), fault=IN_FLIGHT),
    Case(MAX, "opened succeeded", n=2, delivered=0, submissions=1, unsent=(1,)),
    Case(MAX, "opened stored", delivered=0, submissions=1, unsent=(0,)),
    Case(MAX, "opened finished", delivered=1, submissions=1, unsent=(0,)),
]


def test_a_worker_takes_over_and_is_killed_in_the_middle(scene: Scene) -> None:
    """What it has not ended, the web process ends that is started again."""
    cases = ASYNC + SYNC + TWICE
    first, second = (
        RunningServer(CRASHING, **scene.hold(0)),
        RunningWorker(scene.folder, "tests.live.crashing", **scene.hold(1)),
    )
    scene.start(first, second)
    scene.order(first, cases)
    scene.wait_until_held(0, find_held(cases, 0), submissions=28, booked=8)
    first.kill()
    scene.drop_unsent()
    scene.simulator.advance(300)
    running = [case for case in cases if case.points != "finished"]
    wait_until(lambda: count_expired() == len(running))
    second.ring("generation.recover_generations")
    scene.wait_until_held(1, find_held(cases, 1), submissions=35, booked=17)
    ends_there = [scene.ids[case] for case in ASYNC + SYNC]
    wait_until(lambda: not Generation.objects.filter(pk__in=ends_there, state="running").exists())
    second.kill()
    scene.simulator.advance(600)
    again = RunningServer(**QUICK)
    scene.start(again)
    wait_until_over()
    check_takeover(scene)
    check_collection(scene, again)
