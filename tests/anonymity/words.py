"""What must not be read, and where it is looked for: every form in which an answer can hold a word."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import httpx
import orjson

from crazyrouter.generation.anonymity import find_carrier
from tests.files.dissection import dissect

#: By hand, and so independent of the list that the product derives.
CARRIERS = (
    *("dashscope", "aliyun", "alibaba", "alicloud", "bailian", "model studio", "modelstudio", "tongyi", "wanx"),
    *(
        "fal.ai",
        "fal.run",
        "fal.media",
        "fal-ai",
        "fal_queue",
        "siliconflow",
        "silicon flow",
        "modelscope",
        "wavespeed",
    ),
    *("replicate", "apimart", "new-api", "new_api", "newapi", "one-api", "one_api", "oneapi", "openrouter"),
    *("阿里", "百炼", "通义", "魔搭", "硅基流动", "oss-cn", "/oss/", "signature=", "accesskeyid", "x-oss"),
    *("reseller", "request id:", "uvicorn", "sk-ws-", "canary-"),
)
#: What we make up ourselves, and what is random in it: three letters may be anybody's name.
OUR_NAMES = re.compile(r"qwen_image_[a-z2-7]{32}|\b(?:gen|req|key)_[0-9a-zA-Z]+|\b[0-9a-f]{64}\b")
#: Members that hold a picture: it is taken apart, not read.
PICTURES = frozenset({"b64_json"})


class Leak(NamedTuple):
    """A forbidden word, or something else that has no place in an answer, and where it stands."""

    where: str
    what: str


def find_leaks(response: httpx.Response, telltales: Iterable[str] = ()) -> list[Leak]:
    """Whatever is forbidden in an answer: in its headers, its address, its body, its pictures."""
    said = [("headers", f"{name}: {value}") for name, value in response.headers.multi_items()]
    said.append(("url", str(response.url)))
    leaks = [leak for where, text in said for leak in find_words(text, telltales, where)]
    kind = response.headers.get("content-type", "")
    if kind.startswith("image/") and response.content:
        return leaks + check_picture(response.content, telltales)
    if kind.startswith("application/json") and response.content:
        return leaks + check_json(orjson.loads(response.content), telltales)
    return leaks + find_words(response.content.decode("utf-8", "replace"), telltales, "body")


def check_json(body: Any, telltales: Iterable[str]) -> list[Leak]:
    leaks: list[Leak] = []
    for name, value in walk(body):
        leaks += find_words(name, telltales, "member")
        if name in PICTURES:
            leaks += check_picture(base64.b64decode(value, validate=True), telltales)
        else:
            leaks += find_words(value, telltales, name or "body")
    return leaks


def walk(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every value as text, with the name of its member."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from walk(member, key)
    elif isinstance(value, list):
        for member in value:
            yield from walk(member, name)
    else:
        yield name, str(value)


def check_picture(data: bytes, telltales: Iterable[str]) -> list[Leak]:
    """A picture is pixels and our label; the label is read as text, and its bytes hold no long word."""
    packet, faults = dissect(data)
    raw = data.lower()
    words = [word for word in (*CARRIERS, *telltales) if len(word.encode()) >= 7 and word.lower().encode() in raw]
    return [Leak("picture", fault) for fault in (*faults, *words)] + find_words(packet.decode(), telltales, "label")


def find_words(text: str, telltales: Iterable[str], where: str) -> list[Leak]:
    plain = unicodedata.normalize("NFKC", OUR_NAMES.sub("", text)).casefold()
    words = [word for word in (*CARRIERS, *map(str.casefold, telltales)) if word in plain]
    named = find_carrier(plain)
    return [Leak(where, word) for word in dict.fromkeys([*words, *([named] if named else [])])]
