"""The time zone in which an account's days and months are cut: with it move the projections that are cut in it.

LedgerError
  ZoneRefused     the zone is fixed by a closed month, or nobody knows it
"""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db import DatabaseError, connection, transaction

from billing.ledger.entries import LedgerError
from billing.models import Account, UsageDay
from crazyrouter.sql import render_day, render_now


class ZoneRefused(LedgerError):
    """The account keeps its time zone."""


#: The tables whose rows count by month: the column of the account, and which days are a row's.
COUNTING = (
    ("billing_account", "id", "u.account_id = billing_account.id"),
    (
        "billing_apikey",
        "account_id",
        "u.account_id = billing_apikey.account_id AND u.key_prefix = billing_apikey.prefix",
    ),
)


def check_zone(name: str) -> None:
    """Whether both Python, which cuts what is exported, and the database, which cuts what is booked, know the zone."""
    try:
        ZoneInfo(name)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SELECT {render_day(connection.vendor, render_now(connection.vendor), '%s')}", [name])
    except (ValueError, ZoneInfoNotFoundError, OSError, DatabaseError):
        raise ZoneRefused(f"there is no time zone {name!r}: write one like Asia/Shanghai") from None


def move_time_zone(account_id: int, zone: str) -> None:
    """Cut the account's days of usage and months anew. Its first closed month fixes the zone for good."""
    check_zone(zone)
    with transaction.atomic():
        # The account's row first: whoever charges it waits, and then cuts in the new zone.
        if not Account.objects.filter(pk=account_id, closed_until=None).update(time_zone=zone):
            raise ZoneRefused("a month of this account is closed: its time zone stays as it is")
        UsageDay.objects.filter(account_id=account_id).delete()
        with connection.cursor() as cursor:
            cursor.execute(render_recut(connection.vendor), [account_id])
            for table, owner, match in COUNTING:
                cursor.execute(render_month(table, owner=owner, match=match), [account_id])


def render_recut(vendor: str) -> str:
    day = render_day(vendor, "e.booked_at", "a.time_zone")
    return f"""
        INSERT INTO billing_usageday (account_id, day, key_prefix, model, images, amount_micros)
        SELECT e.account_id, {f"CAST({day} AS date)" if vendor == "postgresql" else day}, e.key_prefix, e.model,
            COUNT(*), -SUM(e.amount_micros)
        FROM billing_ledgerentry e JOIN billing_account a ON a.id = e.account_id
        WHERE e.account_id = %s AND e.kind = 'charge' GROUP BY 1, 2, 3, 4
    """  # noqa: S608


def render_month(table: str, *, owner: str, match: str) -> str:
    """The month of the latest charge, and what was charged in it, from the days of usage."""
    month = "substr(CAST(u.day AS text), 1, 7)"
    latest = f"(SELECT MAX({month}) FROM billing_usageday u WHERE {match})"  # noqa: S608
    spent = f"(SELECT SUM(u.amount_micros) FROM billing_usageday u WHERE {match} AND {month} = {latest})"  # noqa: S608
    return f"""
        UPDATE {table} SET month = COALESCE({latest}, ''), month_spent_micros = COALESCE({spent}, 0) WHERE {owner} = %s
    """  # noqa: S608
