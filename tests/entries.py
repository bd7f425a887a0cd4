"""Ledgers as a test wants them: entries of any moment, written past the ledger's own clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from billing.models import Account, LedgerEntry


def write_entries(account: Account, entries: Sequence[dict[str, Any]]) -> list[LedgerEntry]:
    """Append these, numbered, with running balances; `amount_micros` and `booked_at` at least. Charges by default."""
    account.refresh_from_db()
    rows = []
    for facts in entries:
        account.sequence += 1
        account.balance_micros += facts["amount_micros"]
        values = {"kind": "charge", "reference": f"gen_{account.pk}_{account.sequence}", **facts}
        rows.append(
            LedgerEntry(
                account=account, sequence=account.sequence, balance_after_micros=account.balance_micros, **values
            )
        )
    LedgerEntry.objects.bulk_create(rows, batch_size=500)
    account.save(update_fields=["sequence", "balance_micros"])
    return rows


def make_charge(at: datetime, micros: int = 200_000, **facts: Any) -> dict[str, Any]:
    """One image, at the list price of `qwen-image-plus`."""
    return {
        "amount_micros": -micros,
        "booked_at": at,
        "model": "qwen-image-plus",
        "size": "1328x1328",
        "unit_price_micros": micros,
        "price_version": 1,
        "key_prefix": "sk-cr-abc",
        **facts,
    }


def make_top_up(at: datetime, micros: int, **facts: Any) -> dict[str, Any]:
    return {"kind": "top_up", "amount_micros": micros, "booked_at": at, "memo": "wire", "actor": "olga", **facts}
