"""What the commands about accounts share: words of the command line into objects, errors into CommandError."""

from __future__ import annotations

import getpass
import secrets
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import CommandError
from django.urls import reverse
from django.utils import timezone

from billing.bookings import Answer, describe, make_token, request_booking
from billing.ledger import LedgerError, top_up
from billing.models import Account, Booking, LedgerEntry
from billing.money import InvalidAmount, parse
from models_registry.amounts import format_money


def find_account(name: str) -> Account:
    account = Account.objects.filter(name=name).first()
    if account is None:
        raise CommandError(f"there is no account {name!r}: `manage.py create_account` makes one")
    return account


def parse_amount(text: str, what: str = "a top-up") -> int:
    """Micro-units above zero."""
    micros = parse_signed(text)
    if micros <= 0:
        raise CommandError(f"{text!r}: {what} must be above zero")
    return micros


def parse_micros(text: str, what: str) -> int:
    """Micro-units, zero included."""
    micros = parse_signed(text)
    if micros < 0:
        raise CommandError(f"{text!r}: {what} must not be below zero")
    return micros


def parse_signed(text: str) -> int:
    try:
        return parse(text)
    except InvalidAmount as error:
        raise CommandError(str(error)) from error


def parse_moment(text: str, account: Account) -> datetime:
    """A date means its first moment; without an offset it is the time of the account."""
    try:
        moment = datetime.fromisoformat(text)
        named = moment if timezone.is_aware(moment) else moment.replace(tzinfo=ZoneInfo(account.time_zone))
        # By way of UTC, as the books keep it: the first and the last hours of the calendar have none there.
        return named.astimezone(UTC).astimezone(named.tzinfo)
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{text!r} is not a date: write 2026-11-30 or 2026-11-30T12:00:00+08:00") from error


def book_top_up(account: Account, *, amount_micros: int, reference: str, memo: str) -> LedgerEntry:
    """A payment that belongs to setting an account up: nobody approves it."""
    with refusals_told():
        return top_up(account, amount_micros=amount_micros, reference=reference, memo=memo, actor=name_actor())


def add_booking_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--memo", required=True, help="why; stands in the books")
    parser.add_argument("--reference", default="", help="at most 64 characters; sent again, it is booked once")


def make_reference(given: str) -> str:
    return given or f"shell-{secrets.token_hex(8)}"


def book_for(
    account: Account, *, kind: Booking.Kind, amount_micros: int, memo: str, reference: str, date: str | None
) -> str:
    """What became of a top-up or an adjustment, in one line."""
    reference = make_reference(reference)
    with refusals_told():
        answer = request_booking(
            account,
            kind=kind,
            amount_micros=amount_micros,
            memo=memo,
            actor=name_actor(),
            token=make_token(kind, reference),
            reference=reference,
            book_at=parse_moment(date, account) if date else None,
        )
    return tell_answer(answer, subject=account.name, reference=f" as {reference}")


def tell_answer(answer: Answer, *, subject: str, reference: str = "") -> str:
    booking, amount = answer.booking, format_money(answer.booking.amount_micros)
    if booking.state == Booking.State.REJECTED:
        raise CommandError(f"{subject}: {amount} was asked for before and {describe(booking)}")
    if booking.entry is None:
        page = settings.PUBLIC_BASE_URL + reverse("admin:billing_booking_change", args=[booking.pk])
        return f"{subject}: {amount} waits for a second person's approval at {page}"
    before = ", booked before" if answer.again else ""
    return f"{subject}: {amount}{reference}, balance {format_money(booking.entry.balance_after_micros)}{before}"


@contextmanager
def refusals_told() -> Iterator[None]:
    try:
        yield
    except LedgerError as error:
        raise CommandError(str(error)) from error


def name_actor() -> str:
    """Who sits at the command line; a container may have no name for its user."""
    try:
        return f"shell:{getpass.getuser()}"
    except (KeyError, OSError):
        return "shell"
