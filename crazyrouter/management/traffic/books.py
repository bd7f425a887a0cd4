"""THE ONE EXCEPTION: money that is written outside of `billing.ledger`, a million made-up charges at a time.

Only `manage.py make_traffic` may use it, for accounts that it has opened itself and that nobody else moves. What it
writes is what the ledger would have written: `reconcile` proves it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection

from billing.models import Booking, Hold, LedgerEntry, RefundedCharge
from crazyrouter.management.traffic.bulk import insert_rows
from crazyrouter.management.traffic.cast import Buyer
from crazyrouter.sql import is_postgresql

ENTRY = (
    *("id", "account_id", "sequence", "kind", "amount_micros", "balance_after_micros", "currency", "reference", "line"),
    *("model", "size", "unit_price_micros", "price_version", "key_prefix", "memo", "actor", "booked_at"),
)
HOLD = ("reference", "account_id", "api_key_id", "amount_micros", "captured_micros", "state", "created_at", "closed_at")
BOOKING = (
    *("token", "kind", "account_id", "charge_id", "amount_micros", "reference", "memo", "state"),
    *("requested_by", "requested_at", "decided_by", "decided_at", "entry_id"),
)
REFUNDED = ("charge_id", "charged_micros", "refunded_micros", "refunds")
TOP_UP_MICROS = 2_000_000_000
ACTOR = "make_traffic"

ADD_USAGE = """
    INSERT INTO billing_usageday (account_id, day, key_prefix, model, images, amount_micros)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (account_id, day, model, key_prefix) DO UPDATE
    SET images = billing_usageday.images + excluded.images,
        amount_micros = billing_usageday.amount_micros + excluded.amount_micros
"""
MOVE_ACCOUNT = """
    UPDATE billing_account
    SET balance_micros = %s, sequence = %s, spent_micros = %s, month = %s, month_spent_micros = %s WHERE id = %s
