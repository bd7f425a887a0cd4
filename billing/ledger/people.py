"""Money moved by people, each verb in a transaction of its own, or within the caller's.

LedgerError
  ExceedsCharge   a refund of more than is left of its charge
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from billing.ledger.entries import Duplicate, LedgerError, append_entries
from billing.models import Account, LedgerEntry, RefundedCharge
from billing.money import MICROS, format_amount

#: What `billing.money` can write down: nine digits before the point.
LARGEST_MICROS = 10**9 * MICROS - 1
#: What a refund copies from its charge, so that it can be read alone.
COPIED = ("model", "size", "unit_price_micros", "price_version", "account_price_version", "key_prefix")


class ExceedsCharge(LedgerError):
    """More than is left of the charge."""


def top_up(
    account: Account, *, amount_micros: int, reference: str, memo: str, actor: str, book_at: datetime | None = None
) -> LedgerEntry:
    """Book a payment, now or at a date that a person names. The same reference booked again is the same entry; with
    other facts it is refused."""
    check_amount(amount_micros)
    if amount_micros <= 0:
        raise LedgerError("a top-up must be above zero")
    return book_once(account, make_row(LedgerEntry.Kind.TOP_UP, amount_micros, reference, memo, actor), book_at)


def adjust(
    account: Account, *, amount_micros: int, reference: str, memo: str, actor: str, book_at: datetime | None = None
) -> LedgerEntry:
    """Book a correction of either sign; it may leave the account overdrawn. Idempotent as `top_up` is."""
    check_amount(amount_micros)
    check_memo(memo)
    if amount_micros == 0:
        raise LedgerError("an adjustment must not be zero")
    return book_once(account, make_row(LedgerEntry.Kind.ADJUSTMENT, amount_micros, reference, memo, actor), book_at)


def refund(charge: LedgerEntry, *, amount_micros: int, memo: str, actor: str) -> LedgerEntry:
    """Give a charge back, or a part of it; the key's spend limit and the day's usage stay as they are.

    A charge may be refunded in several parts, so this alone does not know a repetition: `billing.bookings` does.
    """
    check_amount(amount_micros)
    check_memo(memo)
    if charge.kind != LedgerEntry.Kind.CHARGE:
        raise LedgerError(f"entry {charge.sequence} is no charge: only a charge can be refunded")
    if amount_micros <= 0:
        raise LedgerError("a refund must be above zero")
    row = make_row(LedgerEntry.Kind.REFUND, amount_micros, str(charge.pk), memo, actor)
    row |= {name: getattr(charge, name) for name in COPIED}
    with transaction.atomic():
        take_account(charge.account_id)
        return append(charge.account_id, row | {"line": take_from_charge(charge, amount_micros)})


def read_left(charge: LedgerEntry) -> int:
    """Micro-units of a charge that are not refunded yet."""
    given_back = RefundedCharge.objects.filter(charge=charge).values_list("refunded_micros", flat=True).first()
    return -charge.amount_micros - (given_back or 0)


def take_account(account_id: int) -> None:
    """Take the account's row until the transaction ends: whoever books for this account waits here."""
    Account.objects.filter(pk=account_id).update(sequence=F("sequence"))


def take_from_charge(charge: LedgerEntry, amount_micros: int) -> int:
    """Count this much of a charge as refunded; the refund's ordinal, from 0. The row alone decides what is left."""
    first = RefundedCharge(charge=charge, charged_micros=-charge.amount_micros)
    RefundedCharge.objects.bulk_create([first], ignore_conflicts=True)
    row = RefundedCharge.objects.filter(charge=charge)
    enough = row.filter(refunded_micros__lte=F("charged_micros") - amount_micros)
    if not enough.update(refunded_micros=F("refunded_micros") + amount_micros, refunds=F("refunds") + 1):
        left = format_amount(read_left(charge))
        raise ExceedsCharge(f"¥{format_amount(amount_micros)} is more than is left of this charge: ¥{left}")
    return row.values_list("refunds", flat=True).get() - 1


def book_once(account: Account, row: dict[str, Any], book_at: datetime | None) -> LedgerEntry:
    """The entry of this reference: booked now, or before with the same facts."""
    with transaction.atomic():
        # The account's row first: two that book one reference meet here, and the second then sees the first's entry.
        take_account(account.pk)
        existing = LedgerEntry.objects.filter(kind=row["kind"], reference=row["reference"], line=0).first()
        if existing is None:
            return append(account.pk, row | {"booked_at": book_at})
        facts = (existing.account_id, existing.amount_micros, existing.booked_at)
        if facts != (account.pk, row["amount_micros"], book_at or existing.booked_at):
            raise Duplicate(f"the reference {row['reference']!r} is booked already, with another amount or account")
        return existing


def append(account_id: int, row: dict[str, Any]) -> LedgerEntry:
    append_entries(connection, {account_id: [row]}, {})
    return LedgerEntry.objects.get(kind=row["kind"], reference=row["reference"], line=row["line"])


def make_row(kind: str, amount_micros: int, reference: str, memo: str, actor: str) -> dict[str, Any]:
    row = {"kind": kind, "amount_micros": amount_micros, "reference": reference, "line": 0, "booked_at": None}
    row |= {name: getattr(LedgerEntry(), name) for name in COPIED}
    return row | {"memo": memo[:200], "actor": actor[:150]}


def check_amount(amount_micros: int) -> None:
    if type(amount_micros) is not int or abs(amount_micros) > LARGEST_MICROS:
        raise LedgerError(f"{amount_micros!r} is not an amount: whole micro-units below a billion CNY are")


def check_memo(memo: str) -> None:
    if not memo.strip():
        raise LedgerError("a memo is required: it says why, for years")
