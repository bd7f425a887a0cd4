"""Entries: numbered without a gap, with the balance after each, in the order in which the account's row was won.

LedgerError
  Duplicate       the reference was booked before with another amount or account
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from billing.models import LedgerEntry
from crazyrouter.sql import Statement, lock_rows, read_moment


class LedgerError(Exception):
    """A booking that was refused; nothing was written."""


class Duplicate(LedgerError):
    """The same reference, but not the same booking."""


def lock_accounts(connection: BaseDatabaseWrapper, ids: Iterable[int]) -> None:
    """Lock these accounts in id order, so that two transactions over the same accounts cannot deadlock."""
    lock_rows(connection, "billing_account", sorted(set(ids)))


# When the entries are booked, said where the statement stands still: month, day and entries must agree to the moment.
_BOOKED = "CASE WHEN closed_until > {began} THEN closed_until ELSE {began} END"
_DAY = f"{{day:{_BOOKED}@time_zone}}"


def move_month(month: str, *, amount: str = "r.charged") -> str:
    """SET clauses for a row with limits: charges count in their month, and the label only moves forward."""
    return f"""
        month_spent_micros = CASE WHEN {amount} = 0 OR month > {month} THEN month_spent_micros
            WHEN month = {month} THEN month_spent_micros + {amount} ELSE {amount} END,
        month = CASE WHEN {amount} = 0 OR month > {month} THEN month ELSE {month} END
    """


MOVE_ACCOUNTS = Statement(
    f"""
    UPDATE billing_account
    SET balance_micros = balance_micros + r.amount, held_micros = held_micros - r.released,
        in_flight = in_flight - r.ended, sequence = sequence + r.entries, spent_micros = spent_micros + r.charged,
        {move_month(f"substr({_DAY}, 1, 7)")}
    FROM {{rows}}
    WHERE billing_account.id = r.account_id
    RETURNING billing_account.id, balance_micros, sequence, closed_until, {_BOOKED}, {_DAY}
    """,  # noqa: S608
    account_id="bigint",
    amount="bigint",
    charged="bigint",
    released="bigint",
    ended="integer",
    entries="bigint",
)

INSERT_ENTRIES = Statement(
    """
    INSERT INTO billing_ledgerentry (account_id, sequence, kind, amount_micros, balance_after_micros, currency,
        reference, line, model, size, unit_price_micros, price_version, account_price_version, key_prefix, memo, actor,
        booked_at)
    SELECT r.account_id, r.sequence, r.kind, r.amount_micros, r.balance_after_micros, 'CNY',
        r.reference, r.line, r.model, r.size, r.unit_price_micros, r.price_version, r.account_price_version,
        r.key_prefix, r.memo, r.actor, r.booked_at
    FROM {rows}
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
    account_price_version="bigint",
    key_prefix="text",
    memo="text",
    actor="text",
    booked_at="timestamptz",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """Holds of an account that are closed by this booking: what they held, and how many they are."""

    released_micros: int
    holds: int


@dataclass(frozen=True, slots=True)
class Booked:
    """When the entries of an account were booked: never before the end of its last closed month, so that a delivered
    image can always be booked. `day` is cut in the account's time zone, like `2026-11-30`."""

    closed_until: datetime | None
    at: datetime
    day: str


def append_entries(
    connection: BaseDatabaseWrapper, entries: Mapping[int, Sequence[Mapping[str, Any]]], ended: Mapping[int, Ended]
) -> dict[int, Booked]:
    """Write the entries of some accounts with gap-free sequences and running balances.

    An entry by a person may name its own `booked_at`, as a moment or as the database's text, neither in a closed month
    nor in the future; the others get the moment that is returned for their account.
    """
    rows: list[dict[str, Any]] = []
    booked: dict[int, Booked] = {}
    moves = [
        make_move(account_id, entries.get(account_id, ()), ended.get(account_id, NOTHING_ENDED))
        for account_id in sorted(entries.keys() | ended.keys())
    ]
    for account_id, balance, sequence, closed_until, at, day in MOVE_ACCOUNTS.run(connection, moves):
        moment = Booked(read_moment(closed_until) if closed_until else None, read_moment(at), day)
        booked[account_id] = moment
        dated = [date_entry(connection, entry, at, moment) for entry in entries.get(account_id, ())]
        rows += number_entries(dated, account_id, balance, sequence)
    if rows:
        INSERT_ENTRIES.send(connection, rows)
    return booked


NOTHING_ENDED = Ended(0, 0)


def make_move(account_id: int, entries: Sequence[Mapping[str, Any]], ended: Ended) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "amount": sum(entry["amount_micros"] for entry in entries),
        "charged": -sum(entry["amount_micros"] for entry in entries if entry["kind"] == LedgerEntry.Kind.CHARGE),
        "released": ended.released_micros,
        "ended": ended.holds,
        "entries": len(entries),
    }


def date_entry(connection: BaseDatabaseWrapper, entry: Mapping[str, Any], now: Any, booked: Booked) -> dict[str, Any]:
    """With its moment as the database writes it. The account's row is ours: no month of it is closed meanwhile."""
    named: datetime | str | None = entry.get("booked_at")
    if named is None:
        return {**entry, "booked_at": now}
    moment = read_moment(named)
    if booked.closed_until is not None and moment < booked.closed_until:
        raise LedgerError(f"{moment.isoformat()} lies in a closed month: until {booked.closed_until.isoformat()}")
    if moment > booked.at:
        raise LedgerError(f"{moment.isoformat()} lies in the future")
    return {**entry, "booked_at": connection.ops.adapt_datetimefield_value(moment)}


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
