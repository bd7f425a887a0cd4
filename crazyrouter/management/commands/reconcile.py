"""`manage.py reconcile`: prove the books, or name what is wrong with them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from crazyrouter.generation.reconcile import check_books


class Command(BaseCommand):
    help = "Check every invariant of money and images in one snapshot. Exit 1 if one is violated."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--files", action="store_true", help="also check the bytes of unexpired images")

    def handle(self, *args: Any, files: bool, **options: Any) -> None:
        violations = 0
        for found in check_books(files=files):
            mark = "notice" if found.notice else "VIOLATION"
            violations += not found.notice
            self.stdout.write(f"{mark}  {found.rule}  {found.subject}: {found.detail}")
        if violations:
            self.stderr.write(f"{violations} violation(s)")
            raise SystemExit(1)
        self.stdout.write("the books are right")
