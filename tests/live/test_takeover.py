"""Who wins when several processes are after the same generation: one; and that none of them is kept from other work."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from billing.models import LedgerEntry
from crazyrouter.files.models import StoredImage
from crazyrouter.files.names import new_name
from crazyrouter.generation.journal.attempts import Acceptance, accept_attempts
from crazyrouter.generation.models import Attempt, Generation
from providers.models import Channel, add_credential
from tests.books import read_violations
from tests.generation.test_recovery import build_orders, open_orders, shift_leases
from tests.live.scenes import (
    CRASHING,
    LONG,
    MAX,
    PLUS,
    QUICK,
    URL,
    Case,
    Scene,
    check_collection,
    check_takeover,
    fetch,
    find_held,
    open_scene,
    wait_until_over,
)
from tests.ops.processes import wait_until
from tests.server import RunningServer, RunningWorker
from tests.shop import Customer, open_customer
from tests.simulator.running import RunningSimulator

pytestmark = pytest.mark.live

THOUSAND = 1000
#: A lease that nobody here waits for.
PATIENT = {**QUICK, "LEASE_S": 60, "STOP_PATIENCE_S": 0.3, "UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN": 1}


@pytest.fixture
def scene(customer: Customer, simulator: RunningSimulator, tmp_path: Path) -> Iterator[Scene]:
    with open_scene(customer, simulator, tmp_path) as scene:
        yield scene


# --- one that slept ---

ASLEEP = [
    Case(PLUS, "opened", delivered=0, submissions=0),
    Case(PLUS, "opened", delivered=1, submissions=1, unsent=(0,)),
    Case(MAX, "opened", delivered=1, submissions=1, unsent=(0,)),
    Case(PLUS, "submitted", delivered=0, submissions=1),
    Case(PLUS, "polled", delivered=1, submissions=1, fault=LONG),
    Case(PLUS, "succeeded", delivered=1, submissions=1),
    Case(PLUS, "stored", delivered=1, submissions=1),
    Case(PLUS, "booked", n=4, delivered=4, submissions=4),
    Case(MAX, "stored", delivered=0, submissions=1),
]


def test_a_process_that_wakes_after_its_lease_writes_nothing_and_still_answers(scene: Scene) -> None:
    second = RunningServer(**QUICK)
    first = RunningServer(CRASHING, **scene.hold(0), PUBLIC_BASE_URL=second.base_url)
    scene.start(first, second)
    scene.order(first, ASLEEP)
    scene.wait_until_held(0, find_held(ASLEEP, 0), submissions=9, booked=2)
    scene.drop_unsent()
    first.send(signal.SIGSTOP)
    scene.simulator.advance(600)
    wait_until_over()
    check_takeover(scene)
    written = read_all()
    (scene.folder / "0" / "release").touch()
    first.send(signal.SIGCONT)
    for case, link in scene.links.items():
        answer = link.getresponse()
        body = json.loads(answer.read())
        assert answer.headers["x-request-id"] == scene.ids[case]
        if case.delivered:
            _, _, record = fetch(f"{second.base_url}{URL}/{scene.ids[case]}", scene.customer.headers)
            assert (answer.status, len(body["data"])) == (200, case.delivered)
            assert [item["url"] for item in body["data"]] == [item["url"] for item in json.loads(record)["data"]]
        else:
            assert (answer.status, body["error"]["code"]) == (502, "upstream_failed")
    assert read_all() == written
    check_takeover(scene)
    check_collection(scene, first)


def read_all() -> list[Any]:
    """Whatever a driver may write."""
    generations: list[dict[str, Any]] = [dict(row) for row in Generation.objects.order_by("pk").values()]
    for row in generations:
        del row["answered_at"]
    tables: tuple[Any, ...] = (Attempt, StoredImage, LedgerEntry)
    return [generations, *[list(table.objects.order_by("pk").values()) for table in tables]]


# --- two at once ---

CONTESTED = [
    *[Case(PLUS, "opened", n=n, delivered=n, submissions=n, unsent=tuple(range(n))) for n in (1, 2, 3, 4)],
    *[Case(MAX, "opened", n=n, delivered=n, submissions=n, unsent=tuple(range(n))) for n in (1, 2, 3, 4)],
    Case(PLUS, "accepted", delivered=1, submissions=1),
    Case(PLUS, "accepted", n=3, delivered=3, submissions=3),
    Case(PLUS, "polled", delivered=1, submissions=1, fault=LONG),
]


def test_two_that_take_over_at_once_order_nothing_twice(scene: Scene) -> None:
    """And what was accepted is polled on, though its channel is disabled and its key is refused by now."""
    channel = Channel.objects.get(kind="dashscope_async")
    add_credential(channel, "sk-sim-acme.old")
    first, *takers = [RunningServer(CRASHING, **scene.hold(0)), RunningServer(**QUICK), RunningServer(**QUICK)]
    scene.start(first)
    scene.order(first, CONTESTED)
    scene.wait_until_held(0, find_held(CONTESTED, 0), submissions=5, booked=0)
    scene.drop_unsent()
    first.kill()
    disabled = Channel.objects.create(name="other", kind=channel.kind, base_url=channel.base_url, simulated=True)
    add_credential(disabled, "sk-sim-acme.other")
    channel.offers.update(channel=disabled)
    Channel.objects.filter(pk=channel.pk).update(enabled=False)
    add_credential(channel, "sk-sim-acme.new")
    scene.simulator.add_rule(
        "error", status=401, code="InvalidApiKey", match={"endpoint": "tasks", "key": "sk-sim-acme.old"}
    )
    scene.simulator.advance(600)
    scene.start(*takers)
    wait_until_over()
    check_takeover(scene)
    check_collection(scene, takers[0])
    keys = [entry["key_last4"] for entry in scene.simulator.bill()["entries"] if entry["kind"] == "submission"]
    assert keys.count(".old") == 5
    assert keys.count(".new") == 0


# --- processes that are told to stop ---

TOLD = [
    Case(PLUS, "accepted polled", delivered=1, submissions=1, fault=LONG),
    Case(PLUS, "polled polled", n=2, delivered=2, submissions=2, fault=LONG),
]


def test_who_is_told_to_stop_gives_back_what_runs_at_once(scene: Scene) -> None:
    """A web process to a worker, and that to a web process, whose leases all last a minute."""
    first = RunningServer(CRASHING, **(scene.hold(0) | PATIENT))
    second = RunningWorker(scene.folder, "tests.live.crashing", **(scene.hold(1) | PATIENT))
    third = RunningServer(**(QUICK | {"LEASE_S": 60}))
    scene.start(first, second)
    scene.order(first, TOLD)
    scene.wait_until_held(0, find_held(TOLD, 0), submissions=3, booked=0)
    stop(first)
    second.ring("generation.recover_generations")
    scene.wait_until_held(1, find_held(TOLD, 1), submissions=3, booked=0)
    assert stop(second) == 0
    scene.simulator.advance(600)
    scene.start(third)
    wait_until_over(lease_s=0)
    check_takeover(scene)
    check_collection(scene, third)


def stop(process: RunningServer | RunningWorker) -> int:
    process.send(signal.SIGTERM)
    assert process.process is not None
    return process.process.wait(10)


# --- a thousand ---


def test_a_thousand_that_were_taken_over_keep_a_worker_from_nothing(scene: Scene) -> None:
    rich = open_customer("rich", micros=1_000_000_000)
    prompt = "a cat [[sim: latency seconds=600]]"
    orders = build_orders(rich, THOUSAND - 5, model=PLUS, prompt=prompt + "[[sim: failed]]", size="1664*928")
    orders += build_orders(rich, 5, model=PLUS, prompt=prompt, size="1664*928")
    open_orders(orders)
    tasks = submit(scene.simulator, [order.prompt for order in orders])
    with transaction.atomic():
        accepted = [Acceptance(order.id, "gone", 1, task, "") for order, task in zip(orders, tasks, strict=True)]
        assert all(accept_attempts(connection, accepted))
    worker = RunningWorker(scene.folder, **{**QUICK, "LEASE_S": 10, "LEASE_REFRESH_S": 2})
    scene.start(worker)
    expired = make_expired_image(orders[0].id)
    shift_leases(-0.001)
    # More bells than the worker has threads: were one to wait for what it takes over, the last would never be heard.
    for _ in range(4):
        worker.ring("generation.recover_generations")
    wait_until(lambda: not Generation.objects.filter(lease_owner="gone").exists())
    worker.ring("files.expire")
    wait_until(lambda: StoredImage.objects.filter(pk=expired.pk).exclude(deleted_at=None).exists(), within_s=5)
    assert Generation.objects.filter(state="running").count() == THOUSAND
    expired.delete()
    scene.simulator.advance(600)
    wait_until_over(lease_s=60)
    assert set(Generation.objects.values_list("takeovers", flat=True)) == {1}
    states = Generation.objects.values_list("state", flat=True)
    assert (len(states), sum(state == "succeeded" for state in states)) == (THOUSAND, 5)
    assert (LedgerEntry.objects.filter(kind="charge").count(), StoredImage.objects.count()) == (5, 5)
    assert scene.simulator.totals()["submissions"] == THOUSAND
    assert read_violations() == []


def make_expired_image(generation_id: str) -> StoredImage:
    now, day = timezone.now(), timedelta(days=1)
    row = StoredImage(
        name=new_name(), generation_id=generation_id, slot=9, created_at=now - 4 * day, expires_at=now - day
    )
    row.width = row.height = row.bytes = 1
    row.save()
    return row


def submit(simulator: RunningSimulator, prompts: list[str]) -> list[str]:
    """The ids of tasks that the upstream took from a process that has gone since."""
    headers = {"Authorization": "Bearer sk-sim-test-credential", "X-DashScope-Async": "enable"}
    tasks = []
    with closing(HTTPConnection("127.0.0.1", simulator.port, timeout=60)) as link:
        for prompt in prompts:
            body = {"model": PLUS, "input": {"prompt": prompt}, "parameters": {"size": "1664*928", "n": 1}}
            link.request("POST", "/api/v1/services/aigc/text2image/image-synthesis", json.dumps(body), headers)
            tasks.append(json.loads(link.getresponse().read())["output"]["task_id"])
    return tasks
