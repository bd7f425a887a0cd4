"""A new customer."""

from __future__ import annotations

import secrets
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from billing.ledger import check_zone
from billing.models import Account
from billing.money import format_amount
from crazyrouter.management.accounts import book_top_up, parse_amount, parse_micros, refusals_told


class Command(BaseCommand):
    help = "Create an account, optionally with a first payment."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--top-up", metavar="AMOUNT", help="in CNY, like 100.00")
        parser.add_argument(
            "--credit-limit", metavar="AMOUNT", default="0", help="in CNY: how far below zero it may go"
        )
        parser.add_argument("--time-zone", metavar="ZONE", help="its days and months are cut in it, like Asia/Shanghai")

    def handle(
        self, *args: Any, name: str, top_up: str | None, credit_limit: str, time_zone: str | None, **options: Any
    ) -> None:
        amount = parse_amount(top_up) if top_up is not None else 0
        account = Account(name=name, credit_limit_micros=parse_micros(credit_limit, "a credit limit"))
        if time_zone is not None:
            with refusals_told():
                check_zone(time_zone)
            account.time_zone = time_zone
        try:
            account.full_clean()
        except ValidationError as error:
            raise CommandError(f"{name!r}: {' '.join(error.messages)}") from error
        with transaction.atomic():
            account.save()
            if amount:
                reference = f"account-{secrets.token_hex(8)}"
                book_top_up(account, amount_micros=amount, reference=reference, memo="First payment")
        self.stdout.write(f"{name}: account created with ¥{format_amount(amount)}")
