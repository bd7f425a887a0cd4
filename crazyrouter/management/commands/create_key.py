"""A new API key: the secret alone on standard output, since it cannot be shown again."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from billing.keys import create_key
from crazyrouter.management.accounts import find_account


class Command(BaseCommand):
    help = "Create an API key for an account and print it once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("account")
        parser.add_argument("--name", default="", help="for people; customers see it")
        parser.add_argument("--expires", type=read_time, metavar="ISO", help="2027-01-31 or 2027-01-31T12:00:00+08:00")

    def handle(self, *args: Any, account: str, name: str, expires: datetime | None, **options: Any) -> None:
        if expires is not None and expires <= timezone.now():
            raise CommandError(f"{expires.isoformat()} is in the past: the key could never be used")
        if len(name) > 100:
            raise CommandError("--name has at most 100 characters")
        key, secret = create_key(find_account(account), name=name, expires_at=expires)
        until = f", valid until {expires.isoformat()}" if expires else ""
        self.stderr.write(f"{key.prefix}… for {account}{until}. This is the only time that it is shown.")
        self.stdout.write(secret)


def read_time(text: str) -> datetime:
    """A date means its first moment; without an offset it is the time of this installation (TIME_ZONE)."""
    try:
        moment = parse_datetime(text)
        day = parse_date(text) if moment is None else None
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a date: {error}") from error
    if day is not None:
        moment = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - made aware below
    if moment is None:
        raise ArgumentTypeError(f"{text!r} is not a date: write 2027-01-31 or 2027-01-31T12:00:00+08:00")
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment
