"""Reading what a carrier answered, without believing it: a member of the wrong type is as good as none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from providers.contract import RemoteImage
from providers.transport import Reply

MAX_ID_CHARACTERS = 128


def read_object(reply: Reply) -> dict[str, Any] | None:
    """The body, if it is a JSON object."""
    try:
        body = reply.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def read_mapping(parent: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """A member that should be an object; anything else is an empty one."""
    member = parent.get(name) if parent else None
    return member if isinstance(member, dict) else {}


def read_list(parent: Mapping[str, Any] | None, name: str) -> list[Any]:
    """A member that should be a list; anything else is an empty one."""
    member = parent.get(name) if parent else None
    return member if isinstance(member, list) else []


def read_text(parent: Mapping[str, Any] | None, name: str) -> str:
    """A member that should be a text or a number; anything else is an empty text."""
    member = parent.get(name) if parent else None
    return str(member) if isinstance(member, str | int) and not isinstance(member, bool) else ""


def read_fault(body: Mapping[str, Any] | None) -> tuple[str, str]:
    """Code and message of either envelope, flat or under `error`; an empty code where there is none."""
    wrapped = read_mapping(body, "error")
    fault = wrapped or body
    message = read_text(fault, "message") or read_text(fault, "msg")
    return read_text(fault, "code") or read_text(wrapped, "type"), message


def take_image(item: Any) -> RemoteImage | None:
    """The picture of one item: an address, or an object with `url` or `b64_json`; a data URL is base64, too."""
    if isinstance(item, str) and item.startswith(("https://", "http://", "data:")):
        item = {"url": item}
    if not isinstance(item, dict):
        return None
    url, b64 = read_text(item, "url"), read_text(item, "b64_json")
    if url.startswith("data:"):
        url, b64 = "", b64 or url.partition(";base64,")[2]
    if not url and not b64:
        return None
    revised = read_text(item, "revised_prompt") or None
    return RemoteImage(b64=b64, revised_prompt=revised) if b64 else RemoteImage(url=url, revised_prompt=revised)


def clip_id(text: str) -> str:
    """A carrier's id as it may be stored and shown: printable, at most 128 characters."""
    return "".join(sign for sign in text[:MAX_ID_CHARACTERS] if sign.isprintable())


def read_retry_after(reply: Reply) -> float | None:
    """Seconds from now, from either form of the Retry-After header."""
    value = reply.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def quote_start(reply: Reply) -> str:
    """The start of a body that is not what the protocol says, for the operator."""
    return f"{reply.status} {reply.body[:500].decode('utf-8', 'replace')}"
