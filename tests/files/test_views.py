"""What goes over the wire for `/files/…`, header for header and byte for byte, through the handler that serves it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from crazyrouter.api.lean import LeanHandler
from crazyrouter.files import executors, rows, views
from crazyrouter.files.errors import StorageUnavailable
from crazyrouter.files.models import StoredImage
from crazyrouter.files.names import new_name
from crazyrouter.files.ranges import Span
from crazyrouter.files.storage import LocalStorage
from tests.files.test_names import WRONG

SMALL = bytes(range(256)) * 4
LARGE = bytes(range(251)) * 4000  # 1,004,000 bytes, read in four pieces that Django cuts into 64 KB
HARDENED = {"x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'; sandbox"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    pieces: int

    @property
    def error(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)["error"]


async def ask_async(path: str, *, method: str = "GET", **headers: str) -> Answer:
    sent: list[dict[str, Any]] = []
    names = {name.lower().replace("_", "-").encode(): value.encode() for name, value in headers.items()}

    async def receive() -> dict[str, Any]:
        if not asked:
            asked.append(True)
            return {"type": "http.request", "body": b""}
        return await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    asked: list[bool] = []
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": list(names.items())}
    await LeanHandler()(scope, receive, send)
    start, *bodies = sent
    answer_headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    assert len(answer_headers) == len(start["headers"])
    parts = [part.get("body", b"") for part in bodies]
    return Answer(start["status"], answer_headers, b"".join(parts), sum(1 for part in parts if part))


def ask(image: StoredImage | str, *, method: str = "GET", **headers: str) -> Answer:
    name = image if isinstance(image, str) else image.name
    return asyncio.run(ask_async(f"/files/{name}", method=method, **headers))


def describe(image: StoredImage, answer: Answer) -> dict[str, str]:
    """The headers of every answer about a picture; the seconds are checked apart."""
    left = (image.expires_at - timezone.now()).total_seconds()
    found = answer.headers["cache-control"]
    seconds = int(found.removeprefix("private, max-age=").removesuffix(", immutable"))
    assert left - 5 < seconds < left + 5
    return HARDENED | {
        "etag": f'"{image.sha256}"',
        "cache-control": found,
        "accept-ranges": "bytes",
        "cross-origin-resource-policy": "cross-origin",
    }


def describe_body(image: StoredImage, answer: Answer, *, length: int) -> dict[str, str]:
    return describe(image, answer) | {
        "content-type": "image/png",
        "content-length": str(length),
        "content-disposition": f'inline; filename="{image.name}"',
    }


def assert_not_found(answer: Answer) -> None:
    assert answer.status == 404
    assert answer.error == {
        "message": "There is no such file, or it has expired.",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }
    expected = {
        "content-type": "application/json",
        "cache-control": "no-store",
        "content-length": str(len(answer.body)),
    }
    assert answer.headers == HARDENED | expected


class TestWhole:
    def test_get(self, stored):
        image = stored(SMALL)

        answer = ask(image)

        assert (answer.status, answer.body, answer.pieces) == (200, SMALL, 1)
        assert answer.headers == describe_body(image, answer, length=1024)

    def test_a_large_picture_comes_in_pieces(self, stored):
        image = stored(LARGE)

        answer = ask(image)

        assert (answer.status, answer.body, answer.pieces) == (200, LARGE, 16)
        assert answer.headers == describe_body(image, answer, length=len(LARGE))

    @pytest.mark.parametrize("data", [SMALL, LARGE])
    def test_head_is_get_without_the_body(self, stored, data):
        image = stored(data)

        answer = ask(image, method="HEAD")

        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers == describe_body(image, answer, length=len(data))

    def test_head_has_no_ranges(self, stored):
        answer = ask(stored(SMALL), method="HEAD", range="bytes=0-3")

        assert (answer.status, answer.headers["content-length"]) == (200, "1024")
        assert "content-range" not in answer.headers


class TestRanges:
    @pytest.mark.parametrize(
        ("header", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=100-199", 100, 200),
            ("bytes=1000-", 1000, 1024),
            ("bytes=-24", 1000, 1024),
            ("bytes=-9999", 0, 1024),
            ("bytes=0-9999", 0, 1024),
        ],
    )
    def test_one_range(self, stored, header, start, stop):
        image = stored(SMALL)

        answer = ask(image, range=header)

        assert (answer.status, answer.body) == (206, SMALL[start:stop])
        expected = describe_body(image, answer, length=stop - start)
        assert answer.headers == expected | {"content-range": f"bytes {start}-{stop - 1}/1024"}

    def test_a_large_range_comes_in_pieces(self, stored):
        answer = ask(stored(LARGE), range="bytes=3-600002")

        assert (answer.status, answer.body, answer.pieces) == (206, LARGE[3:600_003], 10)
        assert answer.headers["content-range"] == "bytes 3-600002/1004000"
        assert answer.headers["content-length"] == "600000"

    @pytest.mark.parametrize("header", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
    def test_outside(self, stored, header):
        answer = ask(stored(SMALL), range=header)

        assert answer.status == 416
        assert answer.headers["content-range"] == "bytes */1024"
        assert answer.headers["cache-control"] == "no-store"
        assert (answer.error["type"], answer.error["code"]) == ("invalid_request_error", "range_not_satisfiable")

    @pytest.mark.parametrize("header", ["bytes=0-1,5-6", "bytes=9-3", "lines=1-2", "bytes=", "nonsense"])
    def test_everything_else_is_the_whole(self, stored, header):
        answer = ask(stored(SMALL), range=header)

        assert (answer.status, answer.body) == (200, SMALL)
        assert "content-range" not in answer.headers


class TestConditions:
    @pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
    def test_known_pictures_are_not_sent(self, stored, form):
        image = stored(SMALL)

        for method in ("GET", "HEAD"):
            answer = ask(image, method=method, if_none_match=form.format(image.sha256), range="bytes=0-1")

            assert (answer.status, answer.body) == (304, b"")
            assert answer.headers == describe(image, answer)

    @pytest.mark.parametrize("header", ['"other"', "nonsense", ""])
    def test_others_are(self, stored, header):
        assert ask(stored(SMALL), if_none_match=header).status == 200

    def test_if_range(self, stored):
        image = stored(SMALL)

        fresh = ask(image, range="bytes=0-3", if_range=f'"{image.sha256}"')
        stale = ask(image, range="bytes=0-3", if_range='"other"')
        weak = ask(image, range="bytes=0-3", if_range=f'W/"{image.sha256}"')
        dated = ask(image, range="bytes=0-3", if_range="Sat, 21 Nov 2026 07:28:00 GMT")

        assert (fresh.status, fresh.body) == (206, SMALL[:4])
        assert [(answer.status, answer.body) for answer in (stale, weak, dated)] == [(200, SMALL)] * 3


class TestAbsence:
    def test_unknown(self, database, storage):
        assert_not_found(ask(new_name()))

    def test_head(self, database, storage):
        answer = ask(new_name(), method="HEAD")

        assert (answer.status, answer.body) == (404, b"")
        assert answer.headers["content-length"] == str(len(ask(new_name()).body))

    @pytest.mark.parametrize("name", [name for name in WRONG if "/" not in name and "\n" not in name and name])
    def test_malformed_names_reach_neither_database_nor_disk(self, name):
        """Without the `database` fixture any query is an error."""
        assert_not_found(ask(name))

    def test_expired_though_not_swept(self, stored):
        image = stored(SMALL, age=timedelta(hours=72, seconds=1))

        assert_not_found(ask(image))

    def test_expires_within_the_memory_of_rows(self, stored):
        image = stored(SMALL, ttl=timedelta(seconds=0.4))
        assert ask(image).status == 200
        threading.Event().wait(0.5)

        assert_not_found(ask(image))

    def test_deleted(self, stored):
        image = stored(SMALL)
        StoredImage.objects.update(deleted_at=timezone.now())

        assert_not_found(ask(image))

    def test_deletion_is_seen_after_two_seconds(self, stored, monkeypatch):
        clock = [1000.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        image = stored(SMALL)
        assert ask(image).status == 200
        StoredImage.objects.update(deleted_at=timezone.now())

        clock[0] += 1.9
        assert ask(image).status == 200
        clock[0] += 0.2
        assert_not_found(ask(image))

    @pytest.mark.parametrize("data", [SMALL, LARGE])
    def test_bytes_that_are_gone(self, stored, storage, data, caplog):
        image = stored(data)
        storage.delete(image.name)

        assert_not_found(ask(image))
        assert caplog.messages == [f"the bytes of stored image {image.name} are missing before it expired"]


class TestTrouble:
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_other_methods(self, method):
        answer = ask(new_name(), method=method)

        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        assert (answer.error["type"], answer.error["code"]) == ("invalid_request_error", "method_not_allowed")

    def assert_unavailable(self, answer: Answer, code: str) -> None:
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (answer.error["type"], answer.error["code"]) == ("service_unavailable", code)

    @pytest.mark.parametrize("data", [SMALL, LARGE])
    def test_a_broken_disk(self, stored, storage, data, monkeypatch):
        def fail(*_args, **_options):
            raise StorageUnavailable("broken")

        image = stored(data)
        monkeypatch.setattr(LocalStorage, "open", fail)

        self.assert_unavailable(ask(image), "storage_unavailable")

    def test_a_file_that_is_too_short(self, stored, storage):
        image = stored(SMALL)
        storage.write(image.name, SMALL[:100])

        self.assert_unavailable(ask(image), "storage_unavailable")

    def test_a_dead_connection_is_replaced_once(self, stored, monkeypatch):
        image = stored(SMALL)
        calls = self.break_database(monkeypatch, failures=1)

        assert ask(image).status == 200
        assert calls == [True, False]

    def test_a_dead_database(self, stored, monkeypatch):
        image = stored(SMALL)
        calls = self.break_database(monkeypatch, failures=2)

        self.assert_unavailable(ask(image), "service_unavailable")
        assert calls == [True, True]

    def break_database(self, monkeypatch: pytest.MonkeyPatch, *, failures: int) -> list[bool]:
        calls: list[bool] = []
        query: Callable[[str], Any] = rows._query

        def flaky(name: str) -> Any:
            calls.append(len(calls) < failures)
            if calls[-1]:
                raise OperationalError("the connection is closed")
            return query(name)

        monkeypatch.setattr(rows, "_query", flaky)
        return calls


class TestCost:
    def test_rows_are_remembered(self, stored, monkeypatch):
        image = stored(SMALL)
        fetched = []
        fetch = rows.fetch_row

        def count(name: str) -> Any:
            fetched.append(name)
            return fetch(name)

        monkeypatch.setattr(rows, "fetch_row", count)

        assert [ask(image).status for _ in range(5)] == [200] * 5
        assert fetched == [image.name]

    def test_unknown_names_are_not_remembered(self, stored, storage):
        image = stored(SMALL)
        StoredImage.objects.update(name="elsewhere")
        assert_not_found(ask(image))
        StoredImage.objects.update(name=image.name)

        assert ask(image).status == 200

    def test_memory_of_rows_is_bounded(self, stored, monkeypatch):
        monkeypatch.setattr(rows, "REMEMBERED_ROWS", 2)
        images = [stored(SMALL) for _ in range(4)]

        assert [ask(image).status for image in images] == [200] * 4
        assert list(rows._remembered) == [image.name for image in images[2:]]

    def test_a_hundred_at_once_need_four_threads_and_connections(self, stored):
        images = [stored(SMALL + bytes([number])) for number in range(100)]

        async def ask_all() -> list[Answer]:
            return await asyncio.gather(*(ask_async(f"/files/{image.name}") for image in images))

        answers = asyncio.run(ask_all())

        assert [answer.body for answer in answers] == [SMALL + bytes([number]) for number in range(100)]
        assert sum(thread.name.startswith("files-read") for thread in threading.enumerate()) <= 4
        assert len(executors._connections) <= 4
        assert all(connection is not connections["default"] for connection in executors._connections)


async def test_a_file_that_shrinks_on_the_way_breaks_the_answer(storage):
    name = new_name()
    storage.write(name, b"0123456789")
    pieces = views.Pieces(storage.open(name), Span(0, 20))

    assert await anext(pieces) == b"0123456789"
    with pytest.raises(StorageUnavailable):
        await anext(pieces)


def test_an_answer_dropped_half_way_closes_its_file(storage):
    name = new_name()
    storage.write(name, LARGE)
    file = storage.open(name)

    async def read_first() -> bytes:
        return await anext(views.Pieces(file, Span(0, len(LARGE))))

    assert asyncio.run(read_first()) == LARGE[: views.PIECE_BYTES]
    executors.close_executors()  # the thread that read it may hold the iterator a moment longer
    assert file.closed
