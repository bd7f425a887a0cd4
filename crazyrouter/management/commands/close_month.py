"""The end of a month's books."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.closing import Closing, ClosingError, close_everywhere, close_month
from billing.models import ClosedMonth
from billing.money import format_amount
from billing.periods import PeriodError, parse_month
from crazyrouter.management.accounts import find_account, name_actor


class Command(BaseCommand):
    help = "Freeze the statement of a month; nothing is booked into it any more. Closed already is success."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("month", help="like 2026-11, cut in the account's time zone")
        parser.add_argument("--account", help="name of one account; all without it")

    def handle(self, *args: Any, month: str, account: str | None, **options: Any) -> None:
        asked = refused = 0
        for outcome in close(month, account):
            asked += 1
            if isinstance(outcome, ClosingError):
                refused += 1
                self.stderr.write(str(outcome))
            else:
                self.stdout.write(describe(outcome.row, "already closed" if outcome.known else "closed"))
        if not asked:
            self.stdout.write(f"nobody had an account in {month}: nothing was closed")
        if refused:
            raise SystemExit(1)


def close(month: str, account: str | None) -> Iterator[Closing | ClosingError]:
    try:
        first = parse_month(month)
        yield from close_everywhere(first, closed_by=name_actor()) if account is None else close_one(first, account)
    except (PeriodError, ClosingError) as error:
        raise CommandError(str(error)) from error


def close_one(first: date, account: str) -> Iterator[Closing]:
    yield close_month(find_account(account).pk, first, closed_by=name_actor())


def describe(row: ClosedMonth, state: str) -> str:
    balance = format_amount(row.closing_balance_micros)
    return f"{row.account.name}: {row.month} {state}, {row.entries} entries, balance ¥{balance}, SHA-256 {row.sha256}"
