"""`manage.py make_traffic`: a database as large as years of business make it, for benchmarks."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from crazyrouter.generation.models import Generation
from crazyrouter.management.traffic.bulk import prepare_connection, tidy_tables
from crazyrouter.management.traffic.cast import hire_cast
from crazyrouter.management.traffic.plan import Plan, find_latest_end
from crazyrouter.management.traffic.story import TABLES, write_traffic


class Command(BaseCommand):
    help = (
        "FOR BENCHMARKS: fill this database with made-up generations, attempts, holds, images and ledger entries whose "
        "books are right. The entries can never be removed again. The same seed and dates make the same traffic."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--generations", type=read_count, default=1_000_000, help="default: 1000000")
        parser.add_argument("--accounts", type=read_count, default=50, help="the first has 60 %% (default: 50)")
        parser.add_argument("--days", type=read_count, default=60, help="spread over so many (default: 60)")
        parser.add_argument("--until", type=read_day, help="the traffic's end (UTC); default: the last expired day")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--append", action="store_true", help="although this database has generations")
        parser.add_argument("--yes", action="store_true", help="although DEBUG is off")

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_danger(append=options["append"], yes=options["yes"])
        plan = Plan(
            generations=options["generations"],
            accounts=options["accounts"],
            days=options["days"],
            seed=options["seed"],
            until=options["until"] or find_latest_end(),
        )
        if plan.until > find_latest_end():
            raise CommandError(f"--until {plan.until:%Y-%m-%d}: its pictures would not have expired, and have no files")
        started = time.monotonic()
        with prepare_connection():
            for written in write_traffic(plan, hire_cast(plan)):
                self.show_progress(written, plan.generations)
            tidy_tables(TABLES)
        self.stdout.write(f"{plan.generations} generations in {time.monotonic() - started:.0f} s")

    def show_progress(self, written: int, total: int) -> None:
        """On a terminal only."""
        if self.stderr.isatty():
            end = "\n" if written == total else ""
            self.stderr.write(f"\r{written:>12,} of {total:,}  {100 * written // total:>3} %", ending=end)


def refuse_danger(*, append: bool, yes: bool) -> None:
    if not settings.DEBUG and not yes:
        raise CommandError("DEBUG is off, so this may be a real shop: made-up money stays for good. --yes does it.")
    if Generation.objects.exists() and not append:
        raise CommandError("this database has generations already: --append adds made-up ones for good")


def read_count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ArgumentTypeError("at least 1")
    return count


def read_day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date like 2026-11-30") from None
