"""THE ONLY WRITER OF MONEY.

`reserve` and `settle` take many items and run inside the caller's transaction: a group commit passes what arrived
together, everything else a list of one. Where a transaction spans several accounts it calls `lock_accounts` first.
`top_up` opens its own. Every verb is idempotent: "already there" is success.

    LedgerError
      Duplicate       the reference was booked before with another amount or account
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from billing.models import Account, LedgerEntry
from crazyrouter.sql import Statement, lock_rows


class LedgerError(Exception):
    """A booking that was refused; nothing was written."""


class Duplicate(LedgerError):
    """The same reference, but not the same booking."""


class Verdict(Enum):
    """What became of one reservation."""

    RESERVED = "reserved"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money to hold for one generation. Amounts in micro-units."""

    reference: str
    account_id: int
    api_key_id: int | None
    amount_micros: int


@dataclass(frozen=True, slots=True)
class Charge:
    """One delivered image."""

    line: int
    unit_price_micros: int
    price_version: int
    model: str
    size: str
    key_prefix: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a finished generation owes: a charge per delivered image; none releases the hold."""

    reference: str
    charges: tuple[Charge, ...]


def lock_accounts(connection: BaseDatabaseWrapper, ids: Iterable[int]) -> None:
    """Lock these accounts in id order, so that two transactions over the same accounts cannot deadlock."""
    lock_rows(connection, "billing_account", sorted(set(ids)))


# --- reserve -----------------------------------------------------------------------------------------------------

RAISE_HELD = Statement(
    """
    UPDATE billing_account SET held_micros = held_micros + r.amount
    FROM {rows}
    WHERE billing_account.id = r.account_id AND billing_account.state = 'active'
      AND balance_micros + credit_limit_micros - held_micros >= r.amount
    RETURNING billing_account.id
    """,
    account_id="bigint",
    amount="bigint",
)

INSERT_HOLDS = Statement(
    """
    INSERT INTO billing_hold (reference, account_id, api_key_id, amount_micros, captured_micros, state, created_at)
    SELECT r.reference, r.account_id, r.api_key_id, r.amount_micros, 0, 'open', {now} FROM {rows}
    """,
    reference="text",
    account_id="bigint",
    api_key_id="bigint",
    amount_micros="bigint",
)


def reserve(connection: BaseDatabaseWrapper, items: Sequence[Reservation]) -> dict[str, Verdict]:
    """Hold money for each item, or refuse it: one verdict per reference.

    Each account is asked once for the sum of its items; only if that does not fit, once per item, so that a large
    refused hold does not refuse a small one behind it. The conditional UPDATE alone keeps the balance.
    """
    by_account: dict[int, list[Reservation]] = defaultdict(list)
    for item in items:
        by_account[item.account_id].append(item)
    sums = {account_id: sum(item.amount_micros for item in own) for account_id, own in by_account.items()}
    granted = raise_held(connection, sums)
    reserved = [item for account_id in granted for item in by_account[account_id]]
    for account_id in by_account.keys() - granted:
        if len(by_account[account_id]) > 1:
            reserved += [i for i in by_account[account_id] if raise_held(connection, {account_id: i.amount_micros})]
    if reserved:
        INSERT_HOLDS.send(
            connection,
            [
                {
                    "reference": item.reference,
                    "account_id": item.account_id,
                    "api_key_id": item.api_key_id,
                    "amount_micros": item.amount_micros,
                }
                for item in reserved
            ],
        )
    verdicts = {item.reference: Verdict.INSUFFICIENT for item in items}
    return verdicts | {item.reference: Verdict.RESERVED for item in reserved}


def raise_held(connection: BaseDatabaseWrapper, amounts: dict[int, int]) -> set[int]:
    """The accounts whose available money covered their amount, which is now held."""
    rows = [{"account_id": account_id, "amount": amount} for account_id, amount in amounts.items()]
    return {account_id for (account_id,) in RAISE_HELD.run(connection, rows)}


# --- settle ------------------------------------------------------------------------------------------------------

CLOSE_HOLDS = Statement(
    """
    UPDATE billing_hold SET state = r.state, captured_micros = r.captured, closed_at = {now}
    FROM {rows}
    WHERE billing_hold.reference = r.reference AND billing_hold.state = 'open'
    RETURNING billing_hold.reference, account_id, api_key_id, amount_micros
    """,
    reference="text",
    state="text",
    captured="bigint",
)

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

RAISE_SPENT = Statement(
    """
    UPDATE billing_apikey SET spent_micros = spent_micros + r.amount FROM {rows} WHERE billing_apikey.id = r.key_id
    """,
    key_id="bigint",
    amount="bigint",
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


@dataclass(frozen=True, slots=True)
class ClosedHold:
    reference: str
    account_id: int
    api_key_id: int | None
    amount_micros: int


def settle(connection: BaseDatabaseWrapper, items: Sequence[Settlement]) -> None:
    """Charge what was delivered and release the rest of each hold.

    A hold that is closed already is left as it is: whoever closed it has booked its charges.
    """
    if not items:
        return
    closed = [ClosedHold(*row) for row in CLOSE_HOLDS.run(connection, [make_closing_row(item) for item in items])]
    if closed:
        book_charges(connection, closed, {item.reference: item for item in items})


def make_closing_row(item: Settlement) -> dict[str, Any]:
    captured = sum(charge.unit_price_micros for charge in item.charges)
    return {"reference": item.reference, "state": "settled" if captured else "released", "captured": captured}


def book_charges(connection: BaseDatabaseWrapper, holds: Sequence[ClosedHold], wanted: dict[str, Settlement]) -> None:
    """Move the accounts once each, then number the entries backwards from what the UPDATE returned."""
    entries: dict[int, list[dict[str, Any]]] = defaultdict(list)
    released: dict[int, int] = defaultdict(int)
    spent: dict[int, int] = defaultdict(int)
    for hold in holds:
        released[hold.account_id] += hold.amount_micros
        for charge in wanted[hold.reference].charges:
            entries[hold.account_id].append(make_charge_row(hold, charge))
            if hold.api_key_id is not None:
                spent[hold.api_key_id] += charge.unit_price_micros
    append_entries(connection, entries, released)
    if spent:
        RAISE_SPENT.send(connection, [{"key_id": key_id, "amount": amount} for key_id, amount in sorted(spent.items())])


def make_charge_row(hold: ClosedHold, charge: Charge) -> dict[str, Any]:
    return {
        "kind": LedgerEntry.Kind.CHARGE,
        "amount_micros": -charge.unit_price_micros,
        "reference": hold.reference,
        "line": charge.line,
        "model": charge.model,
        "size": charge.size,
        "unit_price_micros": charge.unit_price_micros,
        "price_version": charge.price_version,
        "key_prefix": charge.key_prefix,
        "memo": "",
        "actor": "",
    }


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


def release(connection: BaseDatabaseWrapper, references: Iterable[str]) -> None:
    """Give back what is held for generations that delivered nothing."""
    settle(connection, [Settlement(reference, ()) for reference in references])


# --- by people ---------------------------------------------------------------------------------------------------


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
