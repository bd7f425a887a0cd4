"""Fields: one key of an entry, and the columns of the row that it stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from crazyrouter.management.configuration.document import Mapping, Node, Scalar
from crazyrouter.management.configuration.faults import Unfit, suggest
from crazyrouter.management.configuration.values import (
    Kind,
    Number,
    Text,
    format_rate,
    parse_rate,
    quote,
    read_micros,
    read_word,
)
from models_registry.amounts import format_money


class Field(Protocol):
    @property
    def key(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Which columns it may set."""
        ...

    @property
    def exported(self) -> bool:
        """False for a second way to write the same columns."""
        ...

    def read(self, node: Node) -> dict[str, Any]:
        """The columns and what they are to be. Raises Unfit."""
        ...

    def write(self, row: Any) -> Any:
        """What the row says, as plain data."""
        ...

    def describe(self) -> dict[str, Any]:
        """As JSON Schema."""
        ...


@dataclass(frozen=True, slots=True)
class Column:
    """A key that is called like its column."""

    key: str
    kind: Kind
    exported: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.key,)

    def read(self, node: Node) -> dict[str, Any]:
        return {self.key: self.kind.read(node)}

    def write(self, row: Any) -> Any:
        value = getattr(row, self.key)
        return None if value is None else self.kind.write(value)

    def describe(self) -> dict[str, Any]:
        return self.kind.describe()


@dataclass(frozen=True, slots=True)
class Whole:
    """Several numbers that are all there or all absent, as a mapping or null."""

    key: str
    parts: tuple[tuple[str, Number], ...]
    exported: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.parts)

    def read(self, node: Node) -> dict[str, Any]:
        if isinstance(node, Scalar) and node.is_null:
            return dict.fromkeys(self.columns)
        if not isinstance(node, Mapping):
            raise Unfit(f"write a mapping of {', '.join(self.columns)} (or null), not {quote(node)}")
        for key, item in node.items.items():
            if key not in self.columns:
                raise Unfit(f"not known here{suggest(key, self.columns)}", line=item.line, below=f".{key}")
        if missing := [name for name in self.columns if name not in node.items]:
            raise Unfit(f"is whole or absent: it lacks {', '.join(missing)}")
        return {name: self._read_part(name, number, node) for name, number in self.parts}

    def _read_part(self, name: str, number: Number, node: Mapping) -> int | None:
        item = node.items[name]
        try:
            return number.read(item.node)
        except Unfit as unfit:
            raise Unfit(str(unfit), line=item.line, below=f".{name}") from unfit

    def write(self, row: Any) -> Any:
        found = {name: getattr(row, name) for name in self.columns}
        return None if None in found.values() else found

    def describe(self) -> dict[str, Any]:
        return {
            "type": ["object", "null"],
            "properties": {name: number.describe() for name, number in self.parts},
            "required": list(self.columns),
            "additionalProperties": False,
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """`0.15 CNY`: the currency is always said, for carriers have several."""

    key: str = "cost"
    exported: bool = True
    columns: tuple[str, ...] = ("cost_micros", "cost_currency")

    def read(self, node: Node) -> dict[str, Any]:
        if isinstance(node, Scalar) and node.is_null:
            return {"cost_micros": None}
        word = read_word(node, "an amount with its currency like 0.15 CNY (or null)")
        amount, _, currency = word.partition(" ")
        if len(currency) != 3 or not currency.isascii() or not currency.isalpha() or not currency.isupper():
            raise Unfit(f"write an amount with its currency like 0.15 CNY, not {quote(node)}")
        return {"cost_micros": read_micros(amount, least=0), "cost_currency": currency}

    def write(self, row: Any) -> Any:
        if row.cost_micros is None:
            return None
        return f"{format_money(row.cost_micros, '').strip()} {row.cost_currency}"

    def describe(self) -> dict[str, Any]:
        return {"type": ["string", "null"], "pattern": r"^[0-9]+(\.[0-9]{1,6})? [A-Z]{3}$"}


@dataclass(frozen=True, slots=True)
class Submits:
    """`2 per 60s`, as an interval and a burst; null is no limit."""

    key: str = "submits"
    exported: bool = True
    columns: tuple[str, ...] = ("submit_interval_ms", "submit_burst")

    def read(self, node: Node) -> dict[str, Any]:
        if isinstance(node, Scalar) and node.is_null:
            return {"submit_interval_ms": None}
        interval_ms, burst = parse_rate(read_word(node, "a rate like 2 per 60s (or null)"))
        return {"submit_interval_ms": interval_ms, "submit_burst": burst}

    def write(self, row: Any) -> Any:
        interval_ms = row.submit_interval_ms
        return None if interval_ms is None else format_rate(interval_ms, row.submit_burst)

    def describe(self) -> dict[str, Any]:
        return {"type": ["string", "null"], "description": "2 per 60s; null: no limit"}


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of another row, in its column `name`; the section that knows those rows looks it up."""

    key: str
    name: str = "name"
    exported: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.key,)

    def read(self, node: Node) -> dict[str, Any]:
        if isinstance(node, Scalar) and node.is_null:
            return {self.key: None}
        return {self.key: Text().read(node)}

    def write(self, row: Any) -> Any:
        named = getattr(row, self.key)
        return None if named is None else getattr(named, self.name)

    def describe(self) -> dict[str, Any]:
        return {"type": ["string", "number", "null"]}


def list_columns(fields: Iterable[Field], keys: Iterable[str]) -> set[str]:
    """The columns of these keys."""
    wanted = set(keys)
    return {column for field in fields if field.key in wanted for column in field.columns}
