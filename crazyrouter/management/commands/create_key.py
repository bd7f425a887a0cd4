"""A new API key: the secret alone on standard output, since it cannot be shown again."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from billing.keys import create_key
from billing.limits import InvalidLimit, parse_models, parse_networks
from crazyrouter.management.accounts import find_account, parse_micros
from models_registry.models import ImageModel

#: Options that become columns of the key: the words of the command line, and how they are read.
LIMITS = {
    "spend_limit": "spend_limit_micros",
    "monthly_spend_limit": "monthly_spend_limit_micros",
    "rpm": "requests_per_minute",
    "max_in_flight": "max_in_flight",
    "models": "allowed_models",
    "networks": "allowed_networks",
}


class Command(BaseCommand):
    help = "Create an API key for an account and print it once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("account")
        parser.add_argument("--name", default="", help="for people; customers see it")
        parser.add_argument("--expires", type=read_time, metavar="ISO", help="2027-01-31 or 2027-01-31T12:00:00+08:00")
        parser.add_argument("--spend-limit", metavar="AMOUNT", help="in CNY, ever")
        parser.add_argument("--monthly-spend-limit", metavar="AMOUNT", help="in CNY, per month of the account")
        parser.add_argument("--rpm", type=read_count, metavar="N", help="requests a minute")
        parser.add_argument("--max-in-flight", type=read_count, metavar="N", help="generations at the same moment")
        parser.add_argument("--models", metavar="A,B", help="the only models that it may order")
        parser.add_argument(
            "--networks", metavar="A,B", help="the only networks that it may come from, like 10.0.0.0/8"
        )

    def handle(self, *args: Any, account: str, name: str, expires: datetime | None, **options: Any) -> None:
        if expires is not None and expires <= timezone.now():
            raise CommandError(f"{expires.isoformat()} is in the past: the key could never be used")
        if len(name) > 100:
            raise CommandError("--name has at most 100 characters")
        limits = read_limits(options)
        key, secret = create_key(find_account(account), name=name, expires_at=expires, limits=limits)
        until = f", valid until {expires.isoformat()}" if expires else ""
        self.stderr.write(f"{key.prefix}… for {account}{until}. This is the only time that it is shown.")
        self.stdout.write(secret)


def read_limits(options: dict[str, Any]) -> dict[str, Any]:
    """The columns of the options that were given."""
    limits = {column: options[option] for option, column in LIMITS.items() if options.get(option) is not None}
    try:
        for column, value in limits.items():
            if column.endswith("_micros"):
                limits[column] = parse_micros(value, "a limit")
            elif column == "allowed_models":
                limits[column] = parse_names(
                    parse_models(value, set(ImageModel.objects.values_list("name", flat=True)))
                )
            elif column == "allowed_networks":
                limits[column] = parse_names(parse_networks(value))
    except InvalidLimit as refused:
        raise CommandError(str(refused)) from refused
    return limits


def parse_names(names: list[str]) -> list[str]:
    if not names:
        raise CommandError("an empty list would allow everything: leave the option out")
    return names


def read_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1_000_000):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1000000")
    return int(text)


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
