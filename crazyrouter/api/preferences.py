"""What a client says beside the body: its Idempotency-Key, whether it waits, and that an SDK tries again by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.http import HttpRequest

from crazyrouter.api.errors import ApiError

LONGEST_KEY = 255
#: A count that no SDK reaches; the column holds it.
MOST_RETRIES = 1000
#: Fields that ask for nothing special: whether they are sent makes no other request.
NEUTRAL = frozenset(
    {"quality", "style", "background", "moderation", "output_format", "output_compression", "stream", "partial_images"}
)


@dataclass(frozen=True, slots=True)
class Preferences:
    """`retry` counts an SDK's automatic retries of this request: 0 is the first try."""

    key: str | None
    respond_async: bool
    retry: int


def read_preferences(request: HttpRequest) -> Preferences:
    """Raises ApiError for a key that cannot be one; other headers of no meaning are ignored."""
    return Preferences(
        key=read_key(request.META.get("HTTP_IDEMPOTENCY_KEY")),
        respond_async="respond-async" in read_list(request.META.get("HTTP_PREFER", "")),
        retry=read_count(request.META.get("HTTP_X_STAINLESS_RETRY_COUNT", "")),
    )


def read_key(value: str | None) -> str | None:
    if value is None:
        return None
    fault = ""
    if not value:
        fault = "must not be empty"
    elif len(value) > LONGEST_KEY:
        fault = f"at most {LONGEST_KEY} characters"
    elif not (value.isascii() and value.isprintable()):
        fault = "printable ASCII characters only"
    if fault:
        raise ApiError("invalid_value", f"Invalid 'Idempotency-Key' header: {fault}.", param="Idempotency-Key")
    return value


def read_list(value: str) -> set[str]:
    """The names of a header like `respond-async, wait=10`, without their values."""
    return {item.partition("=")[0].partition(";")[0].strip().lower() for item in value.split(",")}


def read_count(value: str) -> int:
    return min(int(value), MOST_RETRIES) if value.isascii() and value.isdigit() and len(value) < 6 else 0


def hash_body(values: Mapping[str, Any], *, size: str | None = None) -> str:
    """SHA-256 of the canonical body: defaults applied, spellings of the same thing made one.

    An absent size stays absent, unless the model's own is given: what a model's default is may change under a key.
    """
    body = {name: value for name, value in values.items() if name not in NEUTRAL}
    body["n"] = body.get("n", 1)
    body["response_format"] = body.get("response_format", "url")
    body["size"] = size or spell_size(body.get("size"))
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def spell_size(size: str | None) -> str | None:
    return None if size in (None, "auto") else str(size).replace("*", "x").lower()
