"""Entries: numbered without a gap, with the balance after each, in the order in which the account's row was won.

LedgerError
  Duplicate       the reference was booked before with another amount or account
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement, lock_rows


class LedgerError(Exception):
    """A booking that was refused; nothing was written."""


class Duplicate(LedgerError):
    """The same reference, but not the same booking."""


def lock_accounts(connection: BaseDatabaseWrapper, ids: Iterable[int]) -> None:
    """Lock these accounts in id order, so that two transactions over the same accounts cannot deadlock."""
    lock_rows(connection, "billing_account", sorted(set(ids)))


MOVE_ACCOUNTS = Statement(
    """
    UPDATE billing_account
    SET balance_micros = balance_micros + r.amount, held_micros = held_micros - r.released,
        sequence = sequence + r.entries
    FROM {rows}
    WHERE billing_account.id = r.account_id
    RETURNING billing_account.id, balance_micros, sequence
    """,
    account_id="bigint",
    amount="bigint",
    released="bigint",
    entries="bigint",
)

# booked_at: never before the end of the account's last closed month, so that a delivered image can always be booked.
INSERT_ENTRIES = Statement(
    """
    INSERT INTO billing_ledgerentry (account_id, sequence, kind, amount_micros, balance_after_micros, currency,
        reference, line, model, size, unit_price_micros, price_version, key_prefix, memo, actor, booked_at)
    SELECT r.account_id, r.sequence, r.kind, r.amount_micros, r.balance_after_micros, 'CNY',
        r.reference, r.line, r.model, r.size, r.unit_price_micros, r.price_version, r.key_prefix, r.memo, r.actor,
        CASE WHEN a.closed_until > {now} THEN a.closed_until ELSE {now} END
    FROM {rows} JOIN billing_account a ON a.id = r.account_id
    """,
    account_id="bigint",
    sequence="bigint",
    kind="text",
    amount_micros="bigint",
    balance_after_micros="bigint",
    reference="text",
    line="integer",
    model="text",
    size="text",
    unit_price_micros="bigint",
    price_version="bigint",
    key_prefix="text",
    memo="text",
    actor="text",
)


def append_entries(
    connection: BaseDatabaseWrapper, entries: dict[int, list[dict[str, Any]]], released: dict[int, int]
) -> None:
    """Write the entries of some accounts with gap-free sequences and running balances."""
    moves = [
        {
            "account_id": account_id,
            "amount": sum(entry["amount_micros"] for entry in entries.get(account_id, ())),
            "released": released.get(account_id, 0),
            "entries": len(entries.get(account_id, ())),
        }
        for account_id in sorted(entries.keys() | released.keys())
    ]
    rows: list[dict[str, Any]] = []
    for account_id, balance, sequence in MOVE_ACCOUNTS.run(connection, moves):
        rows += number_entries(entries.get(account_id, []), account_id, balance, sequence)
    if rows:
        INSERT_ENTRIES.send(connection, rows)


def number_entries(
    entries: Sequence[dict[str, Any]], account_id: int, balance: int, sequence: int
) -> list[dict[str, Any]]:
    """Rows of one account, counted back from the balance and sequence after its last entry."""
    rows = []
    for entry in reversed(entries):
        rows.append(entry | {"account_id": account_id, "sequence": sequence, "balance_after_micros": balance})
        balance -= entry["amount_micros"]
        sequence -= 1
    return rows[::-1]
