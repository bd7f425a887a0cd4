"""What is to be written, and how it reads as a difference. Planning makes edits and touches nothing; `run` writes.

Overtaken       a row changed or went while the plan was made; nothing may be written of it
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from crazyrouter.management.configuration.entries import Entry

REASON_CHARACTERS = 100


class Overtaken(Exception):
    """Somebody else was quicker; the whole plan is to be made anew."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who applies what: `source` is the name of the file."""

    source: str
    actor: str

    @property
    def reason(self) -> str:
        """As histories and prices keep it."""
        return f"config: {self.source}, by {self.actor}"[:REASON_CHARACTERS]


class Write(Protocol):
    def run(self, author: Author) -> None:
        """Write, inside the one transaction. Raises Overtaken."""
        ...


@dataclass(slots=True)
class Edit:
    """One subject of the document that is made or changed."""

    path: str
    is_new: bool
    lines: list[str] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)

    def render(self) -> str:
        return "\n".join([f"{'+' if self.is_new else '~'} {self.path}", *(f"    {line}" for line in self.lines)])


@dataclass(frozen=True, slots=True)
class AddRow:
    row: Any

    def run(self, author: Author) -> None:
        self.row._change_reason = author.reason
        self.row.save(force_insert=True)


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """Writes these columns and no other: traffic, and people in the admin, move the rest of the row meanwhile."""

    row: Any
    columns: Sequence[str]

    def run(self, author: Author) -> None:
        model = type(self.row)
        # The history keeps whole rows: what the other columns are is read under the lock.
        fresh = model.objects.select_for_update(of=("self",), no_key=True).filter(pk=self.row.pk).first()
        if fresh is None:
            raise Overtaken(f"{self.row} was deleted meanwhile")
        for column in self.columns:
            setattr(fresh, column, getattr(self.row, column))
        fresh._change_reason = author.reason
        fresh.save(update_fields=self.columns)


def revise(row: Any, entry: Entry, *, settled: Sequence[str] = ()) -> Edit:
    """Set the row as the entry says, check it, and tell the difference; the edit is empty where there is none.

    Faults go to the entry. `settled` are columns that its check leaves alone.
    """
    is_new = row._state.adding
    fields = entry.shape.fields
    before = {} if is_new else {each.key: each.write(row) for each in fields}
    for column, value in entry.columns.items():
        setattr(row, column, value)
    entry.check(row, settled=settled)
    edit = Edit(entry.path, is_new)
    if entry.unfit:
        return edit
    after = {each.key: each.write(row) for each in fields}
    if is_new:
        edit.lines = [f"{key}: {show(after[key])}" for key in entry.lines if key in after]
        edit.writes = [AddRow(row)]
        return edit
    changed = [each for each in fields if not is_same(before[each.key], after[each.key])]
    shown = [each for each in changed if each.exported] or changed
    edit.lines = [f"{each.key}: {show(before[each.key])} -> {show(after[each.key])}" for each in shown]
    columns = [column for each in changed for column in each.columns if column in entry.columns]
    if columns:
        edit.writes = [ChangeRow(row, list(dict.fromkeys(columns)))]
    return edit


def is_same(one: Any, other: Any) -> bool:
    """As JSON: Python would say that True is 1. PostgreSQL does not keep whether a whole number had a point."""
    return json.dumps(level(one), sort_keys=True) == json.dumps(level(other), sort_keys=True)


def level(value: Any) -> Any:
    """With every number that is whole written as one."""
    if isinstance(value, dict):
        return {key: level(item) for key, item in value.items()}
    if isinstance(value, list):
        return [level(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def show(value: Any) -> str:
    """A value in one line of a difference; a text without quotes where it is clear without."""
    if value is None:
        return "none"
    if isinstance(value, str) and value.strip() == value != "" and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False)
