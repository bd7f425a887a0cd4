"""Money held before an upstream is called, and what becomes of it: charges for what was delivered, the rest released.

Many items a call, inside the caller's transaction: a group commit passes what arrived together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from billing.ledger.entries import append_entries
from billing.models import LedgerEntry
from crazyrouter.sql import Statement


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

RAISE_SPENT = Statement(
    """
    UPDATE billing_apikey SET spent_micros = spent_micros + r.amount FROM {rows} WHERE billing_apikey.id = r.key_id
    """,
    key_id="bigint",
    amount="bigint",
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


def release(connection: BaseDatabaseWrapper, references: Iterable[str]) -> None:
    """Give back what is held for generations that delivered nothing."""
    settle(connection, [Settlement(reference, ()) for reference in references])
