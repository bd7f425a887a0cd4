"""What no customer may read: carriers by name, their hosts and models, and whatever an operator calls a channel.

The names are those of the registered kinds; `ALIASES`, for what a kind does not say of who is behind it; and, of one
answer, those of the route by which it came. Public model ids and the word Qwen are not among them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from urllib.parse import urlsplit

from providers.adapters import kinds
from providers.routing import Route

LONGEST_REVISED_PROMPT = 4000
#: Parts of kinds that name a protocol, and nobody who speaks it.
PROTOCOLS = frozenset({"api", "async", "image", "images", "openai", "queue", "sync", "task", "tasks"})
#: Companies, products and hosts behind the kinds, and resellers, who all speak one protocol.
ALIASES = (
    *("alibaba", "alicloud", "aliyun", "bailian", "modelstudio", "tongyi", "wanx", "阿里", "百炼", "灵积", "通义"),
    *("fal.media", "魔搭", "硅基流动"),
    *("aihubmix", "apimart", "newapi", "oneapi", "openrouter"),
)
#: Names up to this length are parts of too many words.
SHORT = 4
#: Parts of hosts that every second host has.
COMMON_LABELS = frozenset({"api", "app", "cdn", "cloud", "com", "gateway", "images", "localhost", "net", "open", "www"})

_BUCKET = r"(?<![a-z0-9])oss-(?=[a-z]+-)"
_LINK = re.compile(r"https?:|\bwww\.")
# Task and request ids, which carriers write as UUIDs or long hexadecimal numbers.
_ID = re.compile(r"(?<![0-9a-z])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-f]*\d)[0-9a-f]{16,})(?![0-9a-z])")


def keep_revised_prompt(text: str | None, route: Route) -> str | None:
    """A carrier's rewrite of the prompt, or nothing if it is too long or would show who rewrote it."""
    if not text or len(text) > LONGEST_REVISED_PROMPT:
        return None
    plain = fold(text)
    if _LINK.search(plain) or _ID.search(plain) or compile_carriers().search(plain):
        return None
    names = (route.channel_name, route.upstream_model, *list_hosts(route.base_url))
    return None if compile_names(names).search(plain) else text


def find_carrier(text: str) -> str:
    """The first name of a carrier in a text, as it is written there in plain letters; empty if there is none."""
    found = compile_carriers().search(fold(text))
    return found.group() if found else ""


def list_brands() -> list[str]:
    """The parts of the registered kinds that name somebody."""
    parts = {part for kind in kinds() for part in kind.split("_")}
    return sorted(parts - PROTOCOLS)


def list_hosts(url: str) -> list[str]:
    """A host, and its parts that are names of their own."""
    host = urlsplit(url).hostname or ""
    labels = [label for label in host.split(".") if len(label) > SHORT and not label.isdigit() and ":" not in label]
    return [host, *[label for label in labels if label not in COMMON_LABELS]] if host else []


@cache
def compile_carriers() -> re.Pattern[str]:
    return re.compile(f"{build_pattern((*list_brands(), *ALIASES))}|{_BUCKET}")


@lru_cache(maxsize=256)
def compile_names(names: tuple[str, ...]) -> re.Pattern[str]:
    """Names of an operator's choice, each as a word or several: they may be part of any other word."""
    words = [spread(fold(name)) for name in names if len(name) >= SHORT]
    return re.compile("|".join(rf"(?<!\w){word}(?!\w)" for word in words if word) or r"(?!)")


def build_pattern(names: Iterable[str]) -> str:
    return "|".join(guard(name, spread(name)) for name in map(fold, names))


def guard(name: str, pattern: str) -> str:
    """Short names count as words of their own only, a little longer ones where a word begins."""
    if not name.isascii() or len(name) > 2 + SHORT:
        return pattern
    return rf"(?<![a-z]){pattern}" + (r"(?![a-z])" if len(name) <= SHORT else "")


def spread(name: str) -> str:
    """The name with or without a sign between its letters: `dash-scope`, `New API`."""
    return r"[\W_]?".join(re.escape(letter) for letter in name if letter.isalnum())


def fold(text: str) -> str:
    """Small letters in their plain forms, without signs that nobody sees."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return plain if plain.isascii() else "".join(sign for sign in plain if unicodedata.category(sign) != "Cf")
