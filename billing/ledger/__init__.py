"""THE ONLY WRITER OF MONEY.

`reserve` and `settle` take many items and run inside the caller's transaction: a group commit passes what arrived
together, everything else a list of one. Where a transaction spans several accounts it calls `lock_accounts` first.
The verbs of people open their own. Every verb is idempotent: "already there" is success.

    gates       what stands on the rows of accounts and keys: money, limits; Verdict and its Reason
    entries     numbered entries, the account's row; LedgerError
    holds       reserve, settle, release: what generations do
    zones       the time zone in which days and months are cut; ZoneRefused
    people      top_up, adjust, refund: what people do; ExceedsCharge
"""

from billing.ledger.entries import Duplicate, LedgerError, lock_accounts
from billing.ledger.gates import Reason, Reservation, Verdict
from billing.ledger.holds import Charge, Settlement, release, reserve, settle
from billing.ledger.people import ExceedsCharge, adjust, read_left, refund, take_account, top_up
from billing.ledger.zones import ZoneRefused, check_zone, move_time_zone

__all__ = [
    "Charge",
    "Duplicate",
    "ExceedsCharge",
    "LedgerError",
    "Reason",
    "Reservation",
    "Settlement",
    "Verdict",
    "ZoneRefused",
    "adjust",
    "check_zone",
    "lock_accounts",
    "move_time_zone",
    "read_left",
    "refund",
    "release",
    "reserve",
    "settle",
    "take_account",
    "top_up",
]
