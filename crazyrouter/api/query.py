"""What stands behind the question mark: known names, each sent once, and the cursors of paged lists.

An empty value is a value, and wrong; nothing is guessed. Everything here raises ApiError naming the parameter.
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any, NoReturn

import orjson
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare, salted_hmac

from crazyrouter.api.errors import ApiError

WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
EXPECTED_DAY = "expected a date like 2026-11-30"
#: More digits than any limit has; Python refuses to read thousands.
MOST_DIGITS = 18
SEAL_BYTES = 8


def read_query(request: HttpRequest, names: Collection[str]) -> Mapping[str, str]:
    """The parameters that were sent, all of them among these names."""
    try:
        query = request.GET
    except SuspiciousOperation:
        raise ApiError("invalid_value", "Too many parameters.") from None
    for name, values in query.lists():
        if name not in names:
            raise ApiError("unknown_parameter", f"Unknown parameter: '{name[:64]}'.", param=name[:64])
        if len(values) > 1:
            refuse(name, "must be sent once")
    return query.dict()


def refuse(name: str, reason: str) -> NoReturn:
    raise ApiError("invalid_value", f"Invalid '{name}': {reason}.", param=name)


def read_text(query: Mapping[str, str], name: str, *, longest: int) -> str | None:
    """The text as sent, or None; PostgreSQL cannot compare a NUL with anything."""
    text = query.get(name)
    if text is None:
        return None
    if not text or "\0" in text:
        refuse(name, "must not be empty" if not text else "NUL characters are not allowed")
    if len(text) > longest:
        raise ApiError("string_above_max_length", f"Invalid '{name}': at most {longest} characters.", param=name)
    return text


def read_whole(query: Mapping[str, str], name: str, *, least: int, largest: int, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text:
        refuse(name, "must not be empty")
    if not WHOLE.fullmatch(text):
        raise ApiError("invalid_type", f"Invalid type for '{name}': expected an integer.", param=name)
    value = int(text[:MOST_DIGITS])
    if value < least:
        raise ApiError("integer_below_min_value", f"Invalid '{name}': expected at least {least}.", param=name)
    if value > largest:
        raise ApiError("integer_above_max_value", f"Invalid '{name}': expected at most {largest}.", param=name)
    return value


def read_day(query: Mapping[str, str], name: str) -> date | None:
    """A date like 2026-11-30, or None."""
    text = query.get(name)
    if text is None:
        return None
    try:
        # `fromisoformat` alone takes other spellings, too, like 20261130 and 2026-W48-1.
        return date.fromisoformat(text) if DAY.fullmatch(text) else refuse(name, EXPECTED_DAY)
    except ValueError:
        refuse(name, EXPECTED_DAY)


def seal_cursor(position: Any, *, purpose: str) -> str:
    """An opaque place in a list, as base64url: JSON behind a short seal, so that only our own are taken back."""
    return seal(orjson.dumps(position), purpose)


def open_cursor(text: str, *, purpose: str) -> Any:
    """What was sealed for this very purpose; anything else is refused."""
    try:
        body = b64decode(text + "=" * (-len(text) % 4), altchars=b"-_")[SEAL_BYTES:]
    except ValueError:
        body = b""
    # Sealed again and compared as text: no second spelling of the same bytes is taken.
    if not body or not constant_time_compare(seal(body, purpose), text):
        refuse("cursor", "use 'next_cursor' of the page before, with the same parameters")
    return orjson.loads(body)


def seal(body: bytes, purpose: str) -> str:
    mark = salted_hmac(f"cursor of {purpose}", body, algorithm="sha256").digest()[:SEAL_BYTES]
    return urlsafe_b64encode(mark + body).rstrip(b"=").decode()
