"""fal.ai's queue: submit, follow the addresses that came back, fetch the result (queue and error references, 2026).

COMPLETED says that a request is over, not that it went well: the result's own status does. Only pictures that
were made are billed. The base URL is the queue's, https://queue.fal.run; a model is an app, `owner/name/endpoint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import SplitResult, quote, urlsplit

from providers.adapters.answers import clip_id, read_list, read_object, read_text
from providers.adapters.base import (
    ARREARS,
    BAD_REQUEST,
    OVERLOADED,
    TASK_FAILED,
    Option,
    Verdict,
    build_switch,
)
from providers.adapters.shapes import TaskCarrier
from providers.adapters.verdicts import find_moderation, judge_status
from providers.contract import Billed, Code, Done, Job, Pending, Scope
from providers.transport import Reply, Transport

_TOO_LONG = Verdict(Code.TIMEOUT, Billed.NO, Scope.OFFER)
_FAILURES = {
    "request_timeout": _TOO_LONG,
    "startup_timeout": _TOO_LONG,
    "generation_timeout": _TOO_LONG,
    "bad_request": BAD_REQUEST,
    "internal_error": OVERLOADED,
}
# Between the parts of a task id: no address holds it unescaped.
_BAR = "|"


class FalQueue(TaskCarrier):
    """Options: `prompt_expansion`, and those of its base. A task id holds the addresses of status and result, below
    the channel's own host: `what both begin with|rest of status|rest of result`.
    """

    kind = "fal_queue"
    open_weights = frozenset({"fal-ai/qwen-image", "fal-ai/qwen-image-2512"})
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        **TaskCarrier.OPTIONS,
        "prompt_expansion": build_switch("whether the app knows enable_prompt_expansion", default=True),
    }

    def __init__(
        self, client: Transport, *, credential: str, base_url: str, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(client, credential=credential, base_url=base_url, options=options)
        # The addresses that come back need not be below the base URL's path: they leave out parts of the app.
        parts = urlsplit(self._base_url)
        self._origin, self._prefix = read_origin(parts), parts.path
        self._base_url = f"{parts.scheme}://{parts.netloc}"

    @classmethod
    def find_unsupported(cls, options: Mapping[str, Any]) -> frozenset[str]:
        expands = options.get("prompt_expansion", True)
        return frozenset({"watermark"} if expands else {"watermark", "prompt_extend"})

    async def submit(self, job: Job) -> Pending:
        """Put a request into the queue."""
        reply = await self._order(f"{self._prefix}/{quote(job.model.strip('/'))}", self._build_body(job))
        body = self._read(reply)
        upstream_id = read_id(body, reply)
        task_id = self._pack(read_text(body, "status_url"), read_text(body, "response_url"))
        return self._accept(task_id, reply, upstream_id=upstream_id)

    async def poll(self, task_id: str) -> Done | Pending:
        """Ask once; where the request is over, fetch what came of it."""
        common, status, result = [*task_id.split(_BAR), "", ""][:3]
        reply = await self._ask(f"/{common}{status}")
        task = read_object(reply) if reply.status in (200, 202) else None
        state, upstream_id = read_text(task, "status"), read_id(task, reply)
        if state in ("IN_QUEUE", "IN_PROGRESS"):
            return self._wait(task_id, upstream_id=upstream_id)
        if task is None or state != "COMPLETED":
            raise self._shrug(reply)
        return self._collect(await self._ask(f"/{common}{result}"), task)

    def _collect(self, reply: Reply, task: Mapping[str, Any]) -> Done:
        """The result of a request that is over; where it failed, it or the status says why."""
        body = read_object(reply)
        upstream_id = read_id(body, reply) or read_id(task, reply)
        if reply.status == 200 and body is not None and "detail" not in body:
            flags = read_list(body, "has_nsfw_concepts")
            return self._deliver(read_list(body, "images"), reply, upstream_id=upstream_id, flags=flags)
        kind, words = read_error(body, reply)
        if not kind:
            kind, said = read_text(task, "error_type"), read_text(task, "error")
            kind, words = kind or ("error" if said else ""), said or words
        if not kind:
            raise self._shrug(reply)
        raise self._reject(reply, judge_failure(reply.status, kind), kind, words, upstream_id=upstream_id)

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The object of a success. Raises ProviderError."""
        body = read_object(reply)
        if reply.status in (200, 201, 202) and body is not None and "detail" not in body:
            return body
        kind, words = read_error(body, reply)
        verdict = judge_refusal(reply.status, kind, words)
        raise self._reject(reply, verdict, kind, words, upstream_id=read_id(body, reply))

    def _build_body(self, job: Job) -> dict[str, Any]:
        expansion = job.prompt_extend if self._options["prompt_expansion"] else None
        optional = {
            "negative_prompt": job.negative_prompt,
            "seed": job.seed,
            "enable_prompt_expansion": expansion,
        }
        chosen = {name: value for name, value in optional.items() if value is not None}
        size = {"width": job.width, "height": job.height}
        return {"prompt": job.prompt, "image_size": size, "num_images": job.n, "output_format": "png", **chosen}

    def _pack(self, *urls: str) -> str:
        """A task id of addresses; an empty one where any of them is missing or not on the channel's own host."""
        paths = [self._find_path(url) for url in urls]
        if not all(paths) or any(_BAR in path or not path.isascii() for path in paths):
            return ""
        shortest = min(len(path) for path in paths)
        end = next((i for i in range(shortest) if len({path[i] for path in paths}) > 1), shortest)
        return _BAR.join([paths[0][:end], *(path[end:] for path in paths)])

    def _find_path(self, url: str) -> str:
        # The key goes wherever a task id points, so nothing foreign gets into one.
        try:
            parts = urlsplit(url)
            if read_origin(parts) != self._origin or "@" in parts.netloc:
                return ""
        except ValueError:
            return ""
        return parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")

    def _authorise(self) -> dict[str, str]:
        return {"Authorization": f"Key {self._credential}"}


def read_origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    """What must be equal for two addresses to be on one host. Raises ValueError."""
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def read_error(body: Mapping[str, Any] | None, reply: Reply) -> tuple[str, str]:
    """Type and words of either envelope: a model's list, or a text with `error_type`; an empty type where none is."""
    faults = [fault for fault in read_list(body, "detail") if isinstance(fault, dict)]
    if faults:
        return read_text(faults[0], "type") or "model_error", read_text(faults[0], "msg")
    kind = read_text(body, "error_type") or reply.headers.get("x-fal-error-type", "")
    return kind, read_text(body, "detail")


def judge_refusal(status: int, kind: str, words: str) -> Verdict:
    """What a refused call means."""
    # An account without money is told so in words alone, with 403, as a missing permission is.
    if 400 <= status < 500 and "user is locked" in words.lower():
        return ARREARS
    return (find_moderation(kind) if 400 <= status < 500 else None) or judge_status(status, named=bool(kind or words))


def judge_failure(status: int, kind: str) -> Verdict:
    """What a request that is over and failed means; nothing of it is billed."""
    if kind.startswith("runner_"):
        return OVERLOADED
    by_status = BAD_REQUEST if status in (400, 413, 422) else TASK_FAILED
    return find_moderation(kind) or _FAILURES.get(kind, by_status)


def read_id(body: Mapping[str, Any] | None, reply: Reply) -> str:
    """fal's id of a request."""
    return clip_id(read_text(body, "request_id") or reply.headers.get("x-fal-request-id", ""))
