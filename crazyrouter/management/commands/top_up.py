"""A customer's payment."""

from __future__ import annotations

import secrets
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.money import format_amount
from crazyrouter.management.accounts import book_top_up, find_account, parse_amount


class Command(BaseCommand):
    help = "Book a payment. With --reference, the same payment booked again is booked once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("account")
        parser.add_argument("amount", help="in CNY, like 100.00")
        parser.add_argument("--memo", required=True, help="what the payment was; stands in the books")
        parser.add_argument("--reference", default="", help="the payment's own number, at most 64 characters")

    def handle(self, *args: Any, account: str, amount: str, memo: str, reference: str, **options: Any) -> None:
        if len(reference) > 64 or len(memo) > 200:
            raise CommandError("--reference has at most 64 characters, --memo at most 200")
        entry = book_top_up(
            find_account(account),
            amount_micros=parse_amount(amount),
            reference=reference or f"shell-{secrets.token_hex(8)}",
            memo=memo,
        )
        balance = format_amount(entry.balance_after_micros)
        self.stdout.write(f"{account}: ¥{format_amount(entry.amount_micros)} as {entry.reference}, balance ¥{balance}")
