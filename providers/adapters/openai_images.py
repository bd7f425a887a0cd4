"""Resellers that speak OpenAI's Images protocol and answer with the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from providers.adapters.answers import read_list, read_mapping
from providers.adapters.base import Option
from providers.adapters.reseller import Reseller, read_id, unwrap
from providers.adapters.shapes import SyncCarrier
from providers.contract import Done, Job


class OpenAIImages(Reseller, SyncCarrier):
    """Options: `size_separator`, `response_format`, `extra_fields`, `read_timeout_s`.

    Whether pictures come as `url` or as `b64_json` is seen from each; some send one form whatever is asked for.
    """

    kind = "openai_images"
    OPTIONS: ClassVar[Mapping[str, Option]] = {**Reseller.OPTIONS, **SyncCarrier.OPTIONS}

    async def submit(self, job: Job) -> Done:
        """Order and wait."""
        reply = await self._order("/images/generations", self._build_body(job))
        body = self._read(reply)
        answer = unwrap(body)
        usage = read_mapping(answer, "usage") or read_mapping(body, "usage")
        return self._deliver(read_list(answer, "data"), reply, upstream_id=read_id(body, reply), usage=usage)
