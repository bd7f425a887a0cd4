"""`manage.py bench` with loads of a blink: every row is there, and no figure survives books that do not agree."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.core.management import load_command_class

from crazyrouter.management.bench import run
from crazyrouter.management.bench.exactness import Books, compare_product, compare_relay
from crazyrouter.management.bench.figures import Busy, Findings, Held, Round
from crazyrouter.management.bench.load import pick
from crazyrouter.management.bench.measure import Bench, Inexact, measure
from crazyrouter.management.bench.plan import PRODUCT, Plan
from crazyrouter.management.bench.processes import Pinning
from crazyrouter.management.bench.report import judge, render
from crazyrouter.management.bench.site import Site, open_site
from crazyrouter.management.bench.upstream import build_picture
from crazyrouter.management.bench.wire import build_request, build_response, take_message
from crazyrouter.management.commands.bench import read_plan

TINY = Plan(seconds=0.2, rounds=1, clients=3, in_flight=(4,), hold_s=0.3, databases=("sqlite",))
LABELS = [
    "requests/s per core, product",
    "requests/s per core, relay",
    "ratio, median of rounds [range]",
    "CPU ms/request, product",
    "CPU ms/request, relay",
    "CPU ms/request, PostgreSQL",
    "upstream alone, p50/p99 ms, 1 client",
    "upstream alone, requests/s",
    "added p50/p99 ms, 1 client, product",
    "added p50/p99 ms, 1 client, relay",
    "added p50/p99 ms, 3 clients, product",
    "added p50/p99 ms, 3 clients, relay",
    "4 in flight of 0.3 s: added p50/p99 ms",
    "4 in flight of 0.3 s: MiB idle, peak",
    "4 in flight of 0.3 s: KB each",
    "4 in flight of 0.3 s: threads idle, peak",
    "4 in flight of 0.3 s: CPU ms/request",
    "errors",
    "lines in the product's log",
    "loads proved exact / images charged",
]
BUSY = Busy(rate=100.0, p50=2.0, p99=9.0, answered=500, errors={}, cpu=1.5, database_cpu=0.1, early=2.0, late=2.0)
HELD = Held(
    in_flight=1000,
    p50=4.0,
    p99=149.0,
    answered=2000,
    errors={},
    cpu=2.0,
    database_cpu=None,
    idle_bytes=100 << 20,
    peak_bytes=(100 << 20) + 1000 * 40 * 1024,
    idle_threads=9,
    peak_threads=11,
)


def read_rows(text: str) -> dict[str, str]:
    """The table's cells by label, for one database."""
    return {
        label: line[len(label) :].strip() for line in text.splitlines() for label in LABELS if line.startswith(label)
    }


@pytest.mark.live
def test_every_row_is_reported(tmp_path: Path) -> None:
    said: list[str] = []
    written: list[str] = []
    json = tmp_path / "figures.json"
    assert run.run_bench(TINY, say=said.append, write=written.append, json=json) == 0
    rows = read_rows(written[0])
    assert list(rows) == LABELS
    assert [label for label, cell in rows.items() if cell == "-"] == ["CPU ms/request, PostgreSQL"]
    assert rows["errors"] == "0"
    assert rows["lines in the product's log"] == "0"
    found = orjson.loads(json.read_bytes())["databases"][0]
    assert found["loads"] == 7
    assert found["faults"] == []
    assert rows["loads proved exact / images charged"] == f"7 / {found['charged']}"
    assert found["held"][0]["answered"] == 8
    assert found["rounds"][0]["product"]["rate"] > 0
    assert said[-1].endswith(": 4 in flight of 0.3 s")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site("sqlite", TINY, folder=tmp_path, pinning=Pinning(None, None)) as site, site.run_product():
        yield site


