"""Accounts, the books, and what people do with them. Only `billing.ledger` writes an amount."""

from billing.models.accounts import Account, AccountPrice, ApiKey
from billing.models.bookings import Booking
from billing.models.books import Hold, LedgerEntry, RefundedCharge, UsageDay
from billing.models.periods import ClosedMonth, Export, ExportPart

__all__ = [
    "Account",
    "AccountPrice",
    "ApiKey",
    "Booking",
    "ClosedMonth",
    "Export",
    "ExportPart",
    "Hold",
    "LedgerEntry",
    "RefundedCharge",
    "UsageDay",
]
