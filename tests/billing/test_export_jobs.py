"""Exports that are kept: made once, by one run at a time, whatever dies on the way."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from celery import current_app
from django.db import connection
from kombu.exceptions import OperationalError

from billing import tasks
from billing.exports import Order, jobs, make_plan, stream_export
from billing.exports.jobs import claim_export, expire_exports, make_next_export, order_export, read_export
from billing.models import Account, Export, ExportPart
from billing.periods import read_clock
from tests.entries import make_charge, write_entries

NOVEMBER = Order("charges", date(2026, 11, 1), date(2026, 11, 30))


@pytest.fixture
def acme(database: None) -> Account:
    account = Account.objects.create(name="acme")
    start = datetime(2026, 11, 2, tzinfo=UTC)
    names = [hashlib.sha256(str(n).encode()).hexdigest()[:32] for n in range(2500)]  # as hard to pack as real ids
    write_entries(account, [make_charge(start + timedelta(minutes=n), reference=names[n]) for n in range(2500)])
    return account


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The worker's bell, heard."""
    heard: list[str] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, **_: heard.append(name))
    return heard


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch, bells: list[str]) -> None:
    monkeypatch.setattr(jobs, "SMALL_ROWS", 0)


def order(**facts: Any) -> Export:
    return order_export(NOVEMBER, with_bom=False, requested_by="olga", **facts)


def write_plainly() -> bytes:
    return b"".join(piece for piece, _ in stream_export(make_plan(NOVEMBER)))


def test_a_small_export_is_made_at_once(acme: Account, bells: list[str]) -> None:
    export = order_export(NOVEMBER, with_bom=True, requested_by="olga")
    wanted = b"\xef\xbb\xbf" + write_plainly()
    assert b"".join(read_export(export)) == wanted
    assert (export.state, export.rows, export.rows_expected, export.error) == ("done", 2500, 2500, "")
    assert (export.size_bytes, export.sha256) == (len(wanted), hashlib.sha256(wanted).hexdigest())
    assert export.finished_at is not None
    assert export.expires_at == export.created_at + timedelta(days=7)
    assert bells == []


def test_a_large_export_waits_for_the_worker(acme: Account, all_large: None, bells: list[str]) -> None:
    export = order()
    assert (export.state, export.rows_expected, export.touched_at, export.parts.count()) == ("queued", 2500, None, 0)
    assert bells == ["billing.make_exports"]
    tasks.make_exports()
    export.refresh_from_db()
    assert export.state == "done"
    assert b"".join(read_export(export)) == write_plainly()


def test_exports_are_made_in_turn_one_a_ring(acme: Account, all_large: None, bells: list[str]) -> None:
    first, second = order(), order()
    tasks.make_exports()
    assert list(Export.objects.order_by("pk").values_list("state", flat=True)) == ["done", "queued"]
    assert bells == ["billing.make_exports"] * 3
    tasks.make_exports()
    assert bells == ["billing.make_exports"] * 3
    tasks.make_exports()
    assert set(Export.objects.values_list("pk", "state")) == {(first.pk, "done"), (second.pk, "done")}


def test_the_bytes_are_one_stream_in_parts_with_progress_between(
    acme: Account, all_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PART_BYTES", 10_000)
    seen: list[tuple[int, int]] = []
    write_part = jobs.Run.write_part

    def watch(run: jobs.Run, data: bytes) -> None:
        write_part(run, data)
        seen.append(Export.objects.values_list("rows", "rows_expected").get())

    monkeypatch.setattr(jobs.Run, "write_part", watch)
    order()
    make_next_export()
    assert {expected for _, expected in seen} == {2500}
    assert sorted({rows for rows, _ in seen}) == [1000, 2000, 2500]
    parts = list(ExportPart.objects.order_by("number").values_list("number", "data"))
    assert [number for number, _ in parts] == list(range(len(seen)))
    assert zlib.decompress(b"".join(bytes(data) for _, data in parts), wbits=31) == write_plainly()


def test_only_one_runs_at_a_time(acme: Account, all_large: None) -> None:
    order()
    order()
    assert claim_export() is not None
    assert claim_export() is None
    assert not make_next_export()
    assert sorted(Export.objects.values_list("state", flat=True)) == ["queued", "running"]


def test_of_many_who_claim_one_wins(acme: Account, all_large: None) -> None:
    order()
    claimed: list[Export | None] = []
    ready = threading.Barrier(4)

    def claim() -> None:
        ready.wait()
        claimed.append(claim_export())
        connection.close()

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(export is None for export in claimed) == [False, True, True, True]


def test_what_a_dead_run_left_is_made_anew(acme: Account, all_large: None) -> None:
    export = order()
    dead = claim_export()
    assert dead is not None
    ExportPart.objects.create(export=dead, number=0, data=b"half")
    Export.objects.update(rows=1000, touched_at=read_clock(connection) - timedelta(minutes=2, seconds=1))
    make_next_export()
    export.refresh_from_db()
    assert (export.state, export.rows) == ("done", 2500)
    assert b"".join(read_export(export)) == write_plainly()


def test_a_run_that_was_taken_over_writes_no_more(
    acme: Account, all_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept longer than others wait; by now the row and its parts are another's."""
    monkeypatch.setattr(jobs, "PART_BYTES", 1)
    taken = read_clock(connection) + timedelta(minutes=5)

    def write_slowly(*args: Any, **kwargs: Any) -> Iterator[tuple[bytes, int]]:
        for number, piece in enumerate(stream_export(*args, **kwargs)):
            if number == 2:
                ExportPart.objects.all().delete()
                Export.objects.update(touched_at=taken, rows=7)
            yield piece

    monkeypatch.setattr(jobs, "stream_export", write_slowly)
    order()
    make_next_export()
    row = Export.objects.get()
    assert (row.state, row.touched_at, row.rows, row.parts.count()) == ("running", taken, 7, 0)


def test_an_export_that_fails_says_why(acme: Account, all_large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    order()
    Account.objects.update(time_zone="Mars/Olympus")
    make_next_export()
    failed = Export.objects.get()
    assert (failed.state, failed.error) == ("failed", "there is no time zone 'Mars/Olympus'")
    assert failed.finished_at is not None


def test_a_fault_of_ours_ends_the_export_and_is_logged(
    acme: Account, all_large: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_off(*args: Any, **kwargs: Any) -> Iterator[tuple[bytes, int]]:
        yield b"head", 0
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(jobs, "stream_export", break_off)
    monkeypatch.setattr(jobs, "PART_BYTES", 1)
    order()
    make_next_export()
    failed = Export.objects.get()
    assert (failed.state, failed.error, failed.parts.count()) == ("failed", "RuntimeError: disk on fire", 0)
    assert "disk on fire" in caplog.text


def test_a_broker_that_is_away_costs_a_minute(
    acme: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(jobs, "SMALL_ROWS", 0)
    monkeypatch.setattr(current_app, "send_task", refuse)
    assert order().state == "queued"
    assert "connection refused" in caplog.text


def test_the_bytes_go_after_seven_days_and_the_row_stays(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    old, young = order(), order()
    Export.objects.filter(pk=old.pk).update(expires_at=read_clock(connection) - timedelta(seconds=1))
    assert expire_exports() == 1
    assert expire_exports() == 0
    assert (old.parts.count(), young.parts.count(), Export.objects.count()) == (0, 1, 2)
    assert list(read_export(old)) == []


def test_what_never_ends_is_given_up(acme: Account, all_large: None) -> None:
    lost, alive, waiting = order(), order(), order()
    now = read_clock(connection)
    Export.objects.filter(pk=lost.pk).update(state="running", touched_at=now - timedelta(minutes=3))
    Export.objects.filter(pk=alive.pk).update(state="running", touched_at=now - timedelta(minutes=1))
    Export.objects.update(created_at=now - timedelta(hours=6, seconds=1))
    tasks.expire_exports()
    assert dict(Export.objects.values_list("pk", "state")) == {
        lost.pk: "failed",
        alive.pk: "running",
        waiting.pk: "queued",
    }
    lost.refresh_from_db()
    assert lost.error == "given up: it never came to its end"
