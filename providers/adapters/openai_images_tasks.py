"""Resellers whose images endpoint answers with a task (API references of APIMart and Evolink, 2026)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from providers.adapters.answers import clip_id, read_fault, read_list, read_mapping, read_object, read_text
from providers.adapters.base import (
    BAD_REQUEST,
    NOT_AVAILABLE,
    OVERLOADED,
    RATE_LIMITED,
    TASK_FAILED,
    TASK_LOST,
    TIMEOUT,
    Option,
)
from providers.adapters.reseller import Reseller, is_the_shops_own, read_id, unwrap
from providers.adapters.shapes import FAILED_TASKS_FREE, TaskCarrier
from providers.adapters.sizes import NOT_RENDERED, name_ratio
from providers.adapters.verdicts import find_moderation
from providers.contract import Done, Job, Pending, ProviderError

_UNFINISHED = frozenset({"submitted", "pending", "queued", "processing", "in_progress", "running"})
_FINISHED = frozenset({"completed", "succeeded"})
_FAILED = frozenset({"failed", "cancelled", "canceled"})
_FAILURES = {
    "invalid_parameters": BAD_REQUEST,
    "quota_exceeded": RATE_LIMITED,
    "resource_exhausted": RATE_LIMITED,
    "service_error": OVERLOADED,
    "service_unavailable": OVERLOADED,
    "generation_timeout": TIMEOUT,
    "resource_not_found": TASK_LOST,
}
_LONGEST_SIDE_OF_1K = 1280


class OpenAIImagesTasks(Reseller, TaskCarrier):
    """Options: those of both bases, and `failed_tasks_free`. A `size_separator` of ":" asks for `size` as a ratio and
    a `resolution` of 1K or 2K; what comes of that is the offer's sizes to say.
    """

    kind = "openai_images_tasks"
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        **Reseller.OPTIONS,
        **TaskCarrier.OPTIONS,
        "size_separator": Option(
            "x",
            lambda value: value in ("x", "*", ":"),
            'between width and height: "x" or "*"; or ":" for a ratio and a resolution',
        ),
        "failed_tasks_free": FAILED_TASKS_FREE,
    }

    async def submit(self, job: Job) -> Done | Pending:
        """Create a task. Some answer with the pictures where they have them."""
        reply = await self._order("/images/generations", self._build_body(job))
        body = self._read(reply)
        upstream_id = read_id(body, reply)
        answer = unwrap(body)
        tasks = [item for item in (answer, *read_list(answer, "data")) if isinstance(item, dict) and find_id(item)]
        if len(tasks) == 1:
            return self._accept(find_id(tasks[0]), reply, upstream_id=upstream_id)
        # Several tasks have no place in one call's id; an empty list of pictures is refused all the same.
        pictures = [] if tasks else read_list(answer, "data")
        return self._deliver(pictures, reply, upstream_id=upstream_id, usage=read_mapping(answer, "usage"))

    async def poll(self, task_id: str) -> Done | Pending:
        """Ask once. A task's end arrives with HTTP 200, whether good or bad."""
        reply = await self._ask(f"/tasks/{quote(task_id, safe='')}")
        body = read_object(reply)
        task = unwrap(body) if reply.status == 200 and body is not None else {}
        status, upstream_id = read_text(task, "status").lower(), read_id(body, reply)
        if status in _UNFINISHED:
            return self._wait(task_id, upstream_id=upstream_id)
        if status in _FINISHED:
            pictures = list(list_pictures(task))
            return self._deliver(pictures, reply, upstream_id=upstream_id, usage=read_mapping(task, "usage"))
        if status in _FAILED:
            raise self._explain(task, status, upstream_id)
        raise self._shrug(reply)

    def _build_body(self, job: Job) -> dict[str, Any]:
        body = super()._build_body(job)
        if self._options["size_separator"] != ":":
            return body
        ratio = name_ratio(job.width, job.height)
        if ratio is None:
            raise self._fail(NOT_RENDERED, f"not sent: {job.width}x{job.height} has no usual ratio")
        resolution = "1K" if max(job.width, job.height) <= _LONGEST_SIDE_OF_1K else "2K"
        return body | {"size": ratio, "resolution": resolution}

    def _explain(self, task: Mapping[str, Any], status: str, upstream_id: str) -> ProviderError:
        code, message = read_fault({"error": read_mapping(task, "error")})
        ours = NOT_AVAILABLE if is_the_shops_own(code, message) else TASK_FAILED
        verdict = find_moderation(code) or _FAILURES.get(code.lower(), ours)
        words = message or read_text(task, "error")
        return self._fail(self._settle(verdict), f"{code or status}: {words}", upstream_id=upstream_id)


def find_id(item: Mapping[str, Any]) -> str:
    """The id of a task object; a picture has none, nor has a list of pictures."""
    known = read_text(item, "task_id") or (read_text(item, "id") if read_text(item, "status") else "")
    return known if known == clip_id(known) else ""


def list_pictures(task: Mapping[str, Any]) -> Iterator[Any]:
    """The items of `results`, of `result.images`, or of OpenAI's `data`; one `url` may hold several addresses."""
    images = read_list(read_mapping(task, "result"), "images")
    for item in read_list(task, "results") or images or read_list(task, "data"):
        urls = item.get("url") if isinstance(item, dict) else None
        yield from urls if isinstance(urls, list) else [item]
