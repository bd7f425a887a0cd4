"""Orders, the processes that hold them, and what is true when others have taken them over."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from django.db import connection

from billing.models import Account, LedgerEntry
from crazyrouter.files.models import StoredImage
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.sql import read_clock
from tests.books import read_violations
from tests.ops.processes import wait_until
from tests.server import Running, RunningServer
from tests.shop import Customer
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
PLUS, MAX = "qwen-image-plus", "qwen-image-max"
CRASHING = "tests.live.crashing:application"
LEASE_S, RECOVERY_S = 1.0, 0.3
QUICK: dict[str, Any] = {"LEASE_S": LEASE_S, "LEASE_REFRESH_S": 0.3, "RECOVERY_S": RECOVERY_S}
#: What a busy machine may add to that.
SLACK_S = 5.0
#: Longer than any test: its task ends when the simulator's clock is moved.
LONG = "[[sim: latency seconds=600]]"
LESS_LONG = "[[sim: latency seconds=200]]"
#: The upstream does its work, and its answer never comes.
IN_FLIGHT = "[[sim: hang billed=true]]"


@dataclass(frozen=True)
class Case:
    """One order: where the first process is killed, where the second, and what comes of it.

    The points are those of `tests.live.crashing`, and `flying`: nothing holds it there but the upstream, which has not
    answered yet. `unsent` slots have no attempt when it is taken over.
    """

    model: str
    points: str
    delivered: int
    submissions: int
    n: int = 1
    fault: str = ""
    unsent: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.model} {self.points} {self.n} {self.unsent}"

    @property
    def takeovers(self) -> int:
        """Whoever is killed behind the finish leaves nothing to take over."""
        points = self.points.split()
        return points.index("finished") if "finished" in points else len(points)

    @property
    def body(self) -> dict[str, Any]:
        return {"model": self.model, "prompt": f"{self.name} [[hold: {self.points}]] {self.fault}", "n": self.n}

    @property
    def headers(self) -> dict[str, str]:
        return {"Idempotency-Key": self.name}


@dataclass
class Scene:
    """The orders of one test, and the processes that hold them."""

    customer: Customer
    simulator: RunningSimulator
    folder: Path
    stack: ExitStack
    ids: dict[Case, str] = field(default_factory=dict)
    links: dict[Case, HTTPConnection] = field(default_factory=dict)

    def hold(self, number: int) -> dict[str, Any]:
        """The environment of a process that stops where prompts name a point for it."""
        folder = self.folder / str(number)
        folder.mkdir(exist_ok=True)
        return {"HOLDS": number, "HOLD_FOLDER": folder, **QUICK}

    def start(self, *processes: Running) -> None:
        for process in processes:
            process.start()
        for process in processes:
            self.stack.enter_context(process)

    def order(self, server: RunningServer, cases: Sequence[Case]) -> None:
        """Send them all, and note which generation is whose; the answers are there to be read from the links."""
        for case in cases:
            link = self.links[case] = HTTPConnection("127.0.0.1", server.port, timeout=60)
            self.stack.callback(link.close)
            headers = self.customer.headers | case.headers | {"Content-Type": "application/json"}
            link.request("POST", URL, json.dumps(case.body), headers)
        wait_until(lambda: Generation.objects.count() == len(cases))
        prompts = {row.prompt: row.id for row in Generation.objects.all()}
        self.ids = {case: prompts[case.body["prompt"]] for case in cases}

    def drop_unsent(self) -> None:
        """As if there had been no room for them: an attempt has one slot here."""
        for case, generation_id in self.ids.items():
            numbers = [slot + 1 for slot in case.unsent]
            Attempt.objects.filter(generation=generation_id, number__in=numbers).delete()

    def wait_until_held(self, number: int, held: dict[Case, str], *, submissions: int, booked: int) -> None:
        """All stand where they are to be killed, and the upstream has heard of what it is to hear of."""
        expected = {f"{self.ids[case]}.{point}" for case, point in held.items()}
        folder = self.folder / str(number)
        wait_until(lambda: {path.name for path in folder.iterdir()} == expected)
        wait_until(lambda: self.simulator.totals()["submissions"] == submissions)
        wait_until(lambda: StoredImage.objects.count() == booked)


@contextmanager
def open_scene(customer: Customer, simulator: RunningSimulator, folder: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(customer, simulator, folder, stack)


def find_held(cases: Sequence[Case], number: int) -> dict[Case, str]:
    """Where each of them stops in the process of this number."""
    points = [(case, point) for case in cases for point in case.points.split()[number : number + 1]]
    return {case: point for case, point in points if point != "flying"}


def fetch(url: str, headers: dict[str, str] | None = None, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    """(status, headers in lower case, body)"""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, (headers or {}) | {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


def wait_until_over(*, lease_s: float = LEASE_S) -> None:
    """Whatever runs is taken over in time, and comes to its end."""
    owners = list(Generation.objects.filter(state="running").values_list("lease_owner", flat=True))
    left = Generation.objects.filter(state="running", lease_owner__in=owners)
    wait_until(lambda: not left.exists(), within_s=lease_s + RECOVERY_S + SLACK_S)
    wait_until(lambda: not Generation.objects.filter(state="running").exists())


def count_expired() -> int:
    return Generation.objects.filter(state="running", lease_expires_at__lte=read_clock(connection)).count()


def check_takeover(scene: Scene) -> None:
    """The books are right, nothing is held, every slot was ordered at most once, and only what is stored is charged."""
    assert read_violations() == []
    assert set(Account.objects.values_list("held_micros", flat=True)) == {0}
    bill = scene.simulator.bill()
    ordered = Counter(entry["prompt"] for entry in bill["entries"] if entry["kind"] == "submission")
    charged = Counter(LedgerEntry.objects.filter(kind="charge").values_list("reference", flat=True))
    stored = Counter(StoredImage.objects.values_list("generation_id", flat=True))
    found = {
        case.name: (ordered[case.body["prompt"]], stored[scene.ids[case]], charged[scene.ids[case]])
        for case in scene.ids
    }
    assert found == {case.name: (case.submissions, case.delivered, case.delivered) for case in scene.ids}
    taken = {case.name: Generation.objects.get(pk=scene.ids[case]).takeovers for case in scene.ids}
    assert taken == {case.name: case.takeovers for case in scene.ids}
    assert not Attempt.objects.filter(state__in=("created", "accepted")).exists()


def check_collection(scene: Scene, server: RunningServer) -> None:
    """Its customer has it by id and by key, each picture by its URL; a key that brought nothing is free again."""
    for case, generation_id in scene.ids.items():
        status, _, body = fetch(f"{server.base_url}{URL}/{generation_id}", scene.customer.headers)
        record = json.loads(body)
        assert (status, len(record["data"]), record["charged"]["images"]) == (200, case.delivered, case.delivered)
        urls = [item["url"] for item in record["data"]]
        assert all(fetch(url)[2].startswith(b"\x89PNG\r\n") for url in urls)
        headers = scene.customer.headers | case.headers
        if case.delivered:
            status, told, body = fetch(server.base_url + URL, headers, case.body)
            assert (status, told.get("idempotent-replayed"), told["x-request-id"]) == (200, "true", generation_id)
            assert [item["url"] for item in json.loads(body)["data"]] == urls
        else:
            assert record["error"]["code"] == "upstream_failed"
            status, told, _ = fetch(server.base_url + URL, headers, {"model": MAX, "prompt": "another cat"})
            assert (status, told.get("idempotent-replayed")) == (200, None)
            assert told["x-request-id"] != generation_id
    assert read_violations() == []