"""
MOVE_KEY = "UPDATE billing_apikey SET spent_micros = %s, month = %s, month_spent_micros = %s WHERE id = %s"


@dataclass(slots=True)
class Counter:
    """What was spent in all, and in the latest month with a charge."""

    spent: int = 0
    month: str = ""
    month_spent: int = 0

    def add(self, amount: int, month: str) -> None:
        self.spent += amount
        self.month_spent = self.month_spent + amount if month == self.month else amount
        self.month = month


@dataclass(slots=True)
class Purse:
    """One account as it stands after the last entry, and its own today."""

    zone: ZoneInfo
    balance: int = 0
    sequence: int = 0
    counter: Counter = field(default_factory=Counter)
    day: str = ""
    day_ends: float = 0

    def find_day(self, moment: float) -> str:
        if moment >= self.day_ends:
            local = datetime.fromtimestamp(moment, self.zone)
            self.day = local.date().isoformat()
            self.day_ends = datetime.combine(local.date() + timedelta(days=1), time(), self.zone).timestamp()
        return self.day


def render_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(" ", "microseconds")[:26]


class Books:
    """The rows of money of one batch, and the accounts as they stand after it."""

    def __init__(self, buyers: list[Buyer]) -> None:
        self.purses = {buyer.account_id: Purse(ZoneInfo(buyer.time_zone)) for buyer in buyers}
        self.keys: dict[int, Counter] = defaultdict(Counter)
        self.next_id = (LedgerEntry.objects.order_by("-id").values_list("id", flat=True).first() or 0) + 1
        self.clear()

    def clear(self) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.holds: list[tuple[Any, ...]] = []
        self.bookings: list[tuple[Any, ...]] = []
        self.refunded: list[tuple[Any, ...]] = []
        self.usage: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
        self.touched: set[int] = set()
        self.touched_keys: set[int] = set()

    def cover(self, buyer: Buyer, amount: int, moment: float) -> None:
        """A payment before the money runs out."""
        purse = self.purses[buyer.account_id]
        if purse.balance >= amount:
            return
        reference = f"{buyer.name}/{purse.sequence + 1}"
        entry = self.book(buyer, "top_up", TOP_UP_MICROS, (reference, 0, "", "", None, None, "", "wire"), moment)
        self.record_booking("top_up", buyer, None, TOP_UP_MICROS, reference, entry, moment)

    def charge(self, buyer: Buyer, key: tuple[int, str], amount: int, facts: tuple[Any, ...], moment: float) -> int:
        """One image; `facts` are (reference, line, model, size, unit price, price version). Its entry's id."""
        purse = self.purses[buyer.account_id]
        day = purse.find_day(moment)
        purse.counter.add(amount, day[:7])
        self.keys[key[0]].add(amount, day[:7])
        self.touched_keys.add(key[0])
        usage = self.usage[buyer.account_id, day, key[1], facts[2]]
        usage[0] += 1
        usage[1] += amount
        return self.book(buyer, "charge", -amount, (*facts, key[1], ""), moment)

    def refund(
        self, buyer: Buyer, key: tuple[int, str], charge: int, amount: int, facts: tuple[Any, ...], moment: float
    ) -> None:
        """A part or all of a charge; `facts` are the charge's own."""
        reference, (model, size, unit_price, version) = str(charge), facts[2:]
        copied = (reference, 0, model, size, unit_price, version, key[1], "goodwill")
        entry = self.book(buyer, "refund", amount, copied, moment)
        self.refunded.append((charge, unit_price, amount, 1))
        self.record_booking("refund", buyer, charge, amount, reference, entry, moment)

    def hold(
        self, buyer: Buyer, key_id: int, reference: str, amount: int, captured: int, times: tuple[str, str]
    ) -> None:
        """A hold that is over: what was not captured is released."""
        state = "settled" if captured else "released"
        self.holds.append((reference, buyer.account_id, key_id, amount, captured, state, *times))

    def book(self, buyer: Buyer, kind: str, amount: int, facts: tuple[Any, ...], moment: float) -> int:
        purse = self.purses[buyer.account_id]
        purse.balance += amount
        purse.sequence += 1
        self.touched.add(buyer.account_id)
        entry, self.next_id = self.next_id, self.next_id + 1
        actor = "" if kind == "charge" else ACTOR
        head = (entry, buyer.account_id, purse.sequence, kind, amount, purse.balance, "CNY")
        self.entries.append((*head, *facts, actor, render_time(moment)))
        return entry

    def record_booking(
        self, kind: str, buyer: Buyer, charge: int | None, amount: int, reference: str, entry: int, moment: float
    ) -> None:
        at = render_time(moment)
        facts = (f"traffic-{entry}", kind, buyer.account_id, charge, amount, reference, "made up", "booked")
        self.bookings.append((*facts, ACTOR, at, ACTOR, at, entry))

    def write(self) -> None:
        """Everything of this batch, in the caller's transaction."""
        insert_rows(Hold, HOLD, self.holds)
        insert_rows(LedgerEntry, ENTRY, self.entries)
        insert_rows(RefundedCharge, REFUNDED, self.refunded)
        insert_rows(Booking, BOOKING, self.bookings)
        with connection.cursor() as cursor:
            cursor.executemany(ADD_USAGE, [(*place, *sums) for place, sums in self.usage.items()])
            cursor.executemany(MOVE_ACCOUNT, [self.render_account(account_id) for account_id in self.touched])
            cursor.executemany(MOVE_KEY, [self.render_key(key_id) for key_id in self.touched_keys])
            if is_postgresql(connection):
                # The ids were given here, the database's own counter has to follow.
                cursor.execute("SELECT setval('billing_ledgerentry_id_seq', %s)", [self.next_id - 1])
        self.clear()

    def render_account(self, account_id: int) -> tuple[Any, ...]:
        purse = self.purses[account_id]
        return purse.balance, purse.sequence, *render_counter(purse.counter), account_id

    def render_key(self, key_id: int) -> tuple[Any, ...]:
        return *render_counter(self.keys[key_id]), key_id


def render_counter(counter: Counter) -> tuple[int, str, int]:
    return counter.spent, counter.month, counter.month_spent
