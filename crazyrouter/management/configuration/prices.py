"""Prices of a model: what holds now, and changes to come. Versions are appended, never edited.

The file holds a time line: `price` up to the first of `price_changes`, then each from its moment on. So a file goes on
being right when one of its changes has begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from billing.money import format_amount
from crazyrouter.management.configuration import document
from crazyrouter.management.configuration.document import Item, Node
from crazyrouter.management.configuration.edits import Author, Edit
from crazyrouter.management.configuration.entries import Entry, read_list
from crazyrouter.management.configuration.faults import Unfit
from crazyrouter.management.configuration.values import Amount, Moment, quote
from models_registry.models import ImageModel, Price

CHANGE = ("from", "price")


@dataclass(frozen=True, slots=True)
class TimeLine:
    """What a file wants, or what a database has: micro-CNY now, and from when on what else."""

    now: int | None
    later: Mapping[datetime, int]


@dataclass(frozen=True, slots=True)
class AppendPrice:
    """`effective_from` None is the moment of writing."""

    model: ImageModel
    amount_micros: int
    effective_from: datetime | None = None

    def run(self, author: Author) -> None:
        Price.objects.create(
            model=self.model,
            amount_micros=self.amount_micros,
            effective_from=self.effective_from or timezone.now(),
            reason=author.reason,
            actor=author.actor,
        )


def load_time_lines(now: datetime) -> dict[int, TimeLine]:
    """By model id. Of two versions from the same moment the one that was appended last holds."""
    current: dict[int, int] = {}
    later: dict[int, dict[datetime, int]] = {}
    for price in Price.objects.order_by("effective_from", "id"):
        if price.effective_from <= now:
            current[price.model_id] = price.amount_micros
        else:
            later.setdefault(price.model_id, {})[price.effective_from] = price.amount_micros
    return {pk: TimeLine(current.get(pk), later.get(pk, {})) for pk in current.keys() | later.keys()}


def plan_prices(entry: Entry, model: ImageModel, edit: Edit, *, known: TimeLine, now: datetime) -> None:
    """Add to the edit what must be appended for the file's time line to hold."""
    wanted = read_time_line(entry, now)
    if wanted.now is not None and wanted.now != known.now:
        edit.lines.append(tell("price", known.now, wanted.now))
        edit.writes.append(AppendPrice(model, wanted.now))
    for moment, micros in sorted(wanted.later.items()):
        if known.later.get(moment) != micros:
            edit.lines.append(tell(f"price from {Moment().write(moment)}", known.later.get(moment), micros))
            edit.writes.append(AppendPrice(model, micros, moment))


def tell(what: str, before: int | None, after: int) -> str:
    replaced = "" if before is None else f"{format_amount(before)} -> "
    return f"{what}: {replaced}{format_amount(after)}"


def find_strangers(entry: Entry, known: TimeLine, now: datetime) -> list[datetime]:
    """Changes that the database holds and the file, which speaks of prices, does not know."""
    if not {"price", "price_changes"} & entry.parts.keys():
        return []
    return sorted(known.later.keys() - read_time_line(entry, now).later.keys())


def read_time_line(entry: Entry, now: datetime) -> TimeLine:
    """What cannot be read goes to the entry's faults."""
    price, changes = read_price(entry), read_changes(entry)
    begun = [moment for moment in changes if moment <= now]
    return TimeLine(
        changes[max(begun)] if begun else price, {moment: micros for moment, micros in changes.items() if moment > now}
    )


def read_price(entry: Entry) -> int | None:
    item = entry.parts.get("price")
    if item is None:
        return None
    try:
        return Amount().read(item.node)
    except Unfit as unfit:
        entry.blame("price", str(unfit))
        return None


def read_changes(entry: Entry) -> dict[datetime, int]:
    item = entry.parts.get("price_changes")
    if item is None:
        return {}
    path = f"{entry.path}.price_changes"
    nodes = read_list(item, path=path, what="changes", faults=entry.faults) or []
    changes: dict[datetime, int] = {}
    for number, node in enumerate(nodes, start=1):
        try:
            moment, micros = read_change(node, known=changes)
            changes[moment] = micros
        except Unfit as unfit:
            entry.blame("price_changes", str(unfit), line=unfit.line or node.line, below=f"[{number}]{unfit.below}")
    return changes


def read_change(node: Node, *, known: Mapping[datetime, int]) -> tuple[datetime, int]:
    """Raises Unfit."""
    if not isinstance(node, document.Mapping) or set(node.items) != set(CHANGE):
        raise Unfit(f'write {{from: 2027-01-31, price: "0.25"}}, not {quote(node)}')
    moment = read_part(node.items, "from", Moment())
    if moment in known:
        raise Unfit(f"a second price from {Moment().write(moment)} on")
    return moment, read_part(node.items, "price", Amount())


def read_part(items: Mapping[str, Item], key: str, kind: Any) -> Any:
    try:
        return kind.read(items[key].node)
    except Unfit as unfit:
        raise Unfit(str(unfit), line=items[key].line, below=f".{key}") from unfit


def export_prices(known: TimeLine) -> dict[str, Any]:
    """The keys of a model's entry; without a price there are none."""
    found: dict[str, Any] = {} if known.now is None else {"price": format_amount(known.now)}
    if known.later:
        found["price_changes"] = [
            {"from": Moment().write(moment), "price": format_amount(micros)}
            for moment, micros in sorted(known.later.items())
        ]
    return found


def describe_prices() -> dict[str, Any]:
    """As JSON Schema."""
    change = {
        "type": "object",
        "properties": {"from": Moment().describe(), "price": Amount().describe()},
        "required": list(CHANGE),
        "additionalProperties": False,
    }
    return {"price": Amount().describe(), "price_changes": {"type": "array", "items": change}}
