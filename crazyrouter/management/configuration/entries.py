"""An entry of the document: what it says about one row, by column, and where it says it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from crazyrouter.management.configuration import document
from crazyrouter.management.configuration.document import Item, Node
from crazyrouter.management.configuration.faults import Faults, Unfit, suggest
from crazyrouter.management.configuration.fields import Field, list_columns
from crazyrouter.management.configuration.values import quote

MOVED = "is moved by traffic: no file can set it"


@dataclass(frozen=True, slots=True)
class Shape:
    """What an entry of one kind may hold: its fields, its other parts, and what is refused with a reason of its own."""

    what: str
    fields: Sequence[Field]
    parts: Collection[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return [*(each.key for each in self.fields), *self.parts]


@dataclass(slots=True)
class Entry:
    """`lines` is by key, `columns` by column; `unfit` are the keys whose values could not be read."""

    shape: Shape
    path: str
    line: int
    faults: Faults
    columns: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    parts: dict[str, Item] = field(default_factory=dict)
    unfit: set[str] = field(default_factory=set)

    def blame(self, key: str, message: str, *, line: int | None = None, below: str = "") -> None:
        """A fault of a key, or of the whole entry where the key is not there."""
        self.unfit.add(key)
        place = f"{self.path}.{key}" if key in self.lines else self.path
        self.faults.add(line or self.lines.get(key, self.line), place + below, message)

    def require(self, *keys: str) -> None:
        """What a new row cannot do without."""
        missing = [key for key in keys if key not in self.lines]
        self.unfit.update(missing)
        if missing:
            self.faults.add(self.line, self.path, f"a new {self.shape.what} needs {' and '.join(missing)}")

    def check(self, row: Any, *, settled: Collection[str] = ()) -> None:
        """Every rule of the row's own model; `settled` are columns that somebody else answers for."""
        exclude = set(settled) | list_columns(self.shape.fields, self.unfit)
        try:
            row.full_clean(exclude=exclude)
        except ValidationError as error:
            for column, messages in error.message_dict.items():
                for message in messages:
                    self._blame_column(column, message.rstrip("."))

    def _blame_column(self, column: str, message: str) -> None:
        """The key that set it; a column that the file does not name is named in the message."""
        given = (each.key for each in self.shape.fields if each.key in self.lines and column in each.columns)
        key = next(given, None)
        if key is None and column != NON_FIELD_ERRORS:
            message = f"{column}: {message}"
        self.blame(key or column, message)


def read_entry(item: Item, *, path: str, shape: Shape, faults: Faults) -> Entry | None:
    """None where it is no mapping at all."""
    if not isinstance(item.node, document.Mapping):
        faults.add(item.line, path, f"the {shape.what} is a mapping, not {quote(item.node)}")
        return None
    entry = Entry(shape, path, item.line, faults)
    fields = {each.key: each for each in shape.fields}
    for key, value in item.node.items.items():
        entry.lines[key] = value.line
        if key in fields:
            read_field(entry, fields[key], value.node)
        elif key in shape.parts:
            entry.parts[key] = value
        elif key in shape.refused:
            entry.blame(key, shape.refused[key])
        else:
            entry.blame(key, f"no field of this {shape.what}{suggest(key, shape.keys)}")
    return entry


def read_field(entry: Entry, known: Field, node: Node) -> None:
    try:
        found = known.read(node)
    except Unfit as unfit:
        entry.blame(known.key, str(unfit), line=unfit.line, below=unfit.below)
        return
    if twice := sorted(set(found) & set(entry.columns)):
        entry.blame(known.key, f"contradicts the other way to write {twice[0]} in this entry")
    entry.columns.update(found)


def find_named(entry: Entry, key: str, rows: Mapping[str, Any], *, what: str) -> None:
    """From the name in the file to the row that it means; one that nobody knows is a fault."""
    name = entry.columns.get(key)
    if name is None:
        return
    if name in rows:
        entry.columns[key] = rows[name]
        return
    del entry.columns[key]
    entry.blame(key, f"there is no {what} {name!r}, neither in the file nor in the database{suggest(name, rows)}")


def read_named(item: Item | None, *, path: str, what: str, faults: Faults) -> dict[str, Item]:
    """The entries of a section, by name; an empty section is none."""
    if item is None or (isinstance(item.node, document.Scalar) and item.node.is_null):
        return {}
    if not isinstance(item.node, document.Mapping):
        faults.add(item.line, path, f"a mapping from the name of each {what} to what it is, not {quote(item.node)}")
        return {}
    return item.node.items


def read_list(item: Item, *, path: str, what: str, faults: Faults) -> list[Node] | None:
    """None where it is no list."""
    if not isinstance(item.node, document.Sequence):
        faults.add(item.line, path, f"a list of {what} ([] for none), not {quote(item.node)}")
        return None
    return list(item.node.items)
