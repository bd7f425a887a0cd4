"""/healthz and /readyz: what they say, how seldom they look, and that they say nothing else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from crazyrouter.ops import health, probes, schema
from crazyrouter.ops.health import Readiness
from crazyrouter.ops.schema import SchemaProbe, list_unapplied


class Look:
    """A look that counts itself."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.count = 0

    def __call__(self) -> bool:
        self.count += 1
        return self.answers[min(self.count, len(self.answers)) - 1]


@pytest.fixture
async def client() -> Any:
    """The application as a health check calls it: by address, under no name of ours."""
    from crazyrouter.asgi import application

    transport = httpx.ASGITransport(app=application)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://10.1.2.3:8000") as found:
        yield found


@pytest.fixture
def schema_probe(monkeypatch: pytest.MonkeyPatch, database: None) -> SchemaProbe:
    probe = SchemaProbe()
    monkeypatch.setattr(health, "readiness", Readiness(probe.is_current, fresh_s=0))
    return probe


@pytest.fixture
def migration_missing(database: None) -> Iterator[str]:
    """The last of an app's, which this database has not had."""
    ((app, name),) = MigrationLoader(connection).graph.leaf_nodes("files")
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied(app, name)
    yield f"{app}.{name}"
    recorder.record_applied(app, name)


async def test_healthz_touches_no_database(client: httpx.AsyncClient) -> None:
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-length"] == "3"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_process_that_can_serve_is_ready(client: httpx.AsyncClient, schema_probe: SchemaProbe) -> None:
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_a_migration_behind_is_not_ready(
    client: httpx.AsyncClient, schema_probe: SchemaProbe, migration_missing: str
) -> None:
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "not ok\n")


async def test_no_database_is_not_ready_and_says_no_more(
    client: httpx.AsyncClient, schema_probe: SchemaProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[str]:
        raise OperationalError("could not connect to db.internal")

    monkeypatch.setattr(schema, "list_unapplied", fail)
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "not ok\n")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_only_reading_is_allowed(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path)
    assert answer.status_code == 405


def test_nothing_is_unapplied_here(database: None) -> None:
    assert list_unapplied() == []


def test_what_is_unapplied_is_named(migration_missing: str) -> None:
    assert list_unapplied() == [migration_missing]


def test_a_schema_that_was_complete_is_still_watched(schema_probe: SchemaProbe) -> None:
    assert schema_probe.is_current()
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("files", "0001_initial")
    try:
        assert not schema_probe.is_current()
    finally:
        recorder.record_applied("files", "0001_initial")
    assert schema_probe.is_current()


async def test_many_who_ask_are_one_look() -> None:
    look = Look(True)
    readiness = Readiness(look, fresh_s=60)
    answers = await asyncio.gather(*(readiness.ask() for _ in range(50)))
    assert (answers, look.count) == ([True] * 50, 1)


async def test_a_look_is_repeated_when_it_is_old() -> None:
    look = Look(True, False)
    readiness = Readiness(look, fresh_s=0)
    assert [await readiness.ask(), await readiness.ask()] == [True, False]


async def test_a_look_that_hangs_is_a_no_and_is_not_multiplied() -> None:
    gate = threading.Event()
    looks: list[float] = []

    def hang() -> bool:
        looks.append(time.monotonic())
        return gate.wait(30)

    readiness = Readiness(hang, fresh_s=0, patience_s=0.05)
    assert [await readiness.ask(), await readiness.ask()] == [False, False]
    assert len(looks) == 1
    gate.set()
    readiness = Readiness(hang, fresh_s=0, patience_s=30)
    assert await readiness.ask()


def test_a_probe_says_no_to_what_does_not_answer() -> None:
    assert not probes.answers("http://127.0.0.1:9/readyz", timeout_s=0.5)
