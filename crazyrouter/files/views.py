"""`GET|HEAD /files/{name}`: a delivered picture, to whoever knows its name, until it expires.

Runs without middleware, so every header is set here. Nothing tells an unknown name from an expired
one or a malformed one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from io import FileIO

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils import timezone

from crazyrouter.files.errors import NotStored, StorageUnavailable
from crazyrouter.files.etags import knows
from crazyrouter.files.executors import get_reader
from crazyrouter.files.faults import FAULTS, METHODS, describe_fault
from crazyrouter.files.names import is_name
from crazyrouter.files.ranges import Span, Unsatisfiable, parse_range
from crazyrouter.files.rows import Row, find_row
from crazyrouter.files.storage import get_storage

logger = logging.getLogger(__name__)

#: Bodies above it are streamed in pieces of this size.
PIECE_BYTES = 256 * 1024


async def serve_file(request: HttpRequest, name: str) -> HttpResponseBase:
    """Answers 200, 206, 304, 404, 405, 416, and 503 where the fault is ours."""
    if request.method not in METHODS:
        return _answer_fault(request, "method_not_allowed")
    if not is_name(name):
        return _answer_fault(request, "not_found")
    try:
        row = await find_row(name)
        if row is None or row.expires_at <= timezone.now():
            return _answer_fault(request, "not_found")
        return await _answer_row(request, row)
    except NotStored:
        logger.exception("the bytes of stored image %s are missing before it expired", name)
        return _answer_fault(request, "not_found")
    except StorageUnavailable:
        logger.exception("stored image %s cannot be read", name)
        return _answer_fault(request, "storage_unavailable")
    except DatabaseError:
        logger.exception("stored image %s cannot be looked up", name)
        return _answer_fault(request, "service_unavailable")


async def _answer_row(request: HttpRequest, row: Row) -> HttpResponseBase:
    etag = f'"{row.sha256}"'
    if knows(request, etag):
        unchanged = HttpResponse(status=304)
        del unchanged["Content-Type"]
        return _describe(unchanged, row, etag=etag)
    try:
        span = _read_range(request, row, etag=etag)
    except Unsatisfiable:
        return _answer_fault(request, "range_not_satisfiable", **{"Content-Range": f"bytes */{row.bytes}"})
    whole = span or Span(start=0, length=row.bytes)
    response = _describe(await _answer_bytes(request, row, whole), row, etag=etag)
    response["Content-Type"] = "image/png"
    response["Content-Length"] = str(whole.length)
    response["Content-Disposition"] = f'inline; filename="{row.name}"'
    if span is not None:
        response.status_code = 206
        response["Content-Range"] = span.describe(row.bytes)
    return response


async def _answer_bytes(request: HttpRequest, row: Row, span: Span) -> HttpResponseBase:
    """The body; opened before the first header goes out, so that missing bytes are still a 404."""
    if request.method == "HEAD":
        return HttpResponse()
    loop = asyncio.get_running_loop()
    if span.length > PIECE_BYTES:
        file = await loop.run_in_executor(get_reader(), get_storage().open, row.name)
        return StreamingHttpResponse(Pieces(file, span))
    body = await loop.run_in_executor(
        get_reader(), lambda: get_storage().read(row.name, start=span.start, length=span.length)
    )
    if len(body) != span.length:
        raise StorageUnavailable(f"{row.name} is shorter than its row says")
    return HttpResponse(body)


class Pieces:
    """An asynchronous iterator over a span of an open file; each piece is read in the executor.

    It owns the file and closes it at the end, when closed, and when it is dropped half way.
    """

    def __init__(self, file: FileIO, span: Span) -> None:
        self._file = file
        self._offset = span.start
        self._left = span.length

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            self.close()
            raise StopAsyncIteration
        piece = await asyncio.get_running_loop().run_in_executor(get_reader(), self._read)
        self._offset += len(piece)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._file.close()

    def __del__(self) -> None:
        self._file.close()

    def _read(self) -> bytes:
        self._file.seek(self._offset)
        piece = self._file.read(min(PIECE_BYTES, self._left))
        if not piece:
            raise StorageUnavailable("a stored image is shorter than its row says")
        return piece


def _read_range(request: HttpRequest, row: Row, *, etag: str) -> Span | None:
    """The range to answer; HEAD has none, and If-Range must name exactly this file."""
    header = request.headers.get("Range")
    if header is None or request.method != "GET" or request.headers.get("If-Range", etag).strip() != etag:
        return None
    return parse_range(header, size=row.bytes)


def _describe(response: HttpResponseBase, row: Row, *, etag: str) -> HttpResponseBase:
    """What every answer about an existing picture carries. `private`: pictures are their customer's."""
    seconds = int((row.expires_at - timezone.now()).total_seconds())
    response["ETag"] = etag
    response["Cache-Control"] = f"private, max-age={max(seconds, 0)}, immutable"
    response["Accept-Ranges"] = "bytes"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return _harden(response)


def _harden(response: HttpResponseBase) -> HttpResponseBase:
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _answer_fault(request: HttpRequest, code: str, **headers: str) -> HttpResponseBase:
    fault = FAULTS[code]
    body = json.dumps(describe_fault(code)).encode()
    response = HttpResponse(
        b"" if request.method == "HEAD" else body, status=fault.status, content_type="application/json"
    )
    response["Content-Length"] = str(len(body))
    response["Cache-Control"] = "no-store"
    for header, value in (*fault.headers.items(), *headers.items()):
        response[header] = value
    return _harden(response)
