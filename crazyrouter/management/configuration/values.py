"""The kinds of values: how each is read from a node, written into a document, and described to an editor."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from billing.money import InvalidAmount, format_amount, parse
from crazyrouter.management.configuration import document
from crazyrouter.management.configuration.document import Mapping, Node, Scalar, to_plain
from crazyrouter.management.configuration.faults import Unfit, suggest
from models_registry.limits import SIZE

#: The largest values of the columns, on PostgreSQL.
SMALL, INTEGER = 32_767, 2_147_483_647


class Kind(Protocol):
    def read(self, node: Node) -> Any:
        """The value for the column. Raises Unfit."""
        ...

    def write(self, value: Any) -> Any:
        """The column's value as plain data that YAML can show and `read` takes back."""
        ...

    def describe(self) -> dict[str, Any]:
        """As JSON Schema."""
        ...


def quote(node: Node) -> str:
    """What stands there, for a sentence."""
    if isinstance(node, Mapping):
        return "a mapping"
    if not isinstance(node, Scalar):
        return "a list"
    if node.is_null:
        return "nothing"
    clipped = node.text if len(node.text) <= 40 else f"{node.text[:37]}…"
    return repr(clipped)


def read_word(node: Node, meaning: str) -> str:
    """The text of a scalar that is not null."""
    if not isinstance(node, Scalar) or node.is_null:
        raise Unfit(f"write {meaning}, not {quote(node)}")
    return node.text


@dataclass(frozen=True, slots=True)
class Text:
    """Whatever it looks like: a version `2.0` is a text here."""

    def read(self, node: Node) -> str:
        return read_word(node, 'a text ("" for an empty one)')

    def write(self, value: str) -> str:
        return value

    def describe(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True, slots=True)
