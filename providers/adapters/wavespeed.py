"""WaveSpeed: predictions that are polled (API and error code references, 2026).

The base URL is https://api.wavespeed.ai, or ends in /api/v3; a model is the path of its endpoint,
`wavespeed-ai/qwen-image-2.0/text-to-image`. It is not documented what a prediction that failed costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from providers.adapters.answers import quote_start, read_fault, read_list, read_mapping, read_object, read_text
from providers.adapters.base import (
    BAD_REQUEST,
    BAD_RESPONSE,
    CONTENT_POLICY,
    OVERLOADED,
    TASK_FAILED,
    TIMEOUT,
    Option,
    free_of_charge,
)
from providers.adapters.shapes import FAILED_TASKS_FREE, TaskCarrier
from providers.adapters.verdicts import judge_status
from providers.contract import Done, Job, Pending, ProviderError
from providers.transport import Reply, Transport

_PROBE_TIMEOUT_S = 15.0
_UNFINISHED = frozenset({"created", "processing"})
_FAILED = frozenset({"failed", "cancelled", "timeout", "deleted"})
# A status of HTTP, or 0, stands in `code` where nothing is wrong.
_SUCCESSES = frozenset({"", "0", "200"})
_REFUSALS = {"1200": CONTENT_POLICY, "1400": BAD_REQUEST, "1401": BAD_REQUEST, "1402": BAD_REQUEST}
_FAILURES = {**_REFUSALS, "5000": OVERLOADED, "5003": OVERLOADED, "5004": TIMEOUT, "timeout": TIMEOUT}


class WaveSpeed(TaskCarrier):
    """Options: those of its base, and `failed_tasks_free`."""

    kind = "wavespeed"
    free_probe = "reads the balance"
    open_weights = frozenset({"wavespeed-ai/qwen-image/text-to-image"})
    OPTIONS: ClassVar[Mapping[str, Option]] = {**TaskCarrier.OPTIONS, "failed_tasks_free": FAILED_TASKS_FREE}

    def __init__(
        self, client: Transport, *, credential: str, base_url: str, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(client, credential=credential, base_url=base_url, options=options)
        self._base_url = f"{self._base_url.removesuffix('/api/v3')}/api/v3"

    @classmethod
    def find_unsupported(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return frozenset({"negative_prompt", "prompt_extend", "watermark"})

    async def submit(self, job: Job) -> Pending:
        """Create a prediction. Whatever state it starts in, polling finds out."""
        reply = await self._order(f"/{quote(job.model.strip('/'))}", build_body(job))
        task = read_mapping(self._read(reply), "data")
        return self._accept(read_text(task, "id"), reply, upstream_id=read_text(task, "id"))

    async def poll(self, task_id: str) -> Done | Pending:
        """Ask once."""
        reply = await self._ask(f"/predictions/{quote(task_id, safe='')}/result")
        body = read_object(reply) if reply.status == 200 else None
        task = read_mapping(body, "data")
        status = read_text(task, "status")
        if status in _UNFINISHED:
            return self._wait(task_id, upstream_id=task_id)
        if status == "completed":
            flags = read_list(task, "has_nsfw_contents")
            return self._deliver(read_list(task, "outputs"), reply, upstream_id=task_id, flags=flags)
        if status in _FAILED:
            raise self._explain(task, body, status, task_id)
        raise self._shrug(reply)

    async def probe(self) -> None:
        """Read the balance."""
        with free_of_charge():
            reply = await self._get("/balance", headers=self._authorise(), timeout=_PROBE_TIMEOUT_S)
            if "balance" not in read_mapping(self._read(reply), "data"):
                raise self._fail(BAD_RESPONSE, quote_start(reply))

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The object of a success. Raises ProviderError."""
        body = read_object(reply)
        code, message = read_fault(body)
        if reply.status == 200 and body is not None and code in _SUCCESSES:
            return body
        by_code = _REFUSALS.get(code) if 400 <= reply.status < 500 else None
        verdict = by_code or judge_status(reply.status, named=bool(code or message))
        raise self._reject(reply, verdict, code, message)

    def _explain(
        self, task: Mapping[str, Any], body: Mapping[str, Any] | None, status: str, task_id: str
    ) -> ProviderError:
        code = read_text(task, "code") or read_text(body, "code")
        name = status if code in _SUCCESSES else code
        verdict = self._settle(_FAILURES.get(name, TASK_FAILED))
        return self._fail(verdict, f"{name}: {read_text(task, 'error')}", upstream_id=task_id)


def build_body(job: Job) -> dict[str, Any]:
    """The order, of one picture: no endpoint takes a number."""
    seed = {} if job.seed is None else {"seed": job.seed}
    modes = {"enable_sync_mode": False, "enable_base64_output": False}
    return {"prompt": job.prompt, "size": f"{job.width}*{job.height}", **seed, **modes}
