"""A print shop of postcards: the answer says where they hang."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.adapters.answers import clip_id, read_list, read_mapping, read_object, read_text
from providers.adapters.base import ARREARS, BAD_RESPONSE, CONTENT_POLICY, NOT_AVAILABLE, free_of_charge
from providers.adapters.shapes import SyncCarrier
from providers.adapters.verdicts import judge_status
from providers.contract import Done, Job
from providers.transport import Reply

_TROUBLES = {"rude": CONTENT_POLICY, "unpaid": ARREARS, "out_of_print": NOT_AVAILABLE}


class Postcard(SyncCarrier):
    """Option: `read_timeout_s`."""

    kind = "postcard"
    free_probe = "reads the opening hours"

    @classmethod
    def find_unsupported(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return frozenset({"negative_prompt", "prompt_extend", "watermark"})

    async def submit(self, job: Job) -> Done:
        """Order and wait."""
        body = {"motif": job.model, "text": job.prompt, "wide": job.width, "high": job.height, "copies": job.n}
        reply = await self._order("/cards", body if job.seed is None else {**body, "plate": job.seed})
        slip = self._read(reply)
        number = clip_id(read_text(slip, "number"))
        usage = {"image_count": slip.get("printed", 0)}
        return self._deliver(read_list(slip, "cards"), reply, upstream_id=number, usage=usage)

    async def probe(self) -> None:
        """Read the opening hours."""
        with free_of_charge():
            reply = await self._get("/hours", headers=self._authorise(), timeout=15.0)
            if not read_text(self._read(reply), "opens"):
                raise self._reject(reply, BAD_RESPONSE)

    def _read(self, reply: Reply) -> dict[str, Any]:
        body = read_object(reply)
        trouble = read_mapping(body, "trouble")
        if reply.status == 200 and body is not None and not trouble:
            return body
        kind, words = read_text(trouble, "kind"), read_text(trouble, "words")
        known = _TROUBLES.get(kind) if 400 <= reply.status < 500 else None
        raise self._reject(reply, known or judge_status(reply.status, named=bool(kind)), kind, words)

    def _authorise(self) -> dict[str, str]:
        return {"X-Stamp": self._credential}
