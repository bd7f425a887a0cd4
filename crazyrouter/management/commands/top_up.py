"""A customer's payment."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from billing.models import Booking
from crazyrouter.management.accounts import add_booking_arguments, book_for, find_account, parse_amount


class Command(BaseCommand):
    help = "Book a payment. Above APPROVAL_THRESHOLD it waits for a second person in the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("account")
        parser.add_argument("amount", help="in CNY, like 100.00")
        add_booking_arguments(parser)
        parser.add_argument("--date", metavar="ISO", help="when it was paid; 2026-11-30 in the account's time zone")

    def handle(
        self, *args: Any, account: str, amount: str, memo: str, reference: str, date: str | None, **options: Any
    ) -> None:
        said = book_for(
            find_account(account),
            kind=Booking.Kind.TOP_UP,
            amount_micros=parse_amount(amount),
            memo=memo,
            reference=reference,
            date=date,
        )
        self.stdout.write(said)
