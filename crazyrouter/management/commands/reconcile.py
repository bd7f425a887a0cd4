"""`manage.py reconcile`: prove the books, or name what is wrong with them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from crazyrouter.generation.audit import Tally, record_check
from crazyrouter.generation.reconcile import check_books

#: Of each rule; the others are counted.
SHOWN = 100


class Command(BaseCommand):
    help = "Check every invariant of money and images in one snapshot. Exit 1 if one is violated."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--files", action="store_true", help="also check the bytes of unexpired images")
        parser.add_argument("--record", action="store_true", help="keep the result for the admin, as the nightly check")

    def handle(self, *args: Any, files: bool, record: bool, **options: Any) -> None:
        violations = self.record(files=files) if record else self.show(files=files)
        if violations:
            self.stderr.write(f"{violations} violation(s)")
            raise SystemExit(1)
        self.stdout.write("the books are right")

    def show(self, *, files: bool) -> int:
        """Name what is found as it is found; how many violations."""
        tally = Tally(SHOWN)
        for found in check_books(files=files):
            if tally.add(found):
                self.name(found.rule, found.subject, found.detail, notice=found.notice)
        for rule, more in tally.list_excess():
            self.stdout.write(f"and {more} more of {rule}")
        return tally.violations

    def record(self, *, files: bool) -> int:
        """Keep the result, and name what is kept of it; how many violations."""
        check = record_check(files=files)
        for rule, subject, detail, notice in check.findings:
            self.name(rule, subject, detail, notice=notice)
        if more := check.violations + check.notices - len(check.findings):
            self.stdout.write(f"and {more} more")
        return check.violations

    def name(self, rule: str, subject: str, detail: str, *, notice: bool) -> None:
        self.stdout.write(f"{'notice' if notice else 'VIOLATION'}  {rule}  {subject}: {detail}")
