"""Upstream accounts and what each can take: `accounts`, by name, with their capacities by the carrier's model names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from crazyrouter.management.configuration.document import Item
from crazyrouter.management.configuration.edits import Edit, revise
from crazyrouter.management.configuration.entries import MOVED, Entry, Shape, read_entry, read_named
from crazyrouter.management.configuration.faults import Faults
from crazyrouter.management.configuration.fields import Column, Submits
from crazyrouter.management.configuration.values import INTEGER, SMALL, Number, Text
from providers.models import Capacity, UpstreamAccount

ACCOUNT = Shape(
    "upstream account",
    fields=(Column("polls_per_s", Number(1, SMALL, optional=True)), Column("note", Text())),
    parts=("capacities", "other_models"),
    refused={"polls_reserved_until_ms": MOVED},
)
CAPACITY = Shape(
    "capacity",
    fields=(
        Submits(),
        Column("submit_interval_ms", Number(1, INTEGER, optional=True), exported=False),
        Column("submit_burst", Number(1, 100), exported=False),
        Column("max_running", Number(1, INTEGER, optional=True)),
    ),
    refused={"starts": MOVED, "running": MOVED, "call_ms": MOVED},
)


@dataclass(slots=True)
class Accounts:
    """The accounts as they will be, by name."""

    rows: dict[str, UpstreamAccount]
    edits: list[Edit] = field(default_factory=list)


def plan_accounts(section: Item | None, *, faults: Faults) -> Accounts:
    """What must be written for the accounts to be as the section says."""
    accounts = Accounts({row.name: row for row in UpstreamAccount.objects.all()})
    capacities = {(row.account_id, row.upstream_model): row for row in Capacity.objects.all()}
    for name, item in read_named(section, path="accounts", what="upstream account", faults=faults).items():
        row = accounts.rows.setdefault(name, UpstreamAccount(name=name))
        entry = read_entry(item, path=f"accounts.{name}", shape=ACCOUNT, faults=faults)
        if entry is None:
            continue
        accounts.edits.append(revise(row, entry))
        for model, path, part in list_capacities(entry):
            limit = read_entry(part, path=path, shape=CAPACITY, faults=faults)
            if limit is not None:
                known = capacities.get((row.pk, model)) or Capacity(account=row, upstream_model=model)
                accounts.edits.append(revise(known, limit, settled=["account"]))
    return accounts


def list_capacities(entry: Entry) -> Iterator[tuple[str, str, Item]]:
    """Upstream model (empty for all others), path and part."""
    path = f"{entry.path}.capacities"
    named = read_named(entry.parts.get("capacities"), path=path, what="upstream model", faults=entry.faults)
    for model, part in named.items():
        if model:
            yield model, f"{path}.{model}", part
        else:
            entry.faults.add(part.line, path, "a model has a name; all others are `other_models`")
    if "other_models" in entry.parts:
        yield "", f"{entry.path}.other_models", entry.parts["other_models"]


def export_accounts() -> dict[str, Any]:
    rows = UpstreamAccount.objects.prefetch_related("capacities")
    return {row.name: export_account(row) for row in sorted(rows, key=lambda row: row.name)}


def export_account(row: UpstreamAccount) -> dict[str, Any]:
    found = {each.key: each.write(row) for each in ACCOUNT.fields}
    limits = {capacity.upstream_model: export_capacity(capacity) for capacity in row.capacities.all()}
    others = {"other_models": limits.pop("")} if "" in limits else {}
    return found | {"capacities": {model: limits[model] for model in sorted(limits)}} | others


def export_capacity(row: Capacity) -> dict[str, Any]:
    return {each.key: each.write(row) for each in CAPACITY.fields if each.exported}
