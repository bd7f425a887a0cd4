"""Money held before an upstream is called, and what becomes of it: charges for what was delivered, the rest released.

Many items a call, inside the caller's transaction: a group commit passes what arrived together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from billing.ledger.entries import Booked, Ended, append_entries, move_month
from billing.ledger.gates import Reservation, Verdict, pass_gates
from billing.models import LedgerEntry
from crazyrouter.sql import Statement


@dataclass(frozen=True, slots=True)
class Charge:
    """One delivered image, at what is really paid for it. `account_price_version` where the price was agreed."""

    line: int
    unit_price_micros: int
    price_version: int
    model: str
    size: str
    key_prefix: str
    account_price_version: int | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a finished generation owes: a charge per delivered image; none releases the hold."""

    reference: str
    charges: tuple[Charge, ...]


# --- reserve -----------------------------------------------------------------------------------------------------

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
    """Hold money for each item, or refuse it: one verdict per reference. A refused item leaves nothing behind."""
    verdicts = pass_gates(connection, items)
    granted = [make_hold_row(item) for item in items if verdicts[item.reference].granted]
    if granted:
        INSERT_HOLDS.send(connection, granted)
    return verdicts


def make_hold_row(item: Reservation) -> dict[str, Any]:
    return {
        "reference": item.reference,
        "account_id": item.account_id,
        "api_key_id": item.api_key_id,
        "amount_micros": item.amount_micros,
    }


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

MOVE_KEYS = Statement(
    f"""
    UPDATE billing_apikey
    SET held_micros = held_micros - r.released, in_flight = in_flight - r.ended,
        spent_micros = spent_micros + r.charged,
        {move_month("r.booked_month")}
    FROM {{rows}} WHERE billing_apikey.id = r.key_id
    """,  # noqa: S608
    key_id="bigint",
    released="bigint",
    ended="integer",
    charged="bigint",
    booked_month="text",
)

# `WHERE true`: without it SQLite reads ON as a join's.
ADD_USAGE = Statement(
    """
    INSERT INTO billing_usageday (account_id, day, key_prefix, model, images, amount_micros)
    SELECT r.account_id, r.day, r.key_prefix, r.model, r.images, r.amount FROM {rows} WHERE true
    ON CONFLICT (account_id, day, model, key_prefix) DO UPDATE
    SET images = billing_usageday.images + excluded.images,
        amount_micros = billing_usageday.amount_micros + excluded.amount_micros
    """,
    account_id="bigint",
    day="date",
    key_prefix="text",
    model="text",
    images="bigint",
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
    """Move each account, key and day of usage once. The accounts come first: what they return dates the others."""
    by_account: dict[int, list[ClosedHold]] = defaultdict(list)
    by_key: dict[int, list[ClosedHold]] = defaultdict(list)
    for hold in holds:
        by_account[hold.account_id].append(hold)
        if hold.api_key_id is not None:
            by_key[hold.api_key_id].append(hold)
    entries = {
        account_id: [make_charge_row(hold, charge) for hold in own for charge in wanted[hold.reference].charges]
        for account_id, own in by_account.items()
    }
    ended = {
        account_id: Ended(sum(hold.amount_micros for hold in own), len(own)) for account_id, own in by_account.items()
    }
    booked = append_entries(connection, entries, ended)
    if by_key:
        rows = [make_key_row(key_id, own, wanted, booked[own[0].account_id]) for key_id, own in sorted(by_key.items())]
        MOVE_KEYS.send(connection, rows)
    if usage := add_up_usage(entries, booked):
        ADD_USAGE.send(connection, usage)


def make_key_row(
    key_id: int, holds: Sequence[ClosedHold], wanted: dict[str, Settlement], booked: Booked
) -> dict[str, Any]:
    return {
        "key_id": key_id,
        "released": sum(hold.amount_micros for hold in holds),
        "ended": len(holds),
        "charged": sum(charge.unit_price_micros for hold in holds for charge in wanted[hold.reference].charges),
        "booked_month": booked.day[:7],
    }


def add_up_usage(
    entries: Mapping[int, Sequence[Mapping[str, Any]]], booked: Mapping[int, Booked]
) -> list[dict[str, Any]]:
    days: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for account_id, charges in entries.items():
        for charge in charges:
            days[account_id, charge["key_prefix"], charge["model"]].append(-charge["amount_micros"])
    return [
        {
            "account_id": account_id,
            "day": booked[account_id].day,
            "key_prefix": key_prefix,
            "model": model,
            "images": len(amounts),
            "amount": sum(amounts),
        }
        for (account_id, key_prefix, model), amounts in days.items()
    ]


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
        "account_price_version": charge.account_price_version,
        "key_prefix": charge.key_prefix,
        "memo": "",
        "actor": "",
    }


def release(connection: BaseDatabaseWrapper, references: Iterable[str]) -> None:
    """Give back what is held for generations that delivered nothing."""
    settle(connection, [Settlement(reference, ()) for reference in references])
