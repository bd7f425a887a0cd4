"""Every recorded answer of every carrier as a whole order, and what in it would tell a customer who said it.

Carriers are taken from the registry, their answers from `tests/providers/wire`: a new one is in here by being recorded.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

import orjson
import pytest

from crazyrouter.api.errors import KINDS
from providers.adapters import get_adapter_class
from tests.files.stowaways import ALL as PICTURES
from tests.providers.exchanges import choose_options, list_errors, list_exchanges, list_replies, load

#: Where the stage serves pictures; the rest of the path is what the carrier would write there.
GALLERY = "/gallery"
#: Members that hold a customer's own words, or a rewrite of them: those may be read.
PROMPTS = frozenset({"prompt", "orig_prompt", "actual_prompt", "revised_prompt"})
_SIZE = re.compile(r"[0-9]+[x*][0-9]+")
_MEDIA_TYPE = re.compile(r"(?:application|image|text)/[a-z]+(?:; *charset=[\w-]+)?", re.IGNORECASE)
#: What anybody says.
_OURS = " ".join([*(kind.message for kind in KINDS.values()), *(status.phrase for status in HTTPStatus)]).casefold()


@dataclass(frozen=True)
class Recording:
    """One order: the replies to its calls in their order, its channel's set-up, and whether pictures come of it."""

    kind: str
    name: str
    replies: tuple[dict[str, Any], ...]
    base_path: str
    options: dict[str, Any]
    delivers: bool

    @property
    def telltales(self) -> frozenset[str]:
        """Ids, links and words of the carrier: whatever no answer of ours could hold by chance."""
        return frozenset(text for reply in self.replies for text in find_telltales(reply))


def list_recordings(kind: str) -> list[Recording]:
    """A query that has a reply of its own comes after an order that was accepted; tasks that go on end well."""
    found = [read_param(param) for param in (*list_exchanges(kind), *list_errors(kind))]
    return [recording for name, exchange in found for recording in record(kind, name, exchange)]


def read_param(param: Any) -> tuple[str, dict[str, Any]]:
    return str(param.id), param.values[1]


def record(kind: str, name: str, exchange: dict[str, Any]) -> Iterator[Recording]:
    said = list_replies(exchange)
    if exchange["call"] == "probe" or said[0].get("fault") == "refuse":
        return  # no order, and no answer
    outcome = exchange.get("outcome", {"error": {}})
    replies = [place_pictures(repeat(reply), outcome) for reply in said]
    flat = [reply for several in replies for reply in several]
    if exchange["call"] == "poll":
        flat = [*find_opening(kind), *flat]
    delivers = bool(outcome.get("done", {"images": True})["images"]) and "error" not in outcome
    if "done" not in outcome and "error" not in outcome:
        flat += find_closing(kind)
    options = dict(choose_options(kind, exchange) or {})
    if "poll_interval_s" in getattr(get_adapter_class(kind), "OPTIONS", {}):
        options.setdefault("poll_interval_s", 0.05)
    base_path = exchange.get("base_path", load(kind, "carrier.json")["base_path"])
    yield Recording(kind, name, tuple(flat), base_path, options, delivers)


def repeat(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """A question on a connection that breaks is asked once more."""
    return [reply, reply] if reply.get("fault") == "hang_up_always" else [reply]


@cache
def find_opening(kind: str) -> tuple[dict[str, Any], ...]:
    """The answer to an order that was accepted."""
    for param in list_exchanges(kind):
        _, exchange = read_param(param)
        if exchange["call"] == "submit" and "pending" in exchange["outcome"] and "options" not in exchange:
            return tuple(list_replies(exchange))
    pytest.fail(f"{kind} has no recorded order that was accepted")


@cache
def find_closing(kind: str) -> tuple[dict[str, Any], ...]:
    """The answers to a query for a task that ended with a picture."""
    for param in list_exchanges(kind):
        _, exchange = read_param(param)
        images = exchange["outcome"].get("done", {}).get("images")
        if exchange["call"] == "poll" and images and "options" not in exchange:
            said = list_replies(exchange)
            return tuple(placed for reply in said for placed in place_pictures([reply], exchange["outcome"]))
    pytest.fail(f"{kind} has no recorded task that ended with a picture")


def place_pictures(replies: list[dict[str, Any]], outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """With the links to its pictures, and pictures in the answer itself, leading to ones that exist."""
    images = outcome.get("done", {}).get("images", ())
    return [replace_leaves(reply, make_replacements(images)) for reply in replies]


def make_replacements(images: Any) -> dict[str, str]:
    """The stage replaces `{gallery}` by an address of its own that holds the one that was recorded."""
    found = {image["url"]: "{gallery}/" + image["url"].partition("://")[2] for image in images if image.get("url")}
    blobs = {
        image["b64"]: base64.b64encode(PICTURES["PNG with everything"]()).decode()
        for image in images
        if image.get("b64")
    }
    return found | blobs


def replace_leaves(value: Any, replacements: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: replace_leaves(member, replacements) for name, member in value.items()}
    if isinstance(value, list):
        return [replace_leaves(member, replacements) for member in value]
    if not isinstance(value, str):
        return value
    # A picture may come as a data URI.
    known = [text for text in replacements if value == text or (len(text) > 40 and value.endswith(text))]
    return value.replace(known[0], replacements[known[0]]) if known else value


def find_telltales(reply: dict[str, Any]) -> Iterator[str]:
    if "text" in reply:
        yield from filter(is_telling, re.split(r"[<>\n]+", reply["text"]))
    for name, value in walk([reply.get("json"), reply.get("headers")]):
        if name not in PROMPTS and is_telling(value):
            yield value.replace("{gallery}", GALLERY).replace("{origin}", "").strip()


def walk(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The texts in a JSON value, each with the name of its member."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from walk(member, key)
    elif isinstance(value, list):
        for member in value:
            yield from walk(member, name)
    elif isinstance(value, str):
        yield name, value
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, str(value)


def is_telling(text: str) -> bool:
    """Long enough, with a digit, a blank or a slash in it, and nothing that we say ourselves."""
    plain = text.strip()
    if len(plain) < 8 or len(plain) > 2000 or _SIZE.fullmatch(plain) or plain.casefold() in _OURS:
        return False
    return any(sign.isdigit() or sign in " /" for sign in plain) and not _MEDIA_TYPE.fullmatch(plain)


def encode(value: Any, *, origin: str, gallery: str) -> bytes:
    return orjson.dumps(value).replace(b"{origin}", origin.encode()).replace(b"{gallery}", gallery.encode())
