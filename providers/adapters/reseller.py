"""What resellers of OpenAI's Images protocol share, whichever way they answer (the new-api family, APIMart and others).

They put a shop between us and the model maker: a 5xx or a timeout may hide a picture that was made and
billed, and a 200 may hold none. So success is what can be used, and doubt is `billed=unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.adapters.answers import clip_id, quote_start, read_fault, read_mapping, read_object, read_text
from providers.adapters.base import (
    ARREARS,
    BAD_RESPONSE,
    HUB_NAMES,
    NOT_AVAILABLE,
    Carrier,
    Option,
    Verdict,
    build_switch,
    free_of_charge,
)
from providers.adapters.dashscope_errors import find_verdict
from providers.adapters.verdicts import find_moderation, judge_status
from providers.contract import Billed, Code, Job
from providers.transport import Reply, Transport

EXTRA_FIELDS = frozenset({"seed", "negative_prompt", "prompt_extend", "watermark"})
_PROBE_TIMEOUT_S = 15.0
_ARREARS_CODES = frozenset(
    {"insufficient_user_quota", "insufficient_quota", "pre_consume_token_quota_failed", "billing_hard_limit_reached"}
)
# What stands in the `code` of an answer in a wrapping that is no error.
_SUCCESSES = frozenset({"", "0", "200", "success"})
# UCloud writes the id of the call where OpenAI writes the name of a field; those are short words.
_LOOKS_LIKE_AN_ID = re.compile(r"(?=.*\d)[\w-]{16,}", re.ASCII)


class Reseller(Carrier):
    """Options: `size_separator`, `response_format`, `extra_fields`. The base URL is the host's root or ends in /v1."""

    free_probe = "lists the models"
    open_weights = HUB_NAMES
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "size_separator": Option("x", lambda value: value in ("x", "*"), 'between width and height: "x" or "*"'),
        "response_format": Option(
            "url", lambda value: value in ("url", "b64_json"), 'how pictures come: "url" or "b64_json"'
        ),
        "extra_fields": build_switch("whether seed, negative_prompt, prompt_extend and watermark are known"),
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

    async def probe(self) -> None:
        """List the models."""
        with free_of_charge():
            reply = await self._get("/models", headers=self._authorise(), timeout=_PROBE_TIMEOUT_S)
            body = self._read(reply)
            if not isinstance(body.get("data"), list):
                raise self._fail(BAD_RESPONSE, quote_start(reply), upstream_id=read_id(body, reply))

    def _build_body(self, job: Job) -> dict[str, Any]:
        extra = {
            "negative_prompt": job.negative_prompt,
            "seed": job.seed,
            "prompt_extend": job.prompt_extend,
            "watermark": job.watermark,
        }
        chosen = {name: value for name, value in extra.items() if value is not None and self._options["extra_fields"]}
        size = {"size": f"{job.width}{self._options['size_separator']}{job.height}"}
        answer = {"response_format": self._options["response_format"]}
        return {"model": job.model, "prompt": job.prompt, "n": job.n, **size, **answer, **chosen}

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The object of a success, which some wrap in `{code, msg, data}`. Raises ProviderError."""
        body = read_object(reply)
        code, message = read_fault(body)
        if reply.status == 200 and body is not None and not body.get("error") and code.lower() in _SUCCESSES:
            return body
        raise self._reject(reply, judge(reply.status, code, message), code, message, upstream_id=read_id(body, reply))


def judge(status: int, code: str, message: str) -> Verdict:
    """What an error answer means. An empty `code` is a body that names none: a proxy's page, or nothing."""
    name = code.lower()
    if 400 <= status < 500 and name in _ARREARS_CODES:
        return ARREARS
    if 400 <= status < 500 and is_the_shops_own(code, message):
        return NOT_AVAILABLE
    if status >= 400 and name == "model_not_found":
        return NOT_AVAILABLE
    moderation = find_moderation(code)
    if status >= 400 and moderation:
        return moderation._replace(billed=Billed.NO if status < 500 else Billed.UNKNOWN)
    return judge_status(status, named=bool(code))


def is_the_shops_own(code: str, message: str) -> bool:
    """Whether the model maker's own words, passed on, speak of the shop's account or set-up there, not of the order."""
    maker = find_verdict(code, message)
    return maker is not None and maker.code in (Code.ARREARS, Code.NOT_AVAILABLE)


def unwrap(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer itself, of one that may be wrapped: `{code, msg, data: {data: […]}}`."""
    return read_mapping(body, "data") or body


def read_id(body: Mapping[str, Any] | None, reply: Reply) -> str:
    """The shop's id of this call; no place for it is common to all."""
    header = reply.headers.get("x-oneapi-request-id", "") or reply.headers.get("x-request-id", "")
    param = read_text(read_mapping(body, "error"), "param")
    return clip_id(header or (param if _LOOKS_LIKE_AN_ID.fullmatch(param) else ""))
