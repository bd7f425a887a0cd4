"""Resellers that speak OpenAI's Images protocol (the new-api family, APIMart and the like).

They put a shop between us and the model maker: a 5xx or a timeout may hide a picture that was made and
billed, and a 200 may hold none. So success is what can be used, and doubt is `billed=unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from providers.adapters.base import (
    ARREARS,
    AUTH,
    BAD_REQUEST,
    BAD_RESPONSE,
    CONTENT_POLICY,
    NOT_AVAILABLE,
    OVERLOADED,
    RATE_LIMITED,
    TIMEOUT,
    Carrier,
    Option,
    Verdict,
    build_seconds_option,
    clip_id,
    free_of_charge,
    quote_start,
    read_fault,
    read_mapping,
    read_object,
    read_text,
)
from providers.contract import Billed, Done, Job, Pending, RemoteImage, Shape
from providers.transport import Reply, Transport

_PROBE_TIMEOUT_S = 15.0
_ARREARS_CODES = frozenset(
    {"insufficient_user_quota", "insufficient_quota", "pre_consume_token_quota_failed", "billing_hard_limit_reached"}
)
_MODERATION_CODES = frozenset(
    {"content_policy_violation", "moderation_blocked", "data_inspection_failed", "datainspectionfailed"}
    | {"ipinfringementsuspect", "content_filter"}
)
_BY_STATUS = {
    400: BAD_REQUEST,
    401: AUTH,
    402: ARREARS,
    403: NOT_AVAILABLE,
    404: NOT_AVAILABLE,
    408: TIMEOUT,
    413: BAD_REQUEST,
    422: BAD_REQUEST,
    429: RATE_LIMITED,
    504: TIMEOUT,
}
EXTRA_FIELDS = frozenset({"seed", "negative_prompt", "prompt_extend", "watermark"})
_MAYBE_BILLED = OVERLOADED._replace(billed=Billed.UNKNOWN)


class OpenAIImages(Carrier):
    """Options: `size_separator`, `response_format`, `extra_fields`, `read_timeout_s`.

    The base URL is the host's root or ends in /v1.
    """

    kind = "openai_images"
    shape = Shape.SYNC
    free_probe = "lists the models"
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "size_separator": Option("x", lambda value: value in ("x", "*"), 'between width and height: "x" or "*"'),
        "response_format": Option(
            "url", lambda value: value in ("url", "b64_json"), 'how pictures come: "url" or "b64_json"'
        ),
        "extra_fields": Option(
            False,
            lambda value: isinstance(value, bool),
            "whether seed, negative_prompt, prompt_extend and watermark are known, true or false",
        ),
        "read_timeout_s": build_seconds_option(310.0, "the longest wait for the pictures"),
    }

    def __init__(
        self, client: Transport, *, credential: str, base_url: str, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(client, credential=credential, base_url=base_url, options=options)
        self._base_url = f"{self._base_url.removesuffix('/v1')}/v1"

    @classmethod
    def find_unsupported(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """Resellers that refuse what they do not know get none of it; routing goes round them."""
        return frozenset() if options.get("extra_fields") else EXTRA_FIELDS

    async def submit(self, job: Job) -> Done:
        """Order and wait."""
        reply = await self._post(
            "/images/generations",
            self._build_body(job),
            headers=self._authorise(),
            timeout=self._options["read_timeout_s"],
        )
        body = self._read(reply)
        data = body.get("data")
        items = data if isinstance(data, list) else []
        images = tuple(image for item in items if (image := take_image(item)))
        if not images:
            raise self._fail(BAD_RESPONSE, quote_start(reply), upstream_id=read_id(reply))
        refused = tuple(
            self._fail(BAD_RESPONSE, "neither url nor b64_json", upstream_id=read_id(reply))
            for _ in range(len(items) - len(images))
        )
        return Done(images, upstream_id=read_id(reply), refused=refused, usage=read_mapping(body, "usage"))

    async def poll(self, task_id: str) -> Done | Pending:
        """Never asked: this protocol knows no tasks."""
        raise self._fail(BAD_RESPONSE, f"a synchronous carrier was asked for a task {task_id!r}")

    async def probe(self) -> None:
        """List the models."""
        with free_of_charge():
            reply = await self._get("/models", headers=self._authorise(), timeout=_PROBE_TIMEOUT_S)
            if not isinstance(self._read(reply).get("data"), list):
                raise self._fail(BAD_RESPONSE, quote_start(reply), upstream_id=read_id(reply))

    def _build_body(self, job: Job) -> dict[str, Any]:
        size = f"{job.width}{self._options['size_separator']}{job.height}"
        extra = {
            "negative_prompt": job.negative_prompt,
            "seed": job.seed,
            "prompt_extend": job.prompt_extend,
            "watermark": job.watermark,
        }
        chosen = {name: value for name, value in extra.items() if value is not None and self._options["extra_fields"]}
        return {
            "model": job.model,
            "prompt": job.prompt,
            "n": job.n,
            "size": size,
            "response_format": self._options["response_format"],
            **chosen,
        }

    def _read(self, reply: Reply) -> dict[str, Any]:
        body = read_object(reply)
        if reply.status == 200 and body is not None and not body.get("error"):
            return body
        code, message = read_fault(body)
        detail = f"{reply.status} {code}: {message}" if code or message else quote_start(reply)
        raise self._fail(judge(reply.status, code), detail, upstream_id=read_id(reply), reply=reply)


def take_image(item: Any) -> RemoteImage | None:
    """The picture of one item, in whichever form came; a data URL is base64 by another name."""
    if not isinstance(item, dict):
        return None
    url, b64 = read_text(item, "url"), read_text(item, "b64_json")
    if url.startswith("data:") and ";base64," in url:
        url, b64 = "", b64 or url.partition(";base64,")[2]
    if not url and not b64:
        return None
    revised = read_text(item, "revised_prompt") or None
    return RemoteImage(b64=b64, revised_prompt=revised) if b64 else RemoteImage(url=url, revised_prompt=revised)


def judge(status: int, code: str) -> Verdict:
    """What an error answer means. An empty `code` is a body that names none: a proxy's page, or nothing."""
    name = code.lower()
    if 400 <= status < 500 and name in _ARREARS_CODES:
        return ARREARS
    if status >= 400 and name == "model_not_found":
        return NOT_AVAILABLE
    if status >= 400 and name in _MODERATION_CODES:
        return CONTENT_POLICY._replace(billed=Billed.NO if status < 500 else Billed.UNKNOWN)
    if status >= 500 and status != 504 and code:
        return _MAYBE_BILLED
    return _BY_STATUS.get(status, BAD_RESPONSE)


def read_id(reply: Reply) -> str:
    """The shop's id of this call; only the header is common to them."""
    return clip_id(reply.headers.get("x-oneapi-request-id", "") or reply.headers.get("x-request-id", ""))
