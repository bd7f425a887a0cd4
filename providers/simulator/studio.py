"""Draws pictures outside the event loop, keeps the latest, and spoils them where a fault says so."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from providers.simulator import png
from providers.simulator.faults import Fault, Struck
from providers.simulator.pictures import Drawing, render_other, render_png

_CACHE_BYTES = 64 * 2**20
_TYPES = {"jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}
_HTML = b"<html><head><title>Not a picture</title></head><body>DashScope OSS maintenance</body></html>"


@dataclass(frozen=True, slots=True)
class Print:
    """A picture's bytes; `grown_to` is how many there shall be, where they are to be too many."""

    body: bytes
    content_type: str = "image/png"
    grown_to: int = 0

    def inflate(self) -> Iterator[bytes]:
        return png.inflate(self.body, to_bytes=self.grown_to)


class Studio:
    """Two threads: zlib and Pillow let go of the interpreter while they work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="studio")
        self._done: OrderedDict[tuple[Drawing, str], bytes] = OrderedDict()
        self._size = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def print(self, drawing: Drawing, struck: Struck) -> Print:
        """The picture as the faults leave it."""
        sized = struck.get("image_size")
        if sized:
            drawing = replace(
                drawing,
                width=sized.get("width", drawing.width),
                height=sized.get("height", drawing.height),
            )
        other = struck.get("image_format")
        if other:
            return await self._print_other(drawing, other.get("format", "jpeg"))
        body = await self._draw(drawing, "png", lambda: render_png(drawing))
        broken, oversized = struck.get("image_broken"), struck.get("image_oversized")
        if broken:
            return _break(body, broken)
        return Print(body, grown_to=oversized.get("bytes", 64 * 2**20) if oversized else 0)

    async def _print_other(self, drawing: Drawing, file_format: str) -> Print:
        body = await self._draw(drawing, file_format, lambda: render_other(drawing, file_format=file_format))
        return Print(body, _TYPES[file_format])

    async def _draw(self, drawing: Drawing, file_format: str, render: Callable[[], bytes]) -> bytes:
        key = (drawing, file_format)
        body = self._done.get(key)
        if body is None:
            body = await asyncio.get_running_loop().run_in_executor(self._threads, render)
            self._keep(key, body)
        return body

    def _keep(self, key: tuple[Drawing, str], body: bytes) -> None:
        if key not in self._done:
            self._done[key] = body
            self._size += len(body)
        while self._size > _CACHE_BYTES:
            _, oldest = self._done.popitem(last=False)
            self._size -= len(oldest)


def _break(body: bytes, fault: Fault) -> Print:
    how = fault.get("how", "truncated")
    if how == "crc":
        return Print(png.break_checksum(body))
    if how == "html":
        return Print(_HTML, "text/html")
    return Print(b"" if how == "empty" else body[: len(body) * 3 // 5])
