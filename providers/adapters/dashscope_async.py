"""DashScope's text2image tasks: submit, then poll (text-to-image API reference of Model Studio, 2026)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from providers.adapters.answers import read_mapping, read_text
from providers.adapters.base import BAD_RESPONSE, TASK_FAILED, TASK_LOST, Option, as_poll_failure
from providers.adapters.dashscope import (
    DashScope,
    build_parameters,
    choose_error,
    read_id,
)
from providers.adapters.shapes import TaskCarrier
from providers.contract import Done, Job, Pending, ProviderError, RemoteImage

_SUBMIT = "/services/aigc/text2image/image-synthesis"
# SUSPENDED is a constant of the vendor's SDK only; no state that is documented as final.
_UNFINISHED = frozenset({"PENDING", "RUNNING", "SUSPENDED"})


class DashScopeAsync(DashScope, TaskCarrier):
    """Options: `workspace`, `poll_interval_s`, `submit_timeout_s`, `poll_timeout_s`."""

    kind = "dashscope_async"
    faithful_rewrite = True  # `actual_prompt` is the text the picture was made from
    OPTIONS: ClassVar[Mapping[str, Option]] = {**DashScope.OPTIONS, **TaskCarrier.OPTIONS}

    async def submit(self, job: Job) -> Pending:
        """Create a task. Whatever state it starts in, polling finds out."""
        reply = await self._order(_SUBMIT, build_body(job), headers={"X-DashScope-Async": "enable"})
        body = self._read(reply)
        task_id = read_text(read_mapping(body, "output"), "task_id")
        return self._accept(task_id, reply, upstream_id=read_id(body, reply))

    async def poll(self, task_id: str) -> Done | Pending:
        """Ask once. A task's end arrives with HTTP 200, whether good or bad."""
        reply = await self._ask(f"/tasks/{quote(task_id, safe='')}")
        try:
            body = self._read(reply)
        except ProviderError as error:
            raise as_poll_failure(error) from error
        output, upstream_id = read_mapping(body, "output"), read_id(body, reply)
        status = read_text(output, "task_status")
        if status in _UNFINISHED:
            return self._wait(task_id, upstream_id=upstream_id)
        if status == "SUCCEEDED":
            return self._collect(output, upstream_id, read_mapping(body, "usage"))
        if status == "FAILED":
            raise self._explain(output, upstream_id)
        if status == "CANCELED":
            raise self._fail(TASK_FAILED, "the task was cancelled", upstream_id=upstream_id)
        if status == "UNKNOWN":
            raise self._fail(TASK_LOST, "the task is not known", upstream_id=upstream_id)
        raise self._shrug(reply)

    def _explain(self, output: Mapping[str, Any], upstream_id: str) -> ProviderError:
        if read_text(output, "code"):
            return self._refuse(output, upstream_id)
        return self._fail(TASK_FAILED, "the task failed without a code", upstream_id=upstream_id)

    def _collect(self, output: Mapping[str, Any], upstream_id: str, usage: Mapping[str, Any]) -> Done:
        """The pictures of a task that SUCCEEDED, which may hold failed ones beside them."""
        results = output.get("results")
        items = [item if isinstance(item, dict) else {} for item in results] if isinstance(results, list) else []
        images = tuple(
            RemoteImage(url=url, revised_prompt=read_text(item, "actual_prompt") or None)
            for item in items
            if (url := read_text(item, "url"))
        )
        refused = tuple(self._refuse(item, upstream_id) for item in items if not read_text(item, "url"))
        if not images:
            nothing = self._fail(BAD_RESPONSE, "the task succeeded without a picture", upstream_id=upstream_id)
            raise choose_error(refused) or nothing
        return Done(images, upstream_id=upstream_id, refused=refused, usage=usage)


def build_body(job: Job) -> dict[str, Any]:
    """The order. The reference files `negative_prompt` under both parents; the vendor's SDK sends it here."""
    negative = {} if job.negative_prompt is None else {"negative_prompt": job.negative_prompt}
    return {"model": job.model, "input": {"prompt": job.prompt, **negative}, "parameters": build_parameters(job)}
