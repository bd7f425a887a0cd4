"""Lines of charges and of the ledger: one an entry, in the order of the books."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any

from billing.csvtext import Cell, Number, write_amount
from billing.exports.plans import Plan, Share
from billing.models import LedgerEntry
from billing.periods import name_month

#: Entries read at once: some megabytes.
PAGE = 4000

CHARGES_HEADER = (
    "account_id",
    "account",
    "sequence",
    "entry_id",
    "booked_at",
    "generation_id",
    "slot",
    "model",
    "size",
    "unit_price",
    "amount",
    "currency",
    "price_version",
    "account_price_version",
    "key_prefix",
)

LEDGER_HEADER = (
    "account_id",
    "account",
    "sequence",
    "entry_id",
    "booked_at",
    "kind",
    "amount",
    "balance_after",
    "currency",
    "reference",
    "line",
    "model",
    "size",
    "unit_price",
    "price_version",
    "account_price_version",
    "key_prefix",
    "memo",
    "actor",
    "corrects_generation_id",
    "corrects_slot",
    "corrects_month",
)

COLUMNS = (
    "sequence",
    "id",
    "booked_at",
    "kind",
    "amount_micros",
    "balance_after_micros",
    "currency",
    "reference",
    "line",
    "model",
    "size",
    "unit_price_micros",
    "price_version",
    "account_price_version",
    "key_prefix",
    "memo",
    "actor",
)

Entry = tuple[Any, ...]
#: Of a refund: the generation, the slot and the month of the charge that it gives back; else three empty cells.
Correction = tuple[Cell, Cell, Cell]
NOTHING: Correction = ("", "", "")


def write_charges(plan: Plan) -> Iterator[Sequence[Cell]]:
    for share in plan.shares:
        for page in read_pages(share, kind=LedgerEntry.Kind.CHARGE):
            yield from render_charges(share, page)


def render_charges(share: Share, page: Sequence[Entry]) -> Iterator[Sequence[Cell]]:
    account_id, account, zone = share.account_id, share.account, share.zone
    # fmt: off
    for (sequence, pk, booked_at, _, amount, _, currency, reference, line, model, size,
         price, version, agreed, key, _, _) in page:
        yield (
            account_id, account, sequence, pk, write_time(booked_at, zone), reference, line, model, size,
            write_price(price), write_price(-amount), currency,
            "" if version is None else version, "" if agreed is None else agreed, key,
        )
    # fmt: on


def write_ledger(plan: Plan) -> Iterator[Sequence[Cell]]:
    for share in plan.shares:
        for page in read_pages(share):
            yield from render_ledger(share, page)


def render_ledger(share: Share, page: Sequence[Entry]) -> Iterator[Sequence[Cell]]:
    account_id, account, zone = share.account_id, share.account, share.zone
    corrected = find_corrected((row[7] for row in page if row[3] == LedgerEntry.Kind.REFUND), zone)
    # fmt: off
    for (sequence, pk, booked_at, kind, amount, balance, currency, reference, line, model, size,
         price, version, agreed, key, memo, actor) in page:
        yield (
            account_id, account, sequence, pk, write_time(booked_at, zone), kind,
            write_amount(amount), write_amount(balance), currency, reference, line, model, size,
            write_price(price), "" if version is None else version, "" if agreed is None else agreed,
            key, memo, actor, *(corrected.get(reference, NOTHING) if kind == LedgerEntry.Kind.REFUND else NOTHING),
        )
    # fmt: on


def read_pages(share: Share, *, kind: str = "") -> Iterator[Sequence[Entry]]:
    """The share's entries, a page at a time, each page a short query by number.

    The period is looked at here: in the query it would tempt a planner to sort the whole period for every page.
    Few numbers between the first and the last are of another period: only where a person has named a date.
    """
    entries = LedgerEntry.objects.filter(account_id=share.account_id, sequence__lte=share.last).order_by("sequence")
    if kind:
        entries = entries.filter(kind=kind)
    starts_at, ends_at, after = share.period.starts_at, share.period.ends_at, share.first - 1
    while page := list(entries.filter(sequence__gt=after).values_list(*COLUMNS)[:PAGE]):
        after = page[-1][0]
        yield [row for row in page if starts_at <= row[2] < ends_at]


def find_corrected(references: Iterable[str], zone: tzinfo) -> dict[str, Correction]:
    """By the reference of a refund, which is the id of its charge."""
    ids = {int(reference) for reference in references if reference.isdecimal()}
    charges = LedgerEntry.objects.filter(pk__in=ids, kind=LedgerEntry.Kind.CHARGE)
    return {
        str(pk): (generation, slot, name_month(booked_at.astimezone(zone)))
        for pk, generation, slot, booked_at in charges.values_list("pk", "reference", "line", "booked_at")
    }


def write_time(moment: datetime, zone: tzinfo) -> Number:
    """ISO 8601 with the zone's offset at that moment, to the microsecond."""
    return Number(moment.astimezone(zone).isoformat(timespec="microseconds"))


@lru_cache(maxsize=1000)
def write_price(micros: int | None) -> Cell:
    """An amount that many entries share."""
    return "" if micros is None else write_amount(micros)
