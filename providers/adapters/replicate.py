"""Replicate: predictions that are polled (HTTP API reference, 2026).

The base URL is https://api.replicate.com, or ends in /v1; a model is `owner/name`, or `owner/name:version`. Every
model has an input of its own, so the options say how this one calls size and number. A failed prediction may cost
the time that it ran. Pictures are deleted after an hour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from providers.adapters.answers import clip_id, quote_start, read_list, read_mapping, read_object, read_text
from providers.adapters.base import (
    BAD_RESPONSE,
    CONTENT_POLICY,
    HUB_NAMES,
    TASK_FAILED,
    TIMEOUT,
    Option,
    free_of_charge,
)
from providers.adapters.shapes import FAILED_TASKS_FREE, TaskCarrier
from providers.adapters.sizes import NOT_RENDERED, name_ratio
from providers.adapters.verdicts import judge_status
from providers.contract import Billed, Done, Job, Pending
from providers.transport import Reply, Transport

_PROBE_TIMEOUT_S = 15.0
_UNFINISHED = frozenset({"starting", "processing"})
_FAILED = frozenset({"failed", "canceled"})
# Codes stand in the text of an error, in brackets or before a colon.
_CODE = re.compile(r"\bE\d{3,4}\b", re.ASCII)
_FAILURES = {"E005": CONTENT_POLICY, "E6716": TIMEOUT}
_REMOVED = BAD_RESPONSE._replace(billed=Billed.YES)


class Replicate(TaskCarrier):
    """Options: `size_input`, `n_input`, `input`, `wait_s`, `failed_tasks_free`, and those of its base."""

    kind = "replicate"
    free_probe = "reads the account"
    open_weights = HUB_NAMES
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        **TaskCarrier.OPTIONS,
        "size_input": Option(
            "aspect_ratio",
            lambda value: value in ("aspect_ratio", "size", "width_height"),
            'how the model is told a size: "aspect_ratio" (16:9), "size" (1664*928) or "width_height" (two numbers)',
        ),
        "n_input": Option(
            "", lambda value: isinstance(value, str), 'the input for the number of pictures, "num_outputs"; "": none'
        ),
        "input": Option(
            {"output_format": "png"}, lambda value: isinstance(value, dict), "further inputs of the model, an object"
        ),
        "wait_s": Option(
            0,
            lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 60,
            "how long to wait for the pictures before polling, in whole seconds, at most 60",
        ),
        "failed_tasks_free": FAILED_TASKS_FREE,
    }

    def __init__(
        self, client: Transport, *, credential: str, base_url: str, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(client, credential=credential, base_url=base_url, options=options)
        self._base_url = f"{self._base_url.removesuffix('/v1')}/v1"

    @classmethod
    def find_unsupported(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return frozenset({"prompt_extend", "watermark"})

    async def submit(self, job: Job) -> Done | Pending:
        """Create a prediction; with `wait_s` it may come back with its pictures."""
        path, version = find_endpoint(job.model)
        wait = self._options["wait_s"]
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        reply = await self._order(path, {**version, "input": self._build_input(job)}, headers=headers, held_s=wait)
        task = self._read(reply)
        if read_text(task, "status") == "succeeded":
            return self._collect(task, reply)
        return self._accept(read_text(task, "id"), reply, upstream_id=clip_id(read_text(task, "id")))

    async def poll(self, task_id: str) -> Done | Pending:
        """Ask once."""
        reply = await self._ask(f"/predictions/{quote(task_id, safe='')}")
        task = read_object(reply) if reply.status == 200 else None
        status = read_text(task, "status")
        if status in _UNFINISHED:
            return self._wait(task_id, upstream_id=task_id)
        if task is not None and status == "succeeded":
            return self._collect(task, reply)
        if status in _FAILED:
            words = read_text(task, "error")
            code = _CODE.search(words)
            verdict = self._settle(_FAILURES.get(code[0], TASK_FAILED) if code else TASK_FAILED)
            raise self._fail(verdict, f"{status}: {words}", upstream_id=task_id)
        raise self._shrug(reply)

    async def probe(self) -> None:
        """Read the account."""
        with free_of_charge():
            reply = await self._get("/account", headers=self._authorise(), timeout=_PROBE_TIMEOUT_S)
            if not read_text(self._read(reply), "username"):
                raise self._fail(BAD_RESPONSE, quote_start(reply))

    def _collect(self, task: Mapping[str, Any], reply: Reply) -> Done:
        upstream_id = clip_id(read_text(task, "id"))
        if task.get("data_removed") is True:
            raise self._fail(_REMOVED, "the pictures are deleted already", upstream_id=upstream_id)
        output = task.get("output")
        pictures = read_list(task, "output") or ([output] if isinstance(output, str) else [])
        return self._deliver(pictures, reply, upstream_id=upstream_id, usage=read_mapping(task, "metrics"))

    def _build_input(self, job: Job) -> dict[str, Any]:
        optional = {"negative_prompt": job.negative_prompt, "seed": job.seed}
        chosen = {name: value for name, value in optional.items() if value is not None}
        number = {self._options["n_input"]: job.n} if self._options["n_input"] else {}
        return {**self._options["input"], "prompt": job.prompt, **self._name_size(job), **number, **chosen}

    def _name_size(self, job: Job) -> dict[str, Any]:
        match self._options["size_input"]:
            case "width_height":
                return {"width": job.width, "height": job.height}
            case "size":
                return {"size": f"{job.width}*{job.height}"}
        ratio = name_ratio(job.width, job.height)
        if ratio is None:
            raise self._fail(NOT_RENDERED, f"not sent: {job.width}x{job.height} has no usual ratio")
        return {"aspect_ratio": ratio}

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The object of a success. Raises ProviderError."""
        body = read_object(reply)
        if reply.status in (200, 201, 202) and body is not None:
            return body
        title, detail = read_text(body, "title"), read_text(body, "detail")
        raise self._reject(reply, judge_status(reply.status, named=bool(title or detail)), title, detail)


def find_endpoint(model: str) -> tuple[str, dict[str, str]]:
    """Where a prediction of a model is made, and what the body says of its version."""
    name, _, version = model.partition(":")
    return ("/predictions", {"version": version}) if version else (f"/models/{quote(name)}/predictions", {})
