"""Channels, by name: how a carrier is reached, with which credential, and what it offers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from crazyrouter.management.configuration.document import Item
from crazyrouter.management.configuration.edits import Author, ChangeRow, Edit, revise
from crazyrouter.management.configuration.entries import MOVED, Entry, Shape, find_named, read_entry, read_named
from crazyrouter.management.configuration.faults import Faults, Unfit
from crazyrouter.management.configuration.fields import Column, Reference
from crazyrouter.management.configuration.secrets import Secret, name_secrets, read_secret
from crazyrouter.management.configuration.values import SMALL, Choice, Flag, Number, Options, Text
from providers.adapters import find_option_faults, kinds
from providers.credentials import CredentialUnreadable
from providers.egress import EgressRefused, Guard, parse
from providers.models import Channel, Credential, UpstreamAccount, add_credential

DISABLED = "disabled by config"

CHANNEL = Shape(
    "channel",
    fields=(
        Column("kind", Choice("kind of channel", kinds)),
        Column("base_url", Text()),
        Reference("account"),
        Column("enabled", Flag()),
        Column("disabled_reason", Text()),
        Column("simulated", Flag()),
        Column("retry_billed", Number(0, SMALL)),
        Column("options", Options()),
        Column("note", Text()),
    ),
    parts=("credential", "offers"),
    refused={
        "draining_since": MOVED,
        "credentials": "is written `credential: ${NAME}`",
        "secret": "is written `credential: ${NAME}`",
    },
)


@dataclass(slots=True)
class Channels:
    """The channels as they will be, by name, and the entries that the file has for them."""

    rows: dict[str, Channel]
    entries: dict[str, Entry] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AppendCredential:
    channel: Channel
    secret: Secret

    def run(self, author: Author) -> None:
        add_credential(self.channel, self.secret.value)


def plan_channels(
    section: Item | None, *, accounts: dict[str, UpstreamAccount], faults: Faults, notes: Faults
) -> Channels:
    """What must be written for the channels to be as the section says; their offers are planned apart."""
    channels = Channels({row.name: row for row in Channel.objects.select_related("account")})
    for name, item in read_named(section, path="channels", what="channel", faults=faults).items():
        row = channels.rows.setdefault(name, Channel(name=name))
        entry = read_entry(item, path=f"channels.{name}", shape=CHANNEL, faults=faults)
        if entry is not None:
            channels.entries[name] = entry
            channels.edits.append(plan_channel(entry, row, accounts=accounts, notes=notes))
    return channels


def plan_channel(entry: Entry, row: Channel, *, accounts: dict[str, UpstreamAccount], notes: Faults) -> Edit:
    if row._state.adding:
        entry.require("kind", "base_url")
    elif "kind" in entry.columns and entry.columns["kind"] != row.kind:
        del entry.columns["kind"]
        entry.blame("kind", f"{row.name} is {row.kind} and stays it, for its calls that run: make a new channel")
    find_named(entry, "account", accounts, what="upstream account")
    check_address(entry, notes)
    switched = decide_enabled(entry, row)
    edit = revise(row, entry, settled=["account"])
    check_options(entry, row)
    if switched:
        # Whoever switches a channel by hand ends its draining, too.
        row.draining_since = None
        edit.writes = [
            replace(write, columns=[*write.columns, "draining_since"]) if isinstance(write, ChangeRow) else write
            for write in edit.writes
        ]
    elif not row.enabled and "enabled" not in entry.lines:
        said = f"is disabled ({row.disabled_reason or 'no reason given'}); `enabled: true` would bring it back"
        notes.add(entry.line, entry.path, said)
    elif row.draining_since is not None:
        notes.add(entry.line, entry.path, "is draining: nothing new is sent to it")
    plan_credential(entry, row, edit, notes=notes)
    return edit


def check_address(entry: Entry, notes: Faults) -> None:
    """No secret hides in an address; one that no call may go to is worth a note, since processes may allow it."""
    url = entry.columns.get("base_url")
    if url is None:
        return
    try:
        parts = urlsplit(url)
        hidden = "@" in parts.netloc or parts.query or parts.fragment
    except ValueError:
        entry.blame("base_url", "is not an address")
        return
    if parts.scheme not in ("http", "https"):
        entry.blame("base_url", "begins with https:// (or http:// for a carrier on this machine)")
    elif hidden:
        entry.blame("base_url", "has only scheme, host, port and path: a key is written `credential: ${NAME}`")
    else:
        note_egress(entry, url, notes)


def note_egress(entry: Entry, url: str, notes: Faults) -> None:
    try:
        Guard(settings.EGRESS_ALLOW).judge(parse(url))
    except EgressRefused as refused:
        notes.add(entry.lines["base_url"], f"{entry.path}.base_url", f"{refused} (EGRESS_ALLOW opens more)")


def check_options(entry: Entry, row: Channel) -> None:
    if row.kind not in kinds() or not isinstance(row.options, dict) or "options" in entry.unfit:
        return
    for fault in find_option_faults(row.kind, row.options):
        entry.blame("options", fault)


def decide_enabled(entry: Entry, row: Channel) -> bool:
    """Whether the channel is switched on or off; its reason goes with it."""
    if "enabled" in entry.unfit or "disabled_reason" in entry.unfit:
        return False
    enabled = entry.columns.get("enabled", row.enabled)
    reason = entry.columns.get("disabled_reason")
    if enabled and reason:
        entry.blame("disabled_reason", "only a channel that is disabled has a reason for it")
    switched: bool = not row._state.adding and enabled != row.enabled
    if enabled and switched:
        entry.columns["disabled_reason"] = ""
    elif not enabled and reason is None and (switched or row._state.adding):
        entry.columns["disabled_reason"] = DISABLED
    return switched


def plan_credential(entry: Entry, row: Channel, edit: Edit, *, notes: Faults) -> None:
    newest = None if row._state.adding else Credential.objects.filter(channel=row).order_by("-id").first()
    item = entry.parts.get("credential")
    if item is None:
        if newest is None and row.enabled:
            notes.add(entry.line, entry.path, "has no credential: nothing is sent to it until it has one")
        return
    try:
        secret = read_secret(item.node)
    except Unfit as unfit:
        entry.blame("credential", str(unfit))
        return
    if newest is None or reveal(newest) != secret.value:
        edit.lines.append(f"credential: {'a new one' if newest else 'one'}, from ${{{secret.name}}}")
        edit.writes.append(AppendCredential(row, secret))


def reveal(credential: Credential) -> str | None:
    """None where no key of ours opens it: then it cannot be used either, and any secret is better."""
    try:
        return credential.reveal()
    except CredentialUnreadable:
        return None


def export_channels() -> dict[str, Any]:
    """Without the offers; a channel that is enabled has no reason to be disabled."""
    rows = sorted(Channel.objects.select_related("account"), key=lambda row: row.name)
    keyed = set(Credential.objects.values_list("channel_id", flat=True))
    names = name_secrets(row.name for row in rows)
    return {row.name: export_channel(row, names[row.name] if row.pk in keyed else None) for row in rows}


def export_channel(row: Channel, secret: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in CHANNEL.fields:
        if each.key != "disabled_reason" or not row.enabled:
            found[each.key] = each.write(row)
        if each.key == "account" and secret is not None:
            found["credential"] = f"${{{secret}}}"
    return found