@pytest.mark.live
def test_what_does_not_agree_is_found(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = site.load(PRODUCT, clients=3, each=2)
    assert (result.answered, result.errors) == (6, {})
    assert site.find_faults(PRODUCT) == []
    assert site.read_counts()[PRODUCT] == {"submissions": 6, "downloads": 6}

    bench = Bench(site, Findings("sqlite", "SQLite"), lambda line: None)
    with monkeypatch.context() as patch:
        patch.setattr(Site, "read_counts", lambda self: {PRODUCT: {"submissions": 7, "downloads": 6}})
        with pytest.raises(Inexact) as caught:
            bench.prove(PRODUCT)
    assert caught.value.faults == [
        "the upstream counts 7 submissions, the books 6 charged images and 0 failed attempts"
    ]

    with sqlite3.connect(tmp_path / "bench.sqlite3") as database:
        (name,) = database.execute("SELECT name FROM files_storedimage LIMIT 1").fetchone()
        (generation,) = database.execute(
            "DELETE FROM files_storedimage WHERE name = ? RETURNING generation_id", [name]
        ).fetchone()
    database.close()
    with pytest.raises(Inexact) as caught:
        bench.prove(PRODUCT)
    assert caught.value.faults[0] == (
        f"the books are wrong: charge-has-an-image {generation}: slot 0 is charged, but no image of it was ever stored"
    )
    assert bench.findings.loads == 0


def test_a_load_that_is_not_exact_has_no_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure_badly(kind: str, plan: Plan, **_: Any) -> Findings:
        return Findings(kind, "SQLite", faults=["the clients got 7 pictures, 6 are charged"])

    monkeypatch.setattr(run, "measure", measure_badly)
    written: list[str] = []
    assert run.run_bench(TINY, say=print, write=written.append, json=None) == 1
    assert "SQLite: NOT EXACT: the clients got 7 pictures, 6 are charged" in written[0].splitlines()
    assert {cell for label, cell in read_rows(written[0]).items() if "/" in label and "loads" not in label} == {"-"}


def test_a_child_that_does_not_start_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(databases=("postgresql",), database_url="sqlite:////nowhere")
    found = measure("postgresql", plan, folder=tmp_path / "site", pinning=Pinning(None, None), say=print)
    assert found.faults == ["--database-url must be postgres://…"]


@pytest.mark.parametrize(
    ("books", "submissions", "answered", "faults"),
    [
        (Books((), charged=5, failed=2, running=0), 7, 5, []),
        (Books((), charged=5, failed=0, running=0), 5, 4, ["the clients got 4 pictures, 5 are charged"]),
        (Books((), charged=5, failed=0, running=1), 5, 5, ["1 generations are still running"]),
        (Books(("a b: c",), charged=0, failed=0, running=0), 0, 0, ["the books are wrong: a b: c"]),
    ],
)
def test_product_and_upstream_and_clients_agree(
    books: Books, submissions: int, answered: int, faults: list[str]
) -> None:
    assert compare_product(books, submissions=submissions, answered=answered) == faults


def test_relay_and_upstream_agree() -> None:
    assert compare_relay(submissions=3, answered=3) == []
    assert compare_relay(submissions=4, answered=3) == [
        "the upstream counts 4 submissions of the relay, the clients got 3 answers"
    ]


def test_targets_say_what_is() -> None:
    slow = Busy(rate=40.0, p50=5.0, p99=9.0, answered=200, errors={}, cpu=1.5, database_cpu=None, early=5.0, late=5.0)
    found = Findings(
        "postgresql", "PostgreSQL 18", rounds=[Round(slow, BUSY, slow, BUSY, BUSY)], held=[HELD], loads=1, charged=9
    )
    assert judge(Plan(), [found]) == [
        "half of the relay's throughput on PostgreSQL (target 0.50): 0.40, missed",
        "a third of it on SQLite (target 0.33, reported): not measured",
        "added p50/p99 with 1,000 in flight under 10/150 ms: PostgreSQL 18 4.0/149.0, reached",
        "under 80 KB and far fewer than one thread each: PostgreSQL 18 40.0 KB, 11 threads, reached",
    ]
    rows = render(Plan(in_flight=(1000,)), [found], about=[]).splitlines()
    assert [line.split()[-3:] for line in rows if line.startswith("added p50/p99 ms, 32 clients, product")] == [
        ["3.00", "/", "0.00"]
    ]


def test_the_picture_is_of_ten_kilobytes() -> None:
    assert 10_000 <= len(build_picture()) <= 11_000


def test_messages_are_cut_whole() -> None:
    whole = build_request("POST", "/a", port=1, body=b"{}") + build_response("200 OK", b"body")
    buffer = bytearray()
    found = []
    for byte in whole:
        buffer.append(byte)
        if message := take_message(buffer):
            found.append(message)
    assert found == [
        (b"POST /a HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: 2", b"{}"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4", b"body"),
    ]


def test_percentiles_are_nearest_ranks() -> None:
    taken = [number / 1000 for number in range(100, 0, -1)]
    assert [pick(taken, share) for share in (0.5, 0.99)] == [51.0, 100.0]
    assert pick([], 0.5) == 0.0


@pytest.mark.parametrize(
    ("arguments", "plan"),
    [
        ([], Plan()),
        (["--seconds", "2", "--only", "sqlite"], Plan(seconds=2.0, databases=("sqlite",))),
        (["--quick", "--hot-account"], Plan(seconds=1.0, rounds=1, in_flight=(50,), hold_s=1.0, accounts=1)),
        (["--in-flight", "10,20", "--hold", "3"], Plan(in_flight=(10, 20), hold_s=3.0)),
        (["--in-flight", "0", "--clients", "8", "--rounds", "1"], Plan(in_flight=(), clients=8, rounds=1)),
    ],
)
def test_options(arguments: list[str], plan: Plan) -> None:
    command = load_command_class("crazyrouter", "bench")
    parser: Callable[..., Any] = command.create_parser("manage.py", "bench").parse_args
    assert read_plan(vars(parser(arguments))) == plan
