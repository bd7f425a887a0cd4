"""From a file to the database: read, plan, and write all of it or nothing.

NotApplied      there was no way; nothing was written
"""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from crazyrouter.management.configuration.accounts import plan_accounts
from crazyrouter.management.configuration.catalog import plan_models
from crazyrouter.management.configuration.channels import plan_channels
from crazyrouter.management.configuration.document import Item, Mapping, Scalar, read_document, read_plain
from crazyrouter.management.configuration.edits import Author, ChangeRow, Edit, Overtaken, Write
from crazyrouter.management.configuration.families import plan_families
from crazyrouter.management.configuration.faults import Fault, Faults, suggest
from crazyrouter.management.configuration.offers import plan_offers
from crazyrouter.sql import open_read_only_snapshot
from providers.models import Capacity, UpstreamAccount

VERSION = 1
SECTIONS = ("families", "models", "accounts", "channels")
#: Of one apply. What gets in its way is another writer, and there is not always one.
TRIES = 3
#: SQLSTATE of a deadlock and of a failed serialization: the database has undone everything and asks to be asked again.
AGAIN = {"40P01", "40001"}


class NotApplied(Exception):
    """The message says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file means for the database as it is. With faults there are no edits."""

    edits: list[Edit]
    faults: list[Fault]
    notes: list[Fault]

    def count(self) -> tuple[int, int, int]:
        """Subjects to be made, to be changed, and as they should be."""
        made = sum(edit.is_new for edit in self.edits)
        changed = sum(bool(edit.writes) and not edit.is_new for edit in self.edits)
        return made, changed, len(self.edits) - made - changed

    def list_writes(self) -> list[Write]:
        """In the order in which rows need each other; last, by id, those that traffic waits for while they are held."""
        return sorted((write for edit in self.edits for write in edit.writes), key=find_place)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that has been read: what it holds, and what is wrong with it whatever the database says."""

    document: Mapping | None
    faults: list[Fault]


def read_source(data: bytes) -> Source:
    faults = Faults()
    return Source(read_document(data, faults), faults.list())


def preview(data: bytes) -> Plan:
    """What `apply` would do."""
    return preview_source(read_source(data))


def preview_source(source: Source) -> Plan:
    """In one snapshot that cannot be written to."""
    with open_read_only_snapshot(connection):
        return make_plan(source)


def apply(data: bytes, *, author: Author) -> Plan:
    """Write what the file says, all of it or nothing; the plan that was carried out. Raises NotApplied.

    A file with faults, or one that changes nothing, keeps no writer waiting.
    """
    source = read_source(data)
    plan = preview_source(source)
    if not plan.list_writes():
        return plan
    for left in reversed(range(TRIES)):
        try:
            return apply_once(source, author=author)
        except (Overtaken, IntegrityError) as error:
            if not left:
                raise NotApplied(f"the database is changing meanwhile: {error}") from error
        except DatabaseError as error:
            if not left or getattr(error.__cause__, "sqlstate", "") not in AGAIN:
                raise NotApplied(f"the database refused: {error}") from error
    raise AssertionError("the last try returns or raises")


def apply_once(source: Source, *, author: Author) -> Plan:
    with transaction.atomic():
        wait_for_turn()
        plan = make_plan(source)
        carry_out(plan, author)
    return plan


def carry_out(plan: Plan, author: Author) -> None:
    for write in plan.list_writes():
        write.run(author)


def wait_for_turn() -> None:
    """One apply at a time: two would both append the price that each finds missing.

    The lock is on a row that every database has and nobody else locks. SQLite's one writer waits already.
    """
    list(ContentType.objects.select_for_update(no_key=True).filter(app_label="providers", model="channel"))


def make_plan(source: Source) -> Plan:
    """Compare the file with the database, and write nothing."""
    faults, notes = Faults(source.faults), Faults()
    sections = read_sections(source.document, faults) if source.document else {}
    families = plan_families(sections.get("families"), faults=faults)
    catalog = plan_models(
        sections.get("models"), families=families.rows, now=timezone.now(), faults=faults, notes=notes
    )
    accounts = plan_accounts(sections.get("accounts"), faults=faults)
    channels = plan_channels(sections.get("channels"), accounts=accounts.rows, faults=faults, notes=notes)
    offers = plan_offers(channels, catalog, notes=notes)
    if faults:
        return Plan([], faults.list(), [])
    return Plan([*families.edits, *catalog.edits, *accounts.edits, *channels.edits, *offers], [], notes.list())


def find_place(write: Write) -> tuple[int, int]:
    """Every task query asks its account's row, and every submit a capacity's."""
    if isinstance(write, ChangeRow) and isinstance(write.row, UpstreamAccount | Capacity):
        return (1 if isinstance(write.row, UpstreamAccount) else 2), write.row.pk
    return 0, 0


def read_sections(document: Mapping, faults: Faults) -> dict[str, Item]:
    for key, item in document.items.items():
        if key not in ("schema", *SECTIONS):
            faults.add(item.line, key, f"not a section{suggest(key, SECTIONS)}")
    check_version(document, faults)
    return {key: item for key, item in document.items.items() if key in SECTIONS}


def check_version(document: Mapping, faults: Faults) -> None:
    item = document.items.get("schema")
    if item is None:
        faults.add(document.line, "schema", f"is missing: write `schema: {VERSION}`")
    elif not isinstance(item.node, Scalar) or read_plain(item.node) != VERSION:
        faults.add(item.line, "schema", f"this version of the product reads schema {VERSION} and no other")
