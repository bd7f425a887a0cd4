"""Offers: for each channel the whole list of what it serves. One that leaves the list is disabled, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crazyrouter.management.configuration import document
from crazyrouter.management.configuration.catalog import Catalog
from crazyrouter.management.configuration.channels import Channels
from crazyrouter.management.configuration.document import Item, Node
from crazyrouter.management.configuration.edits import Author, ChangeRow, Edit, revise
from crazyrouter.management.configuration.entries import MOVED, Entry, Shape, read_entry, read_list
from crazyrouter.management.configuration.faults import Faults, Unfit, suggest
from crazyrouter.management.configuration.fields import Column, Cost
from crazyrouter.management.configuration.values import INTEGER, SMALL, Choice, Flag, Number, SizeList, Text
from providers.adapters import get_adapter_class, kinds
from providers.forms import find_trial_faults
from providers.health import restart_canary
from providers.models import Channel, Offer
from providers.sizes import find_size_faults

OFFER = Shape(
    "offer",
    fields=(
        Column("upstream_model", Text()),
        Column("shape", Choice("shape", lambda: Offer.Shape.values)),
        Column("enabled", Flag()),
        Column("priority", Number(-INTEGER - 1, INTEGER)),
        Column("weight", Number(0, INTEGER)),
        Column("max_n", Number(1, SMALL)),
        Cost(),
        Column("genuine", Flag()),
        Column("sizes", SizeList()),
        Column("canary_percent", Number(1, 100, optional=True)),
        Column("canary_min_success", Number(0, 100, optional=True)),
        Column("canary_max_latency_s", Number(0, INTEGER, optional=True)),
        Column("shadow_percent", Number(1, 100, optional=True)),
        Column("shadow_per_day", Number(0, INTEGER)),
    ),
    parts=("model",),
    refused={"canary_fallen_at": MOVED, "canary_fallen_reason": MOVED, "health": MOVED, "circuit": MOVED},
)


@dataclass(frozen=True, slots=True)
class RestartCanary:
    offer: Offer

    def run(self, author: Author) -> None:
        restart_canary(self.offer, actor=author.actor)


#: What makes an offer the same one, within its channel: the public model and the carrier's name for it.
Identity = tuple[str, str]


@dataclass(slots=True)
class Planner:
    """The offers of one channel. `known` are those that it has, `lines` those that the file has named so far."""

    channel: Channel
    entry: Entry
    catalog: Catalog
    known: Mapping[Identity, Offer]
    lines: dict[Identity, int]
    edits: list[Edit]
    notes: Faults

    def plan(self, nodes: list[Node]) -> None:
        for number, node in enumerate(nodes, start=1):
            self._plan_one(node, number)
        if not self.entry.faults:
            self.edits += [self._disable(key) for key in self.known if key not in self.lines]

    def _plan_one(self, node: Node, number: int) -> None:
        path = f"{self.entry.path}.offers[{peek_model(node) or number}]"
        entry = read_entry(Item(node.line, node), path=path, shape=OFFER, faults=self.entry.faults)
        model = read_model(entry, self.catalog) if entry else None
        if entry is None or model is None or "upstream_model" in entry.unfit:
            return
        upstream = entry.columns.setdefault("upstream_model", model)
        entry.path = self._name(model, upstream)
        if (model, upstream) in self.lines:
            first = self.lines[model, upstream]
            entry.blame("model", f"{model} as {upstream} is offered by this channel in line {first} already")
            return
        self.lines[model, upstream] = entry.line
        row = self.known.get((model, upstream)) or self._make(entry, model, upstream)
        self._check_roles(entry, row)
        share = row.canary_percent
        edit = revise(row, entry, settled=["channel", "model"])
        self._check_sizes(entry, row, model)
        self._restart(row, edit, share=share)
        self._note(entry, row, restarted=row.canary_percent != share)
        self.edits.append(edit)

    def _name(self, model: str, upstream: str) -> str:
        return f"{self.entry.path}.offers[{model}{'' if upstream == model else f' as {upstream}'}]"

    def _make(self, entry: Entry, model: str, upstream: str) -> Offer:
        """A new one; its shape follows from the adapter."""
        if self.channel.kind in kinds():
            entry.columns.setdefault("shape", str(get_adapter_class(self.channel.kind).shape))
        elif "shape" not in entry.columns:
            entry.unfit.add("shape")  # the channel's kind is named already
        return Offer(channel=self.channel, model=self.catalog.rows[model], upstream_model=upstream)

    def _check_roles(self, entry: Entry, row: Offer) -> None:
        percents = (entry.columns.get(key, getattr(row, key)) for key in ("canary_percent", "shadow_percent"))
        if None not in percents:
            key = "shadow_percent" if "shadow_percent" in entry.lines else "canary_percent"
            entry.blame(key, "contradiction: an offer is a canary or a shadow, not both")

    def _check_sizes(self, entry: Entry, row: Offer, model: str) -> None:
        """For a model of the same file, whose sizes the offer's own check cannot know."""
        foreseen = self.catalog.foreseen.get(model)
        if row.model_id is None and row.sizes and foreseen is not None and "sizes" not in entry.unfit:
            for fault in find_size_faults(row.sizes, foreseen):
                entry.blame("sizes", fault)

    def _restart(self, row: Offer, edit: Edit, *, share: int | None) -> None:
        """As in the admin: another share is another trial, and none at all has not fallen back."""
        if row.canary_fallen_at is not None and row.canary_percent != share:
            edit.lines.append(
                f"canary: fell back, starts anew (it was: {row.canary_fallen_reason or 'no reason kept'})"
            )
            edit.writes.append(RestartCanary(row))

    def _note(self, entry: Entry, row: Offer, *, restarted: bool) -> None:
        """What does not contradict itself, and still does nothing."""
        if not row.enabled and "enabled" not in entry.lines:
            self.notes.add(entry.line, entry.path, "is disabled; `enabled: true` would bring it back")
        if row.canary_fallen_at is not None and not restarted:
            self.notes.add(entry.line, entry.path, "its canary fell back, and it serves nobody until it is restarted")
        for key, said in find_trial_faults({each.key: getattr(row, each.key, None) for each in OFFER.fields}):
            if entry.lines.keys() & {key, "canary_percent", "shadow_percent"}:
                self.notes.add(entry.lines.get(key, entry.line), f"{entry.path}.{key}", said)

    def _disable(self, key: Identity) -> Edit:
        row = self.known[key]
        edit = Edit(self._name(*key), is_new=False)
        if row.enabled:
            row.enabled = False
            edit.lines = ["enabled: true -> false (it is not in the list)"]
            edit.writes = [ChangeRow(row, ["enabled"])]
        return edit


