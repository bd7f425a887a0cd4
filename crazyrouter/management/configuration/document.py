"""YAML text as nodes that know their lines. Safe by construction: nothing but texts, lists and mappings is ever built.

What a plain word means follows YAML 1.2, whatever the library: `no` is a text, `010` and `1:30` are no numbers, and an
amount keeps its digits. Anchors and aliases are followed up to a bound; tags and merge keys are refused.

Broken      the text cannot be read any further
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.reader import ReaderError

from crazyrouter.management.configuration.faults import Faults

MOST_BYTES = 4 << 20
#: With every alias counted as often as it is used: a few lines of aliases of aliases would be billions.
MOST_NODES = 300_000
MOST_DEPTH = 20

WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,400})", re.ASCII)
DECIMAL = re.compile(r"-?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?", re.ASCII)
#: What neither database stores in a text.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Broken(Exception):
    """Where it broke off, and why."""

    def __init__(self, line: int, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.path = path


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text as it was written; `plain` without quotes, so that it may mean something else than itself."""

    line: int
    text: str
    plain: bool

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Sequence:
    line: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A value of a mapping; `line` is its key's."""

    line: int
    node: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    line: int
    items: dict[str, Item]


Node = Scalar | Sequence | Mapping


def read_document(data: bytes, faults: Faults) -> Mapping | None:
    """The document, if it could be read to its end; what is wrong goes to `faults`."""
    try:
        node = Composer(decode(data), faults).compose_document()
    except Broken as broken:
        faults.add(broken.line, broken.path, str(broken))
        return None
    if not isinstance(node, Mapping):
        faults.add(node.line, "", "a mapping is meant, with `schema: 1` and the sections")
        return None
    return node


def decode(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise Broken(1, f"the file has more than {MOST_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Broken(data.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from error


class Composer:
    """One pass over the parser's events. Recursion is as deep as the document, which is bounded."""

    def __init__(self, text: str, faults: Faults) -> None:
        self._events = parse_events(text)
        self._faults = faults
        self._anchored: dict[str, Node] = {}
        self._nodes = 0

    def compose_document(self) -> Node:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise Broken(1, "the file is empty")
        node = self._compose(next(self._events), path="", depth=0)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise Broken(get_line(event), "a second document begins here: one file holds one")
        return node

    def _compose(self, event: Any, *, path: str, depth: int) -> Node:
        line = get_line(event)
        self._bound(line, path, nodes=1, depth=depth)
        if isinstance(event, yaml.AliasEvent):
            return self._follow(event, path=path, depth=depth)
        if event.tag is not None:
            self._faults.add(line, path, f"the tag {event.tag} is not read: quote what is a text")
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._read_scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Sequence(line, tuple(self._compose_items(path=path, depth=depth + 1)))
        else:
            node = Mapping(line, self._compose_mapping(path=path, depth=depth + 1))
        if event.anchor is not None:
            self._anchored[event.anchor] = node
        return node

    def _read_scalar(self, event: Any, path: str) -> Scalar:
        line = get_line(event)
        if UNSTORABLE.search(event.value):
            self._faults.add(line, path, "a text with a NUL or half a character cannot be stored")
        return Scalar(line, UNSTORABLE.sub("", event.value), plain=event.implicit[0])

    def _compose_items(self, *, path: str, depth: int) -> Iterator[Node]:
        number = 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._compose(event, path=f"{path}[{number}]", depth=depth)
            number += 1

    def _compose_mapping(self, *, path: str, depth: int) -> dict[str, Item]:
        items: dict[str, Item] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = get_line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise Broken(line, "a key must be a text", path=path)
            key = self._read_scalar(event, path).text
            below = f"{path}.{key}" if path else key
            node = self._compose(next(self._events), path=below, depth=depth)
            if key == "<<" and event.implicit[0]:
                self._faults.add(line, path, "merge keys (<<) are not read: write out what the entry has")
            elif key in items:
                self._faults.add(line, below, f"stands here a second time: the first is in line {items[key].line}")
            else:
                items[key] = Item(line, node)
        return items

    def _follow(self, event: Any, *, path: str, depth: int) -> Node:
        """An anchor is known when its node has ended: no node can hold itself."""
        node = self._anchored.get(event.anchor)
        if node is None:
            raise Broken(get_line(event), f"no anchor &{event.anchor} ends before its alias", path=path)
        nodes, height = measure(node)
        self._bound(get_line(event), path, nodes=nodes, depth=depth + height)
        return node

    def _bound(self, line: int, path: str, *, nodes: int, depth: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise Broken(line, f"more than {MOST_NODES:,} values, counting each alias as what it stands for", path=path)
        if depth > MOST_DEPTH:
            raise Broken(line, f"nested deeper than {MOST_DEPTH}", path=path)


def parse_events(text: str) -> Iterator[Any]:
    """The parser's events; its errors in our words. Raises Broken."""
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Broken(line, f"the character U+{ord(text[error.position]):04X} cannot stand in a YAML file") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Broken(mark.line + 1 if mark else 1, describe_error(error)) from error


def describe_error(error: yaml.MarkedYAMLError) -> str:
    """`not YAML: …`, with where the thing began that did not end well."""
    problem = " ".join((error.problem or error.context or "").split())
    if not error.problem or not error.context or error.context_mark is None:
        return f"not YAML: {problem}"
    return f"not YAML: {problem} ({error.context}, which begins in line {error.context_mark.line + 1})"


def get_line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def measure(node: Node) -> tuple[int, int]:
    """How many nodes it is, aliases written out, and how deep."""
    children = list_children(node)
    sizes = [measure(child) for child in children]
    return 1 + sum(size for size, _ in sizes), 1 + max((height for _, height in sizes), default=0)


def list_children(node: Node) -> list[Node]:
    if isinstance(node, Mapping):
        return [item.node for item in node.items.values()]
    return list(node.items) if isinstance(node, Sequence) else []


def to_plain(node: Node) -> Any:
    """What JSON can hold: texts, numbers, true and false, null, lists and objects."""
    if isinstance(node, Mapping):
        return {key: to_plain(item.node) for key, item in node.items.items()}
    if isinstance(node, Sequence):
        return [to_plain(child) for child in node.items]
    return read_plain(node)


def read_plain(scalar: Scalar) -> Any:
    text = scalar.text
    if scalar.is_null:
        return None
    if not scalar.plain:
        return text
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text[0] in "tT"
    if WHOLE.fullmatch(text):
        return int(text)
    return float(text) if DECIMAL.fullmatch(text) else text
