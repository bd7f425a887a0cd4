"""SiliconFlow: OpenAI's path with fields of its own; open weights only (images API and error code references, 2026).

The base URL is https://api.siliconflow.cn or .com, or ends in /v1. Addresses of pictures live for an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.adapters.answers import clip_id, quote_start, read_fault, read_list, read_object
from providers.adapters.base import ARREARS, BAD_RESPONSE, HUB_NAMES, NOT_AVAILABLE, free_of_charge
from providers.adapters.shapes import SyncCarrier
from providers.adapters.verdicts import judge_status
from providers.contract import Done, Job
from providers.transport import Reply, Transport

_PROBE_TIMEOUT_S = 15.0
# Codes are numbers; the rest of them say no more than the status.
_BY_CODE = {"20012": NOT_AVAILABLE, "30001": ARREARS}


class SiliconFlow(SyncCarrier):
    """Option: `read_timeout_s`."""

    kind = "siliconflow"
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

    async def submit(self, job: Job) -> Done:
        """Order and wait."""
        reply = await self._order("/images/generations", build_body(job))
        body = self._read(reply)
        pictures = read_list(body, "images") or read_list(body, "data")
        return self._deliver(pictures, reply, upstream_id=read_id(reply))

    async def probe(self) -> None:
        """List the models."""
        with free_of_charge():
            reply = await self._get("/models", headers=self._authorise(), timeout=_PROBE_TIMEOUT_S)
            if not isinstance(self._read(reply).get("data"), list):
                raise self._fail(BAD_RESPONSE, quote_start(reply), upstream_id=read_id(reply))

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The object of a success. Raises ProviderError; some errors are a bare text."""
        body = read_object(reply)
        code, message = read_fault(body)
        if reply.status == 200 and body is not None and not code:
            return body
        by_code = _BY_CODE.get(code) if 400 <= reply.status < 500 else None
        verdict = by_code or judge_status(reply.status, named=bool(code or message))
        raise self._reject(reply, verdict, code, message, upstream_id=read_id(reply))


def build_body(job: Job) -> dict[str, Any]:
    """The order. Not every model knows a number of pictures, so one is not asked for by number."""
    optional = {
        "batch_size": job.n if job.n > 1 else None,
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
    }
    chosen = {name: value for name, value in optional.items() if value is not None}
    return {"model": job.model, "prompt": job.prompt, "image_size": f"{job.width}x{job.height}", **chosen}


def read_id(reply: Reply) -> str:
    """The trace id of this call."""
    return clip_id(reply.headers.get("x-siliconcloud-trace-id", ""))
