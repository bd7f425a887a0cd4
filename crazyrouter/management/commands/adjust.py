"""A correction of an account's balance."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from billing.models import Booking
from crazyrouter.management.accounts import add_booking_arguments, book_for, find_account, parse_signed


class Command(BaseCommand):
    help = "Add to a balance, or take from it. Above APPROVAL_THRESHOLD it waits for a second person in the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("account")
        parser.add_argument("amount", help="in CNY: 12.50 gives to the customer, -12.50 takes")
        add_booking_arguments(parser)
        parser.add_argument("--date", metavar="ISO", help="what it counts for; 2026-11-30 in the account's time zone")

    def handle(
        self, *args: Any, account: str, amount: str, memo: str, reference: str, date: str | None, **options: Any
    ) -> None:
        said = book_for(
            find_account(account),
            kind=Booking.Kind.ADJUSTMENT,
            amount_micros=parse_signed(amount),
            memo=memo,
            reference=reference,
            date=date,
        )
        self.stdout.write(said)
