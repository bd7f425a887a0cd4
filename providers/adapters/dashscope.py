"""What both shapes of Alibaba Cloud's DashScope share: headers, envelopes, parameters, the free call.

The base URL is the region's, ending in /api/v1; keys and models are bound to a region.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from providers.adapters.answers import clip_id, quote_start, read_fault, read_mapping, read_object, read_text
from providers.adapters.base import BAD_RESPONSE, TASK_FAILED, Carrier, Option, free_of_charge
from providers.adapters.dashscope_errors import find_verdict, judge
from providers.contract import Billed, Code, Job, ProviderError
from providers.transport import Reply

WORKSPACE = Option("", lambda value: isinstance(value, str), "the id of a workspace, a text")

# An id that no task has: a valid key is told UNKNOWN, a wrong one 401, and neither costs anything.
_NO_TASK = "00000000-0000-0000-0000-000000000000"
_PROBE_TIMEOUT_S = 15.0


class DashScope(Carrier):
    """Base of the two shapes."""

    free_probe = "asks for a task that does not exist"
    OPTIONS: ClassVar[Mapping[str, Option]] = {"workspace": WORKSPACE}

    async def probe(self) -> None:
        """Ask for a task that does not exist."""
        with free_of_charge():
            reply = await self._get(f"/tasks/{_NO_TASK}", headers=self._authorise(), timeout=_PROBE_TIMEOUT_S)
            body = self._read(reply)
            if not read_text(read_mapping(body, "output"), "task_status"):
                raise self._fail(BAD_RESPONSE, quote_start(reply), upstream_id=read_id(body, reply))

    def _authorise(self) -> dict[str, str]:
        workspace = self._options["workspace"]
        return super()._authorise() | ({"X-DashScope-WorkSpace": workspace} if workspace else {})

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The object of a successful answer. Raises ProviderError; a `code` makes any answer an error."""
        body = read_object(reply)
        code, message = read_fault(body)
        if reply.status == 200 and body is not None and not code:
            return body
        detail = f"{reply.status} {code}: {message}" if code else quote_start(reply)
        raise self._fail(judge(reply.status, code, message), detail, upstream_id=read_id(body, reply), reply=reply)

    def _refuse(self, item: Mapping[str, Any], upstream_id: str) -> ProviderError:
        """The error of one picture, or of a task, that did not come; failures are never billed."""
        code, message = read_fault(item)
        if not code:
            return self._fail(BAD_RESPONSE, "neither a picture nor an error", upstream_id=upstream_id)
        verdict = (find_verdict(code, message) or TASK_FAILED)._replace(billed=Billed.NO)
        return self._fail(verdict, f"{code}: {message}", upstream_id=upstream_id)


def build_parameters(job: Job) -> dict[str, Any]:
    """The parameters both shapes know. What a job leaves open is left to the carrier's default."""
    optional = {"seed": job.seed, "prompt_extend": job.prompt_extend, "watermark": job.watermark}
    chosen = {name: value for name, value in optional.items() if value is not None}
    return {"size": f"{job.width}*{job.height}", "n": job.n, **chosen}


def read_id(body: Mapping[str, Any] | None, reply: Reply) -> str:
    """The carrier's id of this call."""
    return clip_id(read_text(body, "request_id") or reply.headers.get("x-request-id", ""))


def choose_error(refused: tuple[ProviderError, ...]) -> ProviderError | None:
    """The error that speaks for pictures that all failed: moderation first, since it is the customer's to mend."""
    return min(refused, key=lambda error: error.code is not Code.CONTENT_POLICY, default=None)
