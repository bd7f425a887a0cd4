"""DashScope's multimodal generation: the answer carries the pictures (text-to-image API reference, 2026)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from providers.adapters.answers import quote_start, read_mapping, read_text
from providers.adapters.base import BAD_RESPONSE, Option
from providers.adapters.dashscope import DashScope, build_parameters, choose_error, read_id
from providers.adapters.shapes import SyncCarrier
from providers.contract import Done, Job, RemoteImage

_GENERATE = "/services/aigc/multimodal-generation/generation"


class DashScopeSync(DashScope, SyncCarrier):
    """Options: `workspace`, `read_timeout_s`. The carrier itself gives up at 300 s."""

    kind = "dashscope_sync"
    OPTIONS: ClassVar[Mapping[str, Option]] = {**DashScope.OPTIONS, **SyncCarrier.OPTIONS}

    async def submit(self, job: Job) -> Done:
        """Order and wait. The connection stands silent until the pictures are made."""
        reply = await self._order(_GENERATE, build_body(job))
        body = self._read(reply)
        upstream_id = read_id(body, reply)
        contents = list(list_contents(body))
        images = tuple(RemoteImage(url=url) for item in contents if (url := read_text(item, "image")))
        refused = tuple(self._refuse(item, upstream_id) for item in contents if read_text(item, "code"))
        if not images:
            raise choose_error(refused) or self._fail(BAD_RESPONSE, quote_start(reply), upstream_id=upstream_id)
        return Done(images, upstream_id=upstream_id, refused=refused, usage=read_mapping(body, "usage"))


def build_body(job: Job) -> dict[str, Any]:
    """The order: one message with one text; the negative prompt is a parameter in this shape."""
    negative = {} if job.negative_prompt is None else {"negative_prompt": job.negative_prompt}
    return {
        "model": job.model,
        "input": {"messages": [{"role": "user", "content": [{"text": job.prompt}]}]},
        "parameters": {**negative, **build_parameters(job)},
    }


def list_contents(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every content of every choice: n pictures are documented as n contents of one choice, and both occur."""
    choices = read_mapping(body, "output").get("choices")
    for choice in choices if isinstance(choices, list) else []:
        contents = read_mapping(choice, "message").get("content") if isinstance(choice, dict) else None
        yield from (item for item in (contents if isinstance(contents, list) else []) if isinstance(item, dict))