def plan_offers(channels: Channels, catalog: Catalog, *, notes: Faults) -> list[Edit]:
    """What must be written for each channel that has a list to offer what the list says."""
    known = load_offers(catalog)
    edits: list[Edit] = []
    for name, entry in channels.entries.items():
        if "offers" in entry.parts:
            item = entry.parts["offers"]
            nodes = read_list(item, path=f"{entry.path}.offers", what="offers", faults=entry.faults)
            if nodes is not None:
                Planner(channels.rows[name], entry, catalog, known.get(name, {}), {}, edits, notes).plan(nodes)
    return edits


def load_offers(catalog: Catalog) -> dict[str, dict[Identity, Offer]]:
    """By channel and identity, with the models as the file will leave them."""
    found: dict[str, dict[Identity, Offer]] = {}
    for row in Offer.objects.select_related("channel", "model").order_by("id"):
        row.model = catalog.rows[row.model.name]
        found.setdefault(row.channel.name, {})[row.model.name, row.upstream_model] = row
    return found


def peek_model(node: Node) -> str:
    """What the entry is about, for the words about it; empty where it does not say."""
    item = node.items.get("model") if isinstance(node, document.Mapping) else None
    return item.node.text if item and isinstance(item.node, document.Scalar) else ""


def read_model(entry: Entry, catalog: Catalog) -> str | None:
    item = entry.parts.get("model")
    if item is None:
        entry.require("model")
        return None
    try:
        name = Text().read(item.node)
    except Unfit as unfit:
        entry.blame("model", str(unfit))
        return None
    if name in catalog.rows:
        return name
    known = suggest(name, catalog.rows)
    entry.blame("model", f"there is no model {name!r}, neither in the file nor in the database{known}")
    return None


def export_offers() -> dict[str, list[dict[str, Any]]]:
    """By the names of channels."""
    found: dict[str, list[dict[str, Any]]] = {}
    rows = Offer.objects.select_related("channel", "model")
    for row in sorted(rows, key=lambda row: (row.model.name, row.upstream_model)):
        fields = {each.key: each.write(row) for each in OFFER.fields}
        found.setdefault(row.channel.name, []).append({"model": row.model.name} | fields)
    return found
