"""What the commands about accounts share: words of the command line into objects, errors into CommandError."""

from __future__ import annotations

import getpass

from django.core.management.base import CommandError

from billing.ledger import LedgerError, top_up
from billing.models import Account, LedgerEntry
from billing.money import InvalidAmount, parse


def find_account(name: str) -> Account:
    account = Account.objects.filter(name=name).first()
    if account is None:
        raise CommandError(f"there is no account {name!r}: `manage.py create_account` makes one")
    return account


def parse_amount(text: str) -> int:
    """Micro-units above zero."""
    try:
        micros = parse(text)
    except InvalidAmount as error:
        raise CommandError(str(error)) from error
    if micros <= 0:
        raise CommandError(f"{text!r}: a top-up must be above zero")
    return micros


def book_top_up(account: Account, *, amount_micros: int, reference: str, memo: str) -> LedgerEntry:
    try:
        return top_up(account, amount_micros=amount_micros, reference=reference, memo=memo, actor=name_actor())
    except LedgerError as error:
        raise CommandError(str(error)) from error


def name_actor() -> str:
    """Who sits at the command line; a container may have no name for its user."""
    try:
        return f"shell:{getpass.getuser()}"
    except (KeyError, OSError):
        return "shell"
