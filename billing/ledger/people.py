"""Money moved by people, each verb in a transaction of its own."""

from __future__ import annotations

from django.db import connection, transaction
from django.db.models import F

from billing.ledger.entries import Duplicate, LedgerError, append_entries
from billing.models import Account, LedgerEntry


def top_up(account: Account, *, amount_micros: int, reference: str, memo: str, actor: str) -> LedgerEntry:
    """Book a payment. The same reference booked again is the same entry; with other facts it is refused."""
    if amount_micros <= 0:
        raise LedgerError("a top-up must be above zero")
    row = {
        "kind": LedgerEntry.Kind.TOP_UP,
        "amount_micros": amount_micros,
        "reference": reference,
        "line": 0,
        "model": "",
        "size": "",
        "unit_price_micros": None,
        "price_version": None,
        "key_prefix": "",
        "memo": memo[:200],
        "actor": actor[:150],
    }
    with transaction.atomic():
        # The account's row first: two that book one reference meet here, and the second then sees the first's entry.
        Account.objects.filter(pk=account.pk).update(sequence=F("sequence"))
        existing = LedgerEntry.objects.filter(kind=LedgerEntry.Kind.TOP_UP, reference=reference, line=0).first()
        if existing is None:
            append_entries(connection, {account.pk: [row]}, {})
            return LedgerEntry.objects.get(kind=LedgerEntry.Kind.TOP_UP, reference=reference, line=0)
        if existing.account_id != account.pk or existing.amount_micros != amount_micros:
            raise Duplicate(f"the reference {reference!r} is booked already, with another amount or account")
        return existing
