"""ModelScope's API-Inference: OpenAI's path, asynchronous by a header; open weights, a free daily quota (docs, 2026).

The base URL is https://api-inference.modelscope.cn, or ends in /v1. Nothing is billed in money, so a task that
failed costs nothing; a used-up quota is told as 429.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from providers.adapters.answers import clip_id, quote_start, read_fault, read_list, read_mapping, read_object, read_text
from providers.adapters.base import BAD_RESPONSE, HUB_NAMES, TASK_FAILED, free_of_charge
from providers.adapters.shapes import TaskCarrier
from providers.adapters.verdicts import find_moderation, judge_status
from providers.contract import Done, Job, Pending
from providers.transport import Reply, Transport

_PROBE_TIMEOUT_S = 15.0
_UNFINISHED = frozenset({"PENDING", "RUNNING", "PROCESSING"})


class ModelScope(TaskCarrier):
    """Options: those of its base."""

    kind = "modelscope"
    free_probe = "lists the models"
    open_weights = HUB_NAMES

    def __init__(
        self, client: Transport, *, credential: str, base_url: str, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(client, credential=credential, base_url=base_url, options=options)
        self._base_url = f"{self._base_url.removesuffix('/v1')}/v1"

    @classmethod
    def find_unsupported(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return frozenset({"prompt_extend", "watermark"})

    async def submit(self, job: Job) -> Pending:
        """Create a task; without the header this path would answer like OpenAI's."""
        headers = {"X-ModelScope-Async-Mode": "true"}
        reply = await self._order("/images/generations", build_body(job), headers=headers)
        body = self._read(reply)
        return self._accept(read_text(body, "task_id"), reply, upstream_id=read_id(body, reply))

    async def poll(self, task_id: str) -> Done | Pending:
        """Ask once; without the header no task is found. The good end is called SUCCEED."""
        headers = {"X-ModelScope-Task-Type": "image_generation"}
        reply = await self._ask(f"/tasks/{quote(task_id, safe='')}", headers=headers)
        body = read_object(reply) if reply.status == 200 else None
        status, upstream_id = read_text(body, "task_status"), read_id(body, reply)
        if status in _UNFINISHED:
            return self._wait(task_id, upstream_id=upstream_id)
        if status == "SUCCEED":
            return self._deliver(read_list(body, "output_images"), reply, upstream_id=upstream_id)
        if status == "FAILED":
            code, message = read_error(body)
            verdict = find_moderation(code) or TASK_FAILED
            raise self._fail(verdict, f"{code or status}: {message}", upstream_id=upstream_id)
        raise self._shrug(reply)

    async def probe(self) -> None:
        """List the models."""
        with free_of_charge():
            reply = await self._get("/models", headers=self._authorise(), timeout=_PROBE_TIMEOUT_S)
            body = self._read(reply)
            if not isinstance(body.get("data"), list):
                raise self._fail(BAD_RESPONSE, quote_start(reply), upstream_id=read_id(body, reply))

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The object of a success. Raises ProviderError."""
        body = read_object(reply)
        code, message = read_error(body)
        if reply.status == 200 and body is not None and not code and not message:
            return body
        verdict = find_moderation(code) if 400 <= reply.status < 500 else None
        verdict = verdict or judge_status(reply.status, named=bool(code or message))
        raise self._reject(reply, verdict, code, message, upstream_id=read_id(body, reply))


def build_body(job: Job) -> dict[str, Any]:
    """The order."""
    optional = {"negative_prompt": job.negative_prompt, "seed": job.seed}
    chosen = {name: value for name, value in optional.items() if value is not None}
    return {
        "model": job.model,
        "prompt": job.prompt,
        "size": f"{job.width}x{job.height}",
        "n": job.n,
        **chosen,
    }


def read_error(body: Mapping[str, Any] | None) -> tuple[str, str]:
    """Code and message, under `errors`; both empty where there is no such thing."""
    return read_fault({"error": read_mapping(body, "errors") or read_mapping(body, "error")})


def read_id(body: Mapping[str, Any] | None, reply: Reply) -> str:
    """ModelScope's id of this call."""
    return clip_id(read_text(body, "request_id") or reply.headers.get("x-request-id", ""))
