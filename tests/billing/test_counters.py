"""What the ledger counts beside the money: dated entries, time zones that move, and counters that reconcile proves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.utils import timezone

from billing.keys import create_key
from billing.ledger import Charge, LedgerError, Reservation, Settlement, ZoneRefused, move_time_zone, reserve, settle
from billing.ledger.entries import append_entries
from billing.models import Account, ApiKey, LedgerEntry, UsageDay
from billing.reconcile import check_ledger
from crazyrouter.sql import read_clock
from tests.shop import Customer, open_customer

PRICE = 200_000
DAY = timedelta(days=1)


@pytest.fixture
def alice(db: None) -> Customer:
    return open_customer()


def buy(customer: Customer, *references: str, model: str = "qwen-image-plus", key_id: int | None = None) -> None:
    """One image each, charged."""
    key = ApiKey.objects.get(pk=key_id or customer.key_id)
    charge = Charge(0, PRICE, 7, model, "1024x1024", key.prefix)
    with transaction.atomic():
        reserve(connection, [Reservation(one, customer.account.pk, key.pk, 2 * PRICE) for one in references])
        settle(connection, [Settlement(one, (charge,)) for one in references])


def hold(customer: Customer, reference: str) -> None:
    with transaction.atomic():
        reserve(connection, [Reservation(reference, customer.account.pk, customer.key_id, PRICE)])


def tamper(statement: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def list_violations() -> list[tuple[str, str, str]]:
    return [(found.rule, found.subject, found.detail) for found in check_ledger(connection) if not found.notice]


# --- usage ---


def test_usage_is_counted_by_day_key_and_model(alice: Customer) -> None:
    other, _ = create_key(alice.account)
    buy(alice, "a", "b")
    buy(alice, "c", model="qwen-image-max")
    buy(alice, "d", key_id=other.pk)
    buy(alice, "e")
    rows = UsageDay.objects.order_by("model", "key_prefix").values_list(
        "model", "key_prefix", "images", "amount_micros"
    )
    assert sorted(rows) == sorted(
        [
            ("qwen-image-max", alice.prefix, 1, PRICE),
            ("qwen-image-plus", alice.prefix, 3, 3 * PRICE),
            ("qwen-image-plus", other.prefix, 1, PRICE),
        ]
    )
    assert list(ApiKey.objects.order_by("id").values_list("spent_micros", flat=True)) == [4 * PRICE, PRICE]
    assert Account.objects.values_list("spent_micros", "month_spent_micros").get() == (5 * PRICE, 5 * PRICE)
    assert list_violations() == []


def test_an_agreed_price_stands_in_the_entry(alice: Customer) -> None:
    hold(alice, "a")
    with transaction.atomic():
        charge = Charge(0, 175_000, 7, "qwen-image-plus", "1024x1024", alice.prefix, account_price_version=12)
        settle(connection, [Settlement("a", (charge,))])
    entry = LedgerEntry.objects.get(kind="charge")
    assert (entry.amount_micros, entry.unit_price_micros) == (-175_000, 175_000)
    assert (entry.price_version, entry.account_price_version) == (7, 12)


def test_a_charge_behind_a_closed_month_counts_in_the_next(alice: Customer) -> None:
    """Entry, day and month are cut from one moment, wherever that lies."""
    ends = datetime(2999, 11, 30, 16, tzinfo=UTC)
    Account.objects.update(closed_until=ends)
    buy(alice, "a")
    assert LedgerEntry.objects.get(kind="charge").booked_at == ends
    assert str(UsageDay.objects.get().day) == "2999-12-01"
    assert Account.objects.values_list("month", "month_spent_micros").get() == ("2999-12", PRICE)
    assert ApiKey.objects.values_list("month", "month_spent_micros").get() == ("2999-12", PRICE)


# --- entries with a date ---


def book(customer: Customer, booked_at: datetime | str | None) -> LedgerEntry:
    row = {"kind": "adjustment", "amount_micros": 5, "reference": "adj", "line": 0, "booked_at": booked_at}
    texts = dict.fromkeys(("model", "size", "key_prefix", "memo", "actor"), "")
    with transaction.atomic():
        append_entries(connection, {customer.account.pk: [{**row, **texts}]}, {})
    return LedgerEntry.objects.get(reference="adj")


@pytest.mark.parametrize("as_text", [False, True])
def test_a_person_may_name_a_date(alice: Customer, *, as_text: bool) -> None:
    moment = timezone.now() - 40 * DAY
    Account.objects.update(closed_until=moment)
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    assert book(alice, text if as_text else moment).booked_at == moment
    assert list_violations() != []  # the account claims a closed month that there is not, and nothing else is wrong
    assert {rule for rule, _, _ in list_violations()} == {"closed-books-end-with-their-last-month"}


def test_a_person_may_not_date_into_a_closed_month(alice: Customer) -> None:
    closed = timezone.now() - 40 * DAY
    Account.objects.update(closed_until=closed)
    with pytest.raises(LedgerError, match="lies in a closed month"):
        book(alice, closed - timedelta(microseconds=1))
    with pytest.raises(LedgerError, match="lies in the future"):
        book(alice, timezone.now() + DAY)
    assert LedgerEntry.objects.count() == 1
    assert Account.objects.values_list("sequence", "balance_micros").get() == (1, 100_000_000)


def test_without_a_date_it_is_now(alice: Customer) -> None:
    before = read_clock(connection)
    booked_at = book(alice, None).booked_at
    assert before - timedelta(milliseconds=2) <= booked_at <= read_clock(connection) + timedelta(milliseconds=2)


# --- time zones ---


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Etc/GMT+10", "Asia/Kathmandu"])
def test_days_and_months_move_with_the_time_zone(alice: Customer, zone: str) -> None:
    other, _ = create_key(alice.account)
    bob = open_customer("bob")
    buy(alice, "a", "b")
    buy(alice, "c", key_id=other.pk)
    buy(bob, "d")
    untouched = list(UsageDay.objects.filter(account=bob.account).values())
    move_time_zone(alice.account.pk, zone)
    charges = LedgerEntry.objects.filter(account=alice.account, kind="charge")
    days = {entry.booked_at.astimezone(ZoneInfo(zone)).date() for entry in charges}
    assert set(UsageDay.objects.filter(account=alice.account).values_list("day", flat=True)) == days
    last = max(days)
    counted = sum(entry.booked_at.astimezone(ZoneInfo(zone)).month == last.month for entry in charges)
    account = Account.objects.get(name="alice")
    assert (account.time_zone, account.month, account.month_spent_micros) == (zone, f"{last:%Y-%m}", counted * PRICE)
    assert list(UsageDay.objects.filter(account=bob.account).values()) == untouched
    assert list_violations() == []


def test_a_time_zone_without_charges_moves_nothing(alice: Customer) -> None:
    Account.objects.update(month="2020-01", month_spent_micros=5)
    move_time_zone(alice.account.pk, "Europe/Berlin")
    assert Account.objects.values_list("time_zone", "month", "month_spent_micros").get() == ("Europe/Berlin", "", 0)


def test_a_closed_month_fixes_the_time_zone(alice: Customer) -> None:
    Account.objects.update(closed_until=timezone.now() - 40 * DAY)
    with pytest.raises(ZoneRefused, match="a month of this account is closed"):
        move_time_zone(alice.account.pk, "Europe/Berlin")
    assert Account.objects.get().time_zone == "Asia/Shanghai"


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd", "Asia/Shanghai'", "x" * 300])
def test_a_zone_that_nobody_knows_is_refused(alice: Customer, zone: str) -> None:
    with pytest.raises(ZoneRefused, match="there is no time zone"):
        move_time_zone(alice.account.pk, zone)
    assert Account.objects.get().time_zone == "Asia/Shanghai"


# --- reconcile ---


@pytest.mark.parametrize(
    ("statement", "rules"),
    [
        ("UPDATE billing_account SET held_micros = held_micros + 1", {"held-is-sum-of-open-holds"}),
        ("UPDATE billing_account SET in_flight = in_flight + 1", {"held-is-sum-of-open-holds"}),
        ("UPDATE billing_apikey SET held_micros = held_micros + 1", {"key-held-is-sum-of-open-holds"}),
        ("UPDATE billing_apikey SET in_flight = 0", {"key-held-is-sum-of-open-holds"}),
        ("UPDATE billing_account SET spent_micros = spent_micros - 1", {"spent-is-sum-of-usage"}),
        ("UPDATE billing_account SET month_spent_micros = 0", {"spent-is-sum-of-usage"}),
        ("UPDATE billing_account SET month = '2020-01'", {"spent-is-sum-of-usage"}),
        ("UPDATE billing_account SET month = '', month_spent_micros = 0", {"spent-is-sum-of-usage"}),
        ("UPDATE billing_apikey SET spent_micros = spent_micros + 1", {"key-spent-is-sum-of-usage"}),
        ("UPDATE billing_apikey SET month_spent_micros = 1", {"key-spent-is-sum-of-usage"}),
        ("UPDATE billing_apikey SET month = '9999-12'", {"key-spent-is-sum-of-usage"}),
        ("UPDATE billing_usageday SET images = images + 1", {"usage-is-sum-of-charges"}),
        (
            "UPDATE billing_usageday SET amount_micros = amount_micros + 1",
            {"usage-is-sum-of-charges", "spent-is-sum-of-usage", "key-spent-is-sum-of-usage"},
        ),
        ("UPDATE billing_usageday SET model = 'other'", {"usage-is-sum-of-charges"}),
        (
            "UPDATE billing_usageday SET key_prefix = 'other'",
            {"usage-is-sum-of-charges", "key-spent-is-sum-of-usage"},
        ),
        (
            "DELETE FROM billing_usageday",
            {"usage-is-sum-of-charges", "spent-is-sum-of-usage", "key-spent-is-sum-of-usage"},
        ),
    ],
)
def test_what_was_tampered_with_is_named(alice: Customer, statement: str, rules: set[str]) -> None:
    buy(alice, "a", "b")
    hold(alice, "c")
    assert list_violations() == []
    tamper(statement)
    found = list_violations()
    assert {rule for rule, _, _ in found} == rules
    names = {"alice", alice.prefix, str(alice.account.pk)}
    assert {subject for _, subject, _ in found} <= names


def test_a_day_in_the_wrong_zone_is_named(alice: Customer) -> None:
    buy(alice, "a")
    (day,) = UsageDay.objects.values_list("day", flat=True)
    tamper("UPDATE billing_usageday SET day = %s", day - DAY)
    found = [one for one in list_violations() if one[0] == "usage-is-sum-of-charges"]
    said = f", key {alice.prefix}, qwen-image-plus: counts"
    assert sorted(detail for _, _, detail in found) == sorted(
        [
            f"account id; {day - DAY}{said} 1 images for {PRICE}, charged are 0 for 0 (micro-units)",
            f"account id; {day}{said} 0 images for 0, charged are 1 for {PRICE} (micro-units)",
        ]
    )