class Number:
    least: int
    most: int
    optional: bool = False

    def read(self, node: Node) -> int | None:
        if isinstance(node, Scalar) and node.is_null and self.optional:
            return None
        value = to_plain(node) if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise Unfit(f"write a whole number from {self.least} to {self.most}{self._or_null()}, not {quote(node)}")
        return value

    def _or_null(self) -> str:
        return " (or null)" if self.optional else ""

    def write(self, value: int | None) -> int | None:
        return value

    def describe(self) -> dict[str, Any]:
        kinds = ["integer", "null"] if self.optional else "integer"
        return {"type": kinds, "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Flag:
    def read(self, node: Node) -> bool:
        value = to_plain(node) if isinstance(node, Scalar) else None
        if not isinstance(value, bool):
            raise Unfit(f"write true or false, not {quote(node)}")
        return value

    def write(self, value: bool) -> bool:
        return value

    def describe(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words; which they are is asked when it is read."""

    what: str
    list_words: Callable[[], Sequence[str]]

    def read(self, node: Node) -> str:
        words = self.list_words()
        word = read_word(node, f"a {self.what}")
        if word not in words:
            raise Unfit(f"{quote(node)} is no {self.what}: {', '.join(words)}{suggest(word, words)}")
        return word

    def write(self, value: str) -> str:
        return value

    def describe(self) -> dict[str, Any]:
        return {"enum": list(self.list_words())}


@dataclass(frozen=True, slots=True)
class Size:
    """`1664x928`; the asterisk of some carriers is read, too."""

    def read(self, node: Node) -> str:
        word = read_word(node, "a size like 1664x928")
        match = SIZE.fullmatch(word)
        if match is None:
            raise Unfit(f"write a size like 1664x928, not {quote(node)}")
        return f"{match[1]}x{match[2]}"

    def write(self, value: str) -> str:
        return value

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[1-9][0-9]{0,4}[x*][1-9][0-9]{0,4}$"}


def split_size(text: str) -> tuple[int, int]:
    """Of a size that has been read."""
    width, _, height = text.partition("x")
    return int(width), int(height)


@dataclass(frozen=True, slots=True)
class SizeList:
    def read(self, node: Node) -> list[str]:
        if not isinstance(node, document.Sequence):
            raise Unfit(f"write a list of sizes like [1328x1328], not {quote(node)}")
        return [self._read_one(child, number) for number, child in enumerate(node.items, start=1)]

    def _read_one(self, node: Node, number: int) -> str:
        try:
            return Size().read(node)
        except Unfit as unfit:
            raise Unfit(str(unfit), line=node.line, below=f"[{number}]") from unfit

    def write(self, value: Sequence[str]) -> list[str]:
        return list(value)

    def describe(self) -> dict[str, Any]:
        return {"type": "array", "items": Size().describe(), "uniqueItems": True}


@dataclass(frozen=True, slots=True)
class Amount:
    """CNY in plain decimals, as micro-units; its digits are taken as they were written."""

    def read(self, node: Node) -> int:
        return read_micros(read_word(node, 'an amount in CNY like "0.20"'), least=1)

    def write(self, value: int) -> str:
        return format_amount(value)

    def describe(self) -> dict[str, Any]:
        return {"type": ["string", "number"], "description": 'CNY, like "0.20"'}


def read_micros(text: str, *, least: int) -> int:
    try:
        micros = parse(text)
    except InvalidAmount as error:
        raise Unfit(str(error)) from error
    if micros < least:
        raise Unfit(f"{text!r} is not {'above' if least else 'at least'} zero")
    return micros


@dataclass(frozen=True, slots=True)
class Moment:
    """A date is its first moment; without an offset it is the time of this installation (TIME_ZONE)."""

    def read(self, node: Node) -> datetime:
        word = read_word(node, "a date like 2027-01-31 or 2027-01-31T12:00:00+08:00")
        try:
            moment = parse_datetime(word)
            day = None if moment else parse_date(word)
        except ValueError as error:
            raise Unfit(f"{quote(node)} is not a date: {error}") from error
        if day is not None:
            moment = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - made aware below
        if moment is None or not 1970 < moment.year < 9000:
            raise Unfit(f"write a date like 2027-01-31 or 2027-01-31T12:00:00+08:00, not {quote(node)}")
        return timezone.make_aware(moment) if timezone.is_naive(moment) else moment

    def write(self, value: datetime) -> str:
        return timezone.localtime(value).isoformat()

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "description": "2027-01-31 or 2027-01-31T12:00:00+08:00"}


@dataclass(frozen=True, slots=True)
class Options:
    """A mapping of whatever the adapter knows; the databases keep its members in no order."""

    def read(self, node: Node) -> dict[str, Any]:
        if not isinstance(node, Mapping):
            raise Unfit(f"write a mapping ({{}} for none), not {quote(node)}")
        options: dict[str, Any] = to_plain(node)
        return options

    def write(self, value: Any) -> Any:
        return sort_keys(value)

    def describe(self) -> dict[str, Any]:
        return {"type": "object"}


def sort_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sort_keys(value[key]) for key in sorted(value)}
    return [sort_keys(item) for item in value] if isinstance(value, list) else value


RATE = re.compile(r"([1-9][0-9]{0,5}) *(?:per|/) *([1-9][0-9]{0,11})? *(ms|s|min|minute|second|h|hour)", re.ASCII)
UNITS = {"ms": 1, "s": 1_000, "second": 1_000, "min": 60_000, "minute": 60_000, "h": 3_600_000, "hour": 3_600_000}


def parse_rate(text: str) -> tuple[int, int]:
    """`2 per 60s` -> an interval of 30000 ms and a burst of 2: never more than was written. Raises Unfit."""
    match = RATE.fullmatch(text.strip())
    if match is None:
        raise Unfit(f"write a rate like 2 per 60s, not {text[:40]!r}")
    submits, window_ms = int(match[1]), int(match[2] or 1) * UNITS[match[3]]
    if submits > 100:
        raise Unfit(f"at most 100 submits at once can be counted: write 100 per {-(-window_ms * 100 // submits)}ms")
    interval_ms = -(-window_ms // submits)
    if interval_ms > INTEGER:
        raise Unfit(f"{text[:40]!r} is less than one submit in {INTEGER} ms")
    return interval_ms, submits


def format_rate(interval_ms: int, burst: int) -> str:
    window_ms = interval_ms * burst
    return f"{burst} per {window_ms // 1000}s" if window_ms % 1000 == 0 else f"{burst} per {window_ms}ms"
