"""`manage.py reconcile`: prove the books, or name what is wrong with them; and with an upstream's bill beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.reconcile import Violation
from crazyrouter.generation.audit import Tally, record_check
from crazyrouter.generation.reconcile import check_books
from crazyrouter.generation.upstream_bill.differences import compare
from crazyrouter.generation.upstream_bill.reading import BillUnreadable, BothSides, read_both
from crazyrouter.generation.upstream_bill.rows import add_up, print_range

#: Of each rule; the others are counted.
SHOWN = 100
#: Nothing was proved, which is something else than a violation.
UNREADABLE = 2


class Command(BaseCommand):
    help = "Check every invariant of money and images in one snapshot. Exit 1 if one is violated."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--files", action="store_true", help="also check the bytes of unexpired images")
        parser.add_argument("--record", action="store_true", help="keep the result for the admin, as the nightly check")
        parser.add_argument(
            "--upstream",
            metavar="URL",
            default="",
            help="also compare our attempts with the bill of the simulated upstream there; each difference is a "
            "violation, what still runs or is unknown a notice. EGRESS_ALLOW must name its host:port",
        )
        parser.add_argument(
            "--control-key", default=os.environ.get("SIMULATOR_KEY", ""), help="of that upstream; else SIMULATOR_KEY"
        )

    def handle(
        self, *args: Any, files: bool, record: bool, upstream: str = "", control_key: str = "", **options: Any
    ) -> None:
        if record and upstream:
            raise CommandError("--record keeps what the books alone say: leave --upstream out")
        violations = self.record(files=files) if record else self.show(check_books(files=files))
        right = "the books are right"
        if upstream:
            sides = read_sides(upstream, control_key)
            violations += self.show(compare(sides.bill, sides.calls, read_at=sides.read_at, older=sides.older))
            self.stdout.write(sum_up(sides))
            right = "the books are right, and so is the bill"
        if violations:
            self.stderr.write(f"{violations} violation(s)")
            raise SystemExit(1)
        self.stdout.write(right)

    def show(self, findings: Iterator[Violation]) -> int:
        """Name what is found as it is found; how many violations."""
        tally = Tally(SHOWN)
        for found in findings:
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


def read_sides(url: str, key: str) -> BothSides:
    try:
        return read_both(url, key=key)
    except BillUnreadable as error:
        raise CommandError(str(error), returncode=UNREADABLE) from error


def sum_up(sides: BothSides) -> str:
    calls = [call for call in sides.calls if call.created_at >= sides.bill.since]
    counted = print_range(*add_up(calls))
    return (
        f"{sides.url}: {sides.bill.ordered} order(s), {sides.bill.charged} picture(s) charged; "
        f"here: {len(calls)} attempt(s), {counted} picture(s)"
    )
