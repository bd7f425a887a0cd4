"""/healthz: this process answers. /readyz: it can also serve. Ok or not ok, and nothing else for strangers to read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from crazyrouter.ops.schema import SchemaProbe


class Readiness:
    """One look a second at most, in one thread, however many ask; a look that hangs is a no."""

    def __init__(self, look: Callable[[], bool], *, fresh_s: float = 1.0, patience_s: float = 3.0) -> None:
        self._look = look
        self._fresh_s = fresh_s
        self._patience_s = patience_s
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readiness")
        self._answer: Future[bool] | None = None
        self._asked_at = 0.0

    async def ask(self) -> bool:
        answer = self._answer
        if answer is None or (answer.done() and time.monotonic() - self._asked_at >= self._fresh_s):
            self._asked_at = time.monotonic()
            answer = self._answer = self._executor.submit(self._look)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(answer)), self._patience_s)
        except TimeoutError:
            return False


readiness = Readiness(SchemaProbe().is_current)


@require_safe
async def healthz(request: HttpRequest) -> HttpResponse:
    return render(ok=True)


@require_safe
async def readyz(request: HttpRequest) -> HttpResponse:
    return render(ok=await readiness.ask())


def render(*, ok: bool) -> HttpResponse:
    body = b"ok\n" if ok else b"not ok\n"
    headers = {"Cache-Control": "no-store", "Content-Length": str(len(body)), "X-Content-Type-Options": "nosniff"}
    return HttpResponse(body, status=200 if ok else 503, content_type="text/plain", headers=headers)
