"""Closing a month: what is frozen, what is refused, and what is booked afterwards."""

from __future__ import annotations

import csv
import hashlib
import io
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from billing import closing
from billing.closing import ClosingError, close_everywhere, close_month
from billing.exports import Order, make_plan, stream_export
from billing.ledger import Charge, Reservation, Settlement, refund, reserve, settle, top_up
from billing.models import Account, ClosedMonth, Hold, LedgerEntry
from billing.periods import cut_month, find_last_day, find_zone, parse_month, read_clock
from billing.reconcile import check_ledger
from tests.entries import make_charge, make_top_up, write_entries
from tests.shop import Customer, open_customer

MAY, JUNE, JULY, AUGUST = (date(2026, month, 1) for month in (5, 6, 7, 8))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def acme(db: None) -> Account:
    """Entries in May and July, none in June."""
    account = Account.objects.create(name="acme", created_at=at("2026-01-01"))
    write_entries(
        account,
        [
            make_top_up(at("2026-05-10"), 100_000_000),
            make_charge(at("2026-05-31 15:59:59.999"), reference="gen_a"),
            make_charge(at("2026-07-01")),
        ],
    )
    return account


def close(account: Account, month: date) -> ClosedMonth:
    outcome = close_month(account.pk, month, closed_by="olga")
    assert not outcome.known
    return outcome.row


def refuse(account: Account, month: date) -> str:
    before = read_state()
    with pytest.raises(ClosingError) as caught:
        close_month(account.pk, month, closed_by="olga")
    assert read_state() == before
    return str(caught.value)


def read_state() -> tuple[Any, ...]:
    return list(ClosedMonth.objects.values_list("pk")), list(Account.objects.values_list("name", "closed_until"))


def export(account: Account, month: date) -> str:
    plan = make_plan(Order("statement", month, find_last_day(month), account.pk))
    return b"".join(piece for piece, _ in stream_export(plan)).decode()


def read_sections(text: str, *names: str) -> dict[str, tuple[str, ...]]:
    return {row["section"]: tuple(row[name] for name in names) for row in csv.DictReader(io.StringIO(text, newline=""))}


def list_violations() -> set[str]:
    """What is wrong with the months; ledgers written for a test have no holds."""
    return {found.rule for found in check_ledger(connection)} & {
        "closed-month-is-what-was-booked",
        "closed-books-end-with-their-last-month",
        "frozen-statement-has-its-hash",
    }


# --- what is frozen ---


def test_a_closed_month_says_what_was_booked(acme: Account) -> None:
    text = export(acme, MAY)
    before = read_clock(connection)
    row = close(acme, MAY)
    assert (row.month, row.time_zone, row.starts_at, row.ends_at, row.entries, row.closed_by) == (
        "2026-05",
        "Asia/Shanghai",
        at("2026-04-30 16:00"),
        at("2026-05-31 16:00"),
        2,
        "olga",
    )
    assert (row.opening_balance_micros, row.closing_balance_micros) == (0, 99_800_000)
    assert row.csv == text
    assert row.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert before <= row.closed_at <= read_clock(connection)
    acme.refresh_from_db()
    assert acme.closed_until == row.ends_at
    assert list_violations() == set()


def test_closing_again_is_the_same_month(acme: Account) -> None:
    first = close(acme, MAY)
    again = close_month(acme.pk, MAY, closed_by="victor")
    assert again.known
    assert again.row == first
    assert (again.row.closed_by, ClosedMonth.objects.count()) == ("olga", 1)


def test_a_closed_statement_is_the_same_for_good(acme: Account) -> None:
    frozen = close(acme, MAY).csv
    Account.objects.update(name="renamed")
    assert export(acme, MAY) == frozen
    part = make_plan(Order("statement", MAY, date(2026, 5, 30), acme.pk))
    assert part.frozen is None
    assert make_plan(Order("statement", MAY, date(2026, 6, 30), acme.pk)).frozen is None
    assert make_plan(Order("ledger", MAY, date(2026, 5, 31), acme.pk)).frozen is None


def test_months_chain(acme: Account) -> None:
    rows = [close(acme, month) for month in (MAY, JUNE, JULY)]
    assert [(row.opening_balance_micros, row.closing_balance_micros, row.entries) for row in rows] == [
        (0, 99_800_000, 2),
        (99_800_000, 99_800_000, 0),
        (99_800_000, 99_600_000, 1),
    ]
    assert read_sections(export(acme, AUGUST), "amount")["opening_balance"] == ("99.600000",)
    assert list_violations() == set()


def test_the_first_closed_month_may_be_any_and_closes_all_before_it(acme: Account) -> None:
    row = close(acme, JULY)
    assert (row.opening_balance_micros, row.closing_balance_micros, row.entries) == (99_800_000, 99_600_000, 1)
    assert list_violations() == set()
    words = "acme: 2026-05 is within the books closed until 2026-08-01 00:00:00+08:00"
    assert refuse(acme, MAY) == words


def test_the_opening_balance_of_a_later_month_reads_no_closed_entry(acme: Account) -> None:
    close(acme, JULY)
    with connection.cursor() as cursor:
        tamper(cursor, "UPDATE billing_ledgerentry SET amount_micros = -1 WHERE sequence = 2", "billing_ledgerentry")
    assert read_sections(export(acme, AUGUST), "amount")["opening_balance"] == ("99.600000",)


# --- what is refused ---


def test_not_before_an_hour_past_the_end(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    end = cut_month(JULY, find_zone("Asia/Shanghai")).ends_at
    monkeypatch.setattr(closing, "read_clock", lambda _: end + timedelta(minutes=59, seconds=59))
    assert refuse(acme, JULY) == (
        "acme: 2026-07 ends at 2026-08-01 00:00:00+08:00 and can be closed an hour later; "
        "it is 2026-08-01 00:59:59+08:00"
    )
    monkeypatch.setattr(closing, "read_clock", lambda _: end + timedelta(hours=1))
    assert close(acme, JULY).ends_at == end


def test_the_present_month_is_open(acme: Account) -> None:
    month = read_clock(connection).astimezone(find_zone("Asia/Shanghai")).date().replace(day=1)
    assert "can be closed an hour later" in refuse(acme, month)


def test_months_are_closed_in_order(acme: Account) -> None:
    close(acme, MAY)
    assert refuse(acme, AUGUST) == "acme: 2026-07 has entries and is to be closed first"
    close(acme, JULY)  # nothing was booked in June
    assert close(acme, AUGUST).opening_balance_micros == 99_600_000


def test_an_account_that_was_changed_meanwhile_is_left_alone(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The zone, above all: the statement would be cut in one and the account live in another."""

    def draw(*args: Any) -> Any:
        Account.objects.update(time_zone="Europe/Berlin")
        return statement_of(*args)

    statement_of = closing.draw
    monkeypatch.setattr(closing, "draw", draw)
    with pytest.raises(ClosingError, match="acme: it was changed meanwhile; close 2026-05 again"):
        close_month(acme.pk, MAY, closed_by="olga")
    assert ClosedMonth.objects.count() == 0
    acme.refresh_from_db()
    assert acme.closed_until is None


def test_a_zone_that_is_none_is_said(acme: Account) -> None:
    Account.objects.update(time_zone="Mars/Olympus")
    assert refuse(acme, MAY) == "acme: there is no time zone 'Mars/Olympus'"


def test_one_account_that_cannot_be_closed_stops_no_other(acme: Account) -> None:
    close(acme, MAY)
    Account.objects.create(name="empty", created_at=at("2026-01-01"), time_zone="America/New_York")
    Account.objects.create(name="later", created_at=at("2026-09-10"))
    outcomes = list(close_everywhere(AUGUST, closed_by="olga"))
    assert str(outcomes[0]) == "acme: 2026-07 has entries and is to be closed first"
    assert [row.account.name for row in ClosedMonth.objects.filter(month="2026-08")] == ["empty"]
    assert len(outcomes) == 2


# --- what is booked afterwards ---


def test_what_is_booked_while_the_statement_is_drawn_is_in_it(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    take = closing.take_account

    def book_first(*args: Any) -> bool:
        write_entries(acme, [make_charge(at("2026-05-20"))])
        return take(*args)

    monkeypatch.setattr(closing, "take_account", book_first)
    row = close(acme, MAY)
    assert (row.entries, row.closing_balance_micros) == (3, 99_600_000)
    assert read_sections(row.csv, "entries", "last_sequence")["control"] == ("3", "4")
    assert list_violations() == set()


def hold(customer: Customer, reference: str, micros: int = 200_000) -> None:
    with transaction.atomic():
        reserve(connection, [Reservation(reference, customer.account.pk, customer.key_id, micros)])


def deliver(reference: str) -> None:
    prefix = Hold.objects.values_list("api_key__prefix", flat=True).get(reference=reference)
    charge = Charge(0, 200_000, 7, "qwen-image-plus", "1024x1024", prefix)
    with transaction.atomic():
        settle(connection, [Settlement(reference, (charge,))])


@pytest.fixture
def after_this_month(monkeypatch: pytest.MonkeyPatch) -> date:
    """The first day of the month that has begun; to whoever closes it, it is over."""
    now = datetime.now(UTC).astimezone(find_zone("Asia/Shanghai"))
    month = parse_month(f"{now:%Y-%m}")
    end = cut_month(month, find_zone("Asia/Shanghai")).ends_at
    monkeypatch.setattr(closing, "read_clock", lambda _: end + timedelta(hours=2))
    return month


def test_a_generation_that_runs_over_the_end_is_charged_in_the_next_month(db: None, after_this_month: date) -> None:
    customer = open_customer(micros=1_000_000)
    hold(customer, "gen_a")
    hold(customer, "gen_b")
    deliver("gen_a")
    row = close(customer.account, after_this_month)
    deliver("gen_b")
    assert (row.entries, row.closing_balance_micros) == (2, 800_000)
    assert LedgerEntry.objects.get(reference="gen_b").booked_at == row.ends_at
    following = export(customer.account, find_last_day(after_this_month) + timedelta(days=1))
    sections = read_sections(following, "amount", "first_sequence")
    assert sections["opening_balance"][0] == "0.800000"
    assert (sections["model"], sections["closing_balance"][0]) == (("-0.200000", "3"), "0.600000")
    assert export(customer.account, after_this_month) == row.csv
    assert list(check_ledger(connection)) == []


def test_a_refund_after_closing_is_in_the_next_month_and_names_what_it_corrects(
    db: None, after_this_month: date
) -> None:
    customer = open_customer(micros=1_000_000)
    hold(customer, "gen_a")
    deliver("gen_a")
    row = close(customer.account, after_this_month)
    charge = LedgerEntry.objects.get(reference="gen_a")
    refund(charge, amount_micros=150_000, memo="unreadable", actor="olga")
    following = export(customer.account, find_last_day(after_this_month) + timedelta(days=1))
    names = ("amount", "reference", "corrects_generation_id", "corrects_slot", "corrects_month", "memo")
    assert read_sections(following, *names)["correction"] == (
        "0.150000",
        str(charge.pk),
        "gen_a",
        "0",
        row.month,
        "unreadable",
    )
    assert export(customer.account, after_this_month) == row.csv


def run_together(*jobs: Callable[[], None]) -> None:
    failures: list[BaseException] = []
    ready = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        try:
            ready.wait()
            job()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_is_booked_while_a_month_closes_is_in_it_or_behind_it(database: None, after_this_month: date) -> None:
    customer = open_customer(micros=100_000_000)
    for number in range(40):
        hold(customer, f"gen_{number}")
    half, closed = threading.Event(), threading.Event()

    def settle_all() -> None:
        for number in range(40):
            deliver(f"gen_{number}")
            if number == 10:
                half.set()
            if number == 35:
                closed.wait(10)

    def top_up_often() -> None:
        for number in range(30):
            top_up(customer.account, amount_micros=1_000, reference=f"r{number}", memo="", actor="")
            if number == 25:
                closed.wait(10)

    def close_once() -> None:
        half.wait(10)
        close_month(customer.account.pk, after_this_month, closed_by="olga")
        closed.set()

    run_together(settle_all, top_up_often, close_once)
    row = ClosedMonth.objects.get()
    before = LedgerEntry.objects.filter(booked_at__lt=row.ends_at)
    behind = LedgerEntry.objects.filter(booked_at=row.ends_at)
    assert (before.count() + behind.count(), LedgerEntry.objects.count()) == (71, 71)
    assert 12 <= before.count() <= 71 - 8
    assert row.entries == before.count()
    assert row.closing_balance_micros == sum(before.values_list("amount_micros", flat=True))
    assert read_sections(row.csv, "entries", "last_sequence")["control"] == (str(row.entries), str(row.entries))
    following = read_sections(export(customer.account, find_last_day(after_this_month) + timedelta(days=1)), "amount")
    assert following["opening_balance"] == read_sections(row.csv, "amount")["closing_balance"]
    assert following["closing_balance"] == ("92.030000",)
    assert list(check_ledger(connection)) == []


def test_two_who_close_one_month_close_it_once(database: None, after_this_month: date) -> None:
    customer = open_customer()
    outcomes: list[closing.Closing] = []
    run_together(*[lambda: outcomes.append(close_month(customer.account.pk, after_this_month, closed_by="olga"))] * 4)
    assert sorted(outcome.known for outcome in outcomes) == [False, True, True, True]
    assert {outcome.row.pk for outcome in outcomes} == {ClosedMonth.objects.get().pk}


# --- what reconcile sees ---


def tamper(cursor: Any, statement: str, table: str) -> None:
    """Past the triggers that refuse it."""
    if connection.vendor == "postgresql":
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement)
        cursor.execute("SET session_replication_role = DEFAULT")
        return
    cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [table])
    triggers = cursor.fetchall()
    for name, _ in triggers:
        cursor.execute(f'DROP TRIGGER "{name}"')
    cursor.execute(statement)
    for _, sql in triggers:
        cursor.execute(sql)


@pytest.mark.parametrize(
    ("statement", "table", "rule"),
    [
        ("UPDATE billing_closedmonth SET csv = csv || ' '", "billing_closedmonth", "frozen-statement-has-its-hash"),
        ("UPDATE billing_closedmonth SET entries = 3", "billing_closedmonth", "closed-month-is-what-was-booked"),
        (
            "UPDATE billing_closedmonth SET opening_balance_micros = 1",
            "billing_closedmonth",
            "closed-month-is-what-was-booked",
        ),
        (
            "UPDATE billing_closedmonth SET closing_balance_micros = 1",
            "billing_closedmonth",
            "closed-month-is-what-was-booked",
        ),
        (
            "UPDATE billing_ledgerentry SET booked_at = '2026-05-20 00:00:00+00' WHERE sequence = 3",
            "billing_ledgerentry",
            "closed-month-is-what-was-booked",
        ),
        ("UPDATE billing_account SET closed_until = NULL", "", "closed-books-end-with-their-last-month"),
        ("UPDATE billing_account SET time_zone = 'UTC'", "", "closed-books-end-with-their-last-month"),
        ("DELETE FROM billing_closedmonth", "billing_closedmonth", "closed-books-end-with-their-last-month"),
    ],
)
def test_reconcile_names_a_month_that_was_tampered_with(acme: Account, statement: str, table: str, rule: str) -> None:
    close(acme, MAY)
    close(acme, JUNE)
    assert list_violations() == set()
    with connection.cursor() as cursor:
        tamper(cursor, statement, table)
    assert list_violations() == {rule}


def test_a_closed_month_is_append_only(acme: Account) -> None:
    close(acme, MAY)
    for write in (
        lambda: ClosedMonth.objects.update(csv=""),
        lambda: ClosedMonth.objects.all().delete(),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            write()
