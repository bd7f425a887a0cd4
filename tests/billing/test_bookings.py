"""Money moved by people: refunds, adjustments and top-ups, each once, much of it with a second person's approval."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing import bookings, ledger
from billing.bookings import AlreadyDecided, Answer, OwnRequest, approve, reject, request_booking, request_refunds
from billing.ledger import Charge, Duplicate, ExceedsCharge, LedgerError, Reservation, Settlement, reserve, settle
from billing.models import Account, ApiKey, Booking, LedgerEntry, RefundedCharge, UsageDay
from billing.reconcile import check_ledger
from tests.race import race
from tests.shop import Customer, open_customer

PRICE = 200_000
ROOT = Path(__file__).parents[2]


def buy(customer: Customer, *, images: int = 1, reference: str = "gen_a", price: int = PRICE) -> list[LedgerEntry]:
    """Some images, delivered and charged."""
    made = [
        Charge(
            line=line,
            unit_price_micros=price,
            price_version=7,
            model="qwen-image-plus",
            size="1024x1024",
            key_prefix=customer.prefix,
        )
        for line in range(images)
    ]
    with transaction.atomic():
        reserve(connection, [Reservation(reference, customer.account.pk, customer.key_id, images * price)])
        settle(connection, [Settlement(reference, tuple(made))])
    return list(LedgerEntry.objects.filter(kind="charge", reference=reference).order_by("line"))


@pytest.fixture
def alice(db: None) -> Customer:
    return open_customer(micros=10_000_000)


def read_balance(customer: Customer) -> int:
    return Account.objects.get(pk=customer.account.pk).balance_micros


def find_violations() -> list[tuple[str, str, str]]:
    return [(found.rule, found.subject, found.detail) for found in check_ledger(connection)]


def top_up(customer: Customer, micros: int = 5_000_000, *, token: str = "t-1", **other: Any) -> Answer:
    facts: dict[str, Any] = {"kind": "top_up", "memo": "wire", "actor": "anna", "reference": "bank-1", **other}
    return request_booking(customer.account, amount_micros=micros, token=token, **facts)


def read_bookings() -> list[tuple[str, str, int]]:
    return list(Booking.objects.order_by("id").values_list("kind", "state", "amount_micros"))


# --- the ledger's verbs --------------------------------------------------------------------------------------------


def test_a_refund_reads_alone(alice: Customer) -> None:
    (charge,) = buy(alice)
    entry = ledger.refund(charge, amount_micros=PRICE, memo="blurred", actor="anna")
    assert (entry.kind, entry.amount_micros, entry.reference, entry.line) == ("refund", PRICE, str(charge.pk), 0)
    assert (entry.sequence, entry.balance_after_micros) == (3, 10_000_000)
    assert (entry.model, entry.size, entry.unit_price_micros, entry.price_version, entry.key_prefix) == (
        "qwen-image-plus",
        "1024x1024",
        PRICE,
        7,
        alice.prefix,
    )
    assert (entry.memo, entry.actor, entry.account_id) == ("blurred", "anna", alice.account.pk)
    assert find_violations() == []


def test_a_refund_gives_neither_the_keys_limit_back_nor_the_days_usage(alice: Customer) -> None:
    (charge,) = buy(alice)
    before = (
        ApiKey.objects.values("spent_micros", "month_spent_micros", "held_micros").get(),
        Account.objects.values("spent_micros", "month_spent_micros", "held_micros").get(),
        list(UsageDay.objects.values()),
    )
    ledger.refund(charge, amount_micros=PRICE, memo="blurred", actor="anna")
    assert before == (
        ApiKey.objects.values("spent_micros", "month_spent_micros", "held_micros").get(),
        Account.objects.values("spent_micros", "month_spent_micros", "held_micros").get(),
        list(UsageDay.objects.values()),
    )
    assert ApiKey.objects.get().spent_micros == PRICE


def test_parts_of_a_charge_add_up_to_it_and_no_further(alice: Customer) -> None:
    (charge,) = buy(alice)
    for part in (150_000, 49_999):
        ledger.refund(charge, amount_micros=part, memo="blurred", actor="anna")
    with pytest.raises(ExceedsCharge, match=r"¥0\.000002 is more than is left of this charge: ¥0\.000001"):
        ledger.refund(charge, amount_micros=2, memo="blurred", actor="anna")
    ledger.refund(charge, amount_micros=1, memo="blurred", actor="anna")
    refunds = LedgerEntry.objects.filter(kind="refund").order_by("sequence")
    assert list(refunds.values_list("line", "amount_micros")) == [(0, 150_000), (1, 49_999), (2, 1)]
    assert RefundedCharge.objects.values_list("charged_micros", "refunded_micros", "refunds").get() == (
        PRICE,
        PRICE,
        3,
    )
    assert (read_balance(alice), ledger.read_left(charge), find_violations()) == (10_000_000, 0, [])


def test_what_is_no_charge_is_not_refunded(alice: Customer) -> None:
    with pytest.raises(LedgerError, match="entry 1 is no charge"):
        ledger.refund(LedgerEntry.objects.get(), amount_micros=1, memo="x", actor="anna")


def test_no_sum_of_refunds_exceeds_its_charge_below_the_code(alice: Customer) -> None:
    (charge,) = buy(alice)
    ledger.refund(charge, amount_micros=1, memo="x", actor="anna")
    with pytest.raises(IntegrityError), transaction.atomic():
        RefundedCharge.objects.update(refunded_micros=PRICE + 1)


def test_an_adjustment_goes_either_way_and_below_zero(alice: Customer) -> None:
    ledger.adjust(alice.account, amount_micros=2_000_000, reference="a-1", memo="sorry", actor="anna")
    entry = ledger.adjust(alice.account, amount_micros=-15_000_000, reference="a-2", memo="chargeback", actor="anna")
    assert (entry.kind, entry.amount_micros, entry.balance_after_micros) == ("adjustment", -15_000_000, -3_000_000)
    again = ledger.adjust(alice.account, amount_micros=-15_000_000, reference="a-2", memo="chargeback", actor="anna")
    assert (again.pk, read_balance(alice)) == (entry.pk, -3_000_000)
    with pytest.raises(Duplicate):
        ledger.adjust(alice.account, amount_micros=15_000_000, reference="a-2", memo="chargeback", actor="anna")
    (notice,) = check_ledger(connection)
    assert (notice.rule, notice.subject, notice.notice) == ("account-is-overdrawn", "alice", True)


BAD_AMOUNTS: list[Any] = [0, 10**15, -(10**15), 2**63, 10**30, True, 1.5, float("nan"), "5", None]


@pytest.mark.parametrize("amount", [*BAD_AMOUNTS, -1])
def test_no_wrong_amount_is_refunded_or_paid(alice: Customer, amount: Any) -> None:
    (charge,) = buy(alice)
    with pytest.raises(LedgerError):
        ledger.refund(charge, amount_micros=amount, memo="x", actor="anna")
    with pytest.raises(LedgerError):
        ledger.top_up(alice.account, amount_micros=amount, reference="r", memo="x", actor="anna")
    assert (LedgerEntry.objects.count(), RefundedCharge.objects.count()) == (2, 0)


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_no_wrong_amount_is_adjusted(alice: Customer, amount: Any) -> None:
    with pytest.raises(LedgerError):
        ledger.adjust(alice.account, amount_micros=amount, reference="r", memo="x", actor="anna")
    assert LedgerEntry.objects.count() == 1


def test_corrections_say_why(alice: Customer) -> None:
    (charge,) = buy(alice)
    with pytest.raises(LedgerError, match="memo"):
        ledger.refund(charge, amount_micros=1, memo=" ", actor="anna")
    with pytest.raises(LedgerError, match="memo"):
        ledger.adjust(alice.account, amount_micros=1, reference="r", memo="", actor="anna")
    assert LedgerEntry.objects.count() == 2


# --- dates ---------------------------------------------------------------------------------------------------------


def test_people_may_name_a_date(alice: Customer) -> None:
    paid = datetime(2025, 3, 31, 16, tzinfo=UTC)
    facts: dict[str, Any] = {"reference": "bank-2", "memo": "wire", "actor": "anna"}
    entry = ledger.top_up(alice.account, amount_micros=1_000_000, book_at=paid, **facts)
    assert entry.booked_at == paid
    assert ledger.top_up(alice.account, amount_micros=1_000_000, book_at=paid, **facts).pk == entry.pk
    with pytest.raises(Duplicate):
        ledger.top_up(alice.account, amount_micros=1_000_000, book_at=paid + timedelta(days=1), **facts)
    assert ledger.adjust(alice.account, amount_micros=-5, book_at=paid, **facts).booked_at == paid
    assert find_violations() == []


def test_nobody_books_into_the_future_or_a_closed_month(alice: Customer) -> None:
    closed = datetime(2025, 3, 31, 16, tzinfo=UTC)
    Account.objects.update(closed_until=closed)
    facts: dict[str, Any] = {"amount_micros": 1, "memo": "x", "actor": "anna"}
    for moment, words in [(closed - timedelta(seconds=1), "closed"), (timezone.now() + timedelta(hours=1), "future")]:
        with pytest.raises(LedgerError, match=words):
            ledger.top_up(alice.account, reference="r", book_at=moment, **facts)
        with pytest.raises(LedgerError, match=words):
            ledger.adjust(alice.account, reference="r", book_at=moment, **facts)
        with pytest.raises(LedgerError, match=words):
            top_up(alice, book_at=moment)
    assert (LedgerEntry.objects.count(), Booking.objects.count()) == (1, 0)
    assert ledger.top_up(alice.account, reference="r", book_at=closed, **facts).booked_at == closed


# --- bookings ------------------------------------------------------------------------------------------------------


def test_up_to_the_threshold_one_person_books(alice: Customer, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "5.00"
    answer = top_up(alice)
    assert not answer.again
    entry = LedgerEntry.objects.get(reference="bank-1")
    row = Booking.objects.get()
    assert (row.state, row.entry, row.requested_by, row.decided_by) == ("booked", entry, "anna", "")
    assert (entry.amount_micros, entry.memo, entry.actor) == (5_000_000, "wire", "anna")
    assert read_balance(alice) == 15_000_000
    assert find_violations() == []


def test_a_micro_unit_above_it_waits(alice: Customer, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "5.00"
    booking = top_up(alice, 5_000_001).booking
    assert (booking.state, booking.entry, read_balance(alice)) == ("waiting", None, 10_000_000)
    assert LedgerEntry.objects.count() == 1
    approved = approve(booking, actor="bob")
    assert (approved.state, approved.decided_by, approved.requested_by) == ("booked", "bob", "anna")
    assert approved.entry is not None
    assert approved.decided_at is not None
    assert (approved.entry.amount_micros, approved.entry.actor, approved.entry.reference) == (
        5_000_001,
        "anna",
        "bank-1",
    )
    assert read_balance(alice) == 15_000_001
    assert find_violations() == []


def test_a_negative_adjustment_is_measured_by_its_size(alice: Customer, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "5.00"
    booking = top_up(alice, -5_000_001, kind="adjustment").booking
    assert booking.state == "waiting"
    approve(booking, actor="bob")
    assert read_balance(alice) == 4_999_999


def test_a_threshold_of_nothing_asks_for_everything(alice: Customer, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    assert top_up(alice, 1).booking.state == "waiting"


def test_the_threshold_is_ten_thousand_unless_set(alice: Customer) -> None:
    assert bookings.read_threshold() == 10_000_000_000


@pytest.mark.parametrize("value", ["many", "-1", "1e4", "nan", "0.0000001", "10,000"])
def test_a_wrong_threshold_is_named(settings: Any, value: str) -> None:
    settings.APPROVAL_THRESHOLD = value
    with pytest.raises(ImproperlyConfigured, match="APPROVAL_THRESHOLD"):
        bookings.read_threshold()


def test_a_wrong_threshold_is_an_error_at_start_up() -> None:
    environment = {**os.environ, "DEBUG": "true", "APPROVAL_THRESHOLD": "many"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "APPROVAL_THRESHOLD: 'many' is not an amount" in done.stderr


def test_the_same_token_is_answered_with_the_first_booking(alice: Customer) -> None:
    first, second = top_up(alice), top_up(alice, actor="bob")
    assert (second.booking.pk, second.again, read_bookings()) == (
        first.booking.pk,
        True,
        [("top_up", "booked", 5_000_000)],
    )
    assert read_balance(alice) == 15_000_000


@pytest.mark.parametrize(
    "other", [{"micros": 5_000_001}, {"memo": "cash"}, {"reference": "bank-2"}, {"kind": "adjustment"}]
)
def test_the_same_token_with_other_facts_is_refused(alice: Customer, other: dict[str, Any]) -> None:
    top_up(alice)
    with pytest.raises(Duplicate, match="is booked already"):
        top_up(alice, **other)
    assert (read_balance(alice), Booking.objects.count()) == (15_000_000, 1)


def test_the_same_token_for_another_account_is_refused(alice: Customer) -> None:
    top_up(alice)
    with pytest.raises(Duplicate):
        top_up(open_customer("bob", micros=0))
    assert Booking.objects.count() == 1


def test_the_same_reference_by_another_form_is_refused(alice: Customer) -> None:
    top_up(alice)
    with pytest.raises(Duplicate, match="by another form or command"):
        top_up(alice, token="t-2")
    assert (read_balance(alice), Booking.objects.count()) == (15_000_000, 1)


def test_what_waits_is_asked_for_once(alice: Customer, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    assert top_up(alice).booking.pk == top_up(alice).booking.pk
    with pytest.raises(Duplicate, match="is asked for already"):
        top_up(alice, 6_000_000)
    assert read_bookings() == [("top_up", "waiting", 5_000_000)]


@pytest.mark.parametrize("memo", ["", " \t ", "x" * 201, "two\nlines", "nul\x00", "half \udce9"])
def test_a_memo_is_one_line(alice: Customer, memo: str) -> None:
    with pytest.raises(LedgerError, match="memo"):
        top_up(alice, memo=memo)
    assert (LedgerEntry.objects.count(), Booking.objects.count()) == (1, 0)


@pytest.mark.parametrize("threshold", ["0", "10000.00"])
@pytest.mark.parametrize(("kind", "micros"), [("top_up", -5), ("top_up", 0), ("adjustment", 0), ("top_up", 10**15)])
def test_what_the_ledger_refuses_does_not_wait(
    alice: Customer, settings: Any, threshold: str, kind: str, micros: int
) -> None:
    settings.APPROVAL_THRESHOLD = threshold
    with pytest.raises(LedgerError):
        top_up(alice, micros, kind=kind)
    assert (LedgerEntry.objects.count(), Booking.objects.count(), read_balance(alice)) == (1, 0, 10_000_000)


@pytest.mark.parametrize("who", ["anna", "shell:anna"])
def test_who_asked_does_not_decide(alice: Customer, settings: Any, who: str) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    booking = top_up(alice).booking
    with pytest.raises(OwnRequest):
        approve(booking, actor=who)
    with pytest.raises(OwnRequest):
        reject(booking, actor=who, reason="mine")
    assert read_bookings() == [("top_up", "waiting", 5_000_000)]


def test_a_rejected_booking_books_nothing_ever(alice: Customer, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    booking = top_up(alice).booking
    with pytest.raises(LedgerError, match="a reason is required"):
        reject(booking, actor="bob", reason=" ")
    rejected = reject(booking, actor="bob", reason="no such payment")
    assert (rejected.state, rejected.decided_by, rejected.reason, rejected.entry) == (
        "rejected",
        "bob",
        "no such payment",
        None,
    )
    with pytest.raises(AlreadyDecided, match="rejected by bob: no such payment"):
        approve(booking, actor="carl")
    assert top_up(alice).booking.state == "rejected"
    assert read_balance(alice) == 10_000_000


def test_a_booked_booking_is_decided_for_good(alice: Customer, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    booking = top_up(alice).booking
    approve(booking, actor="bob")
    with pytest.raises(AlreadyDecided, match="booked by bob as entry 2"):
        approve(booking, actor="bob")
    with pytest.raises(AlreadyDecided):
        reject(booking, actor="carl", reason="late")
    assert read_balance(alice) == 15_000_000


def test_a_waiting_refund_is_measured_again(alice: Customer, settings: Any) -> None:
    (charge,) = buy(alice)
    settings.APPROVAL_THRESHOLD = "0"
    first, second = (
        request_refunds([charge], amount_micros=150_000, memo="blurred", actor="anna", token=token)[0].booking
        for token in ("t-1", "t-2")
    )
    assert RefundedCharge.objects.count() == 0
    approve(first, actor="bob")
    with pytest.raises(ExceedsCharge, match=r"¥0\.15 is more than is left of this charge: ¥0\.05"):
        approve(second, actor="bob")
    assert read_bookings() == [("refund", "booked", 150_000), ("refund", "waiting", 150_000)]
    assert reject(second, actor="bob", reason="refunded already").state == "rejected"
    assert (ledger.read_left(charge), find_violations()) == (50_000, [])


def test_a_month_closed_meanwhile_keeps_a_booking_waiting(alice: Customer, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    booking = top_up(alice, book_at=datetime(2025, 3, 31, tzinfo=UTC)).booking
    Account.objects.update(closed_until=datetime(2025, 3, 31, 16, tzinfo=UTC))
    with pytest.raises(LedgerError, match="closed"):
        approve(booking, actor="bob")
    assert (read_bookings(), read_balance(alice)) == ([("top_up", "waiting", 5_000_000)], 10_000_000)
    assert reject(booking, actor="bob", reason="date it later").state == "rejected"


def test_refunds_of_many_are_all_or_none(alice: Customer) -> None:
    charges = buy(alice, images=3)
    ledger.refund(charges[2], amount_micros=150_000, memo="x", actor="anna")
    with pytest.raises(ExceedsCharge):
        request_refunds(charges, amount_micros=100_000, memo="blurred", actor="anna", token="t-1")
    assert (LedgerEntry.objects.filter(kind="refund").count(), Booking.objects.count()) == (1, 0)
    answers = request_refunds(charges, amount_micros=None, memo="blurred", actor="anna", token="t-1")
    assert [answer.booking.amount_micros for answer in answers] == [PRICE, PRICE, 50_000]
    again = request_refunds(charges, amount_micros=None, memo="blurred", actor="anna", token="t-1")
    assert [(one.booking.pk, one.again) for one in again] == [(one.booking.pk, True) for one in answers]
    with pytest.raises(ExceedsCharge, match="nothing is left"):
        request_refunds(charges, amount_micros=None, memo="blurred", actor="anna", token="t-2")
    with pytest.raises(LedgerError, match="above zero"):
        request_refunds(charges, amount_micros=0, memo="blurred", actor="anna", token="t-3")
    assert (read_balance(alice), find_violations()) == (10_000_000, [])


def test_a_token_fits_whatever_the_reference() -> None:
    assert bookings.make_token("top_up", "INV-7") == "top_up:INV-7"
    long = [bookings.make_token("adjustment", "x" * 63 + last) for last in "ab"]
    assert ([len(token) <= 64 for token in long], long[0] == long[1]) == ([True, True], False)


# --- at once -------------------------------------------------------------------------------------------------------


def count_outcomes(results: list[object]) -> Counter[str]:
    return Counter(type(result).__name__ for result in results)


def leave_the_account(account_id: int) -> None:
    """In place of `take_account`: nobody waits for anybody before the charge's own row."""


@pytest.mark.parametrize("take", [ledger.take_account, leave_the_account], ids=["in_turn", "the_row_alone"])
def test_twenty_refunds_of_one_charge_at_once(
    database: None, monkeypatch: pytest.MonkeyPatch, take: Callable[[int], None]
) -> None:
    monkeypatch.setattr("billing.ledger.people.take_account", take)
    alice = open_customer(micros=10_000_000)
    (charge,) = buy(alice)
    results = race(20, lambda number: ledger.refund(charge, amount_micros=30_000, memo="blurred", actor=f"a{number}"))
    assert count_outcomes(results) == {"LedgerEntry": 6, "ExceedsCharge": 14}
    refunds = LedgerEntry.objects.filter(kind="refund").order_by("line")
    assert list(refunds.values_list("line", "amount_micros")) == [(line, 30_000) for line in range(6)]
    assert RefundedCharge.objects.values_list("refunded_micros", "refunds").get() == (180_000, 6)
    assert (read_balance(alice), find_violations()) == (9_980_000, [])


def test_twenty_forms_that_refund_what_is_left(database: None) -> None:
    alice = open_customer(micros=10_000_000)
    charges = buy(alice, images=2)
    results = race(
        20,
        lambda number: request_refunds(charges, amount_micros=None, memo="blurred", actor="anna", token=f"t-{number}"),
    )
    assert count_outcomes(results) == {"list": 1, "ExceedsCharge": 19}
    assert (read_balance(alice), find_violations()) == (10_000_000, [])


def test_one_form_sent_twenty_times_at_once(database: None) -> None:
    alice = open_customer(micros=0)
    answers = [answer for answer in race(20, lambda number: top_up(alice)) if isinstance(answer, Answer)]
    assert Counter(answer.again for answer in answers) == {True: 19, False: 1}
    assert len({answer.booking.pk for answer in answers}) == 1
    assert (read_balance(alice), find_violations()) == (5_000_000, [])


def test_one_token_for_two_accounts_at_once(database: None) -> None:
    people = [open_customer(name, micros=0) for name in ("alice", "bob")]
    results = race(8, lambda number: top_up(people[number % 2], reference=f"bank-{number % 2}"))
    assert count_outcomes(results) == {"Answer": 4, "Duplicate": 4}
    assert sorted(read_balance(one) for one in people) == [0, 5_000_000]
    assert (Booking.objects.count(), find_violations()) == (1, [])


def test_of_many_who_decide_at_once_one_does(database: None, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    alice = open_customer(micros=0)
    waiting = [top_up(alice, token=f"t-{n}", reference=f"bank-{n}").booking for n in range(5)]

    def decide(number: int) -> Booking:
        booking = waiting[number % 5]
        if number % 2:
            return approve(booking, actor=f"b{number}")
        return reject(booking, actor=f"b{number}", reason="no")

    results = race(20, decide)
    assert count_outcomes(results) == {"Booking": 5, "AlreadyDecided": 15}
    booked = Booking.objects.filter(state="booked").count()
    assert Booking.objects.filter(state="rejected").count() == 5 - booked
    assert LedgerEntry.objects.filter(reference__startswith="bank-").count() == booked
    assert (read_balance(alice), find_violations()) == (booked * 5_000_000, [])


# --- reconcile -----------------------------------------------------------------------------------------------------


def tamper(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE billing_refundedcharge SET refunded_micros = 1",
            {
                "refunded-is-sum-of-refunds": "entry id; says 1 refunded in 1 parts of 200000; "
                "the ledger says 150000 in 1, of a charge of 200000 (micro-units)"
            },
        ),
        (
            "UPDATE billing_refundedcharge SET refunds = 2",
            {
                "refunded-is-sum-of-refunds": "entry id; says 150000 refunded in 2 parts of 200000; "
                "the ledger says 150000 in 1, of a charge of 200000 (micro-units)"
            },
        ),
        (
            "UPDATE billing_refundedcharge SET charged_micros = 999999",
            {
                "refunded-is-sum-of-refunds": "entry id; says 150000 refunded in 1 parts of 999999; "
                "the ledger says 150000 in 1, of a charge of 200000 (micro-units)"
            },
        ),
        (
            "DELETE FROM billing_refundedcharge",
            {
                "refund-has-its-charge": "account id; entry 3 refunds entry id {charge}, "
                "but no charge of this account counts a refund there"
            },
        ),
        (
            "INSERT INTO billing_ledgerentry (account_id, sequence, kind, amount_micros, balance_after_micros,"
            " currency, reference, line, model, size, key_prefix, memo, actor, booked_at)"
            " SELECT account_id, 4, kind, 60000, 10010000,"
            " currency, reference, 1, model, size, key_prefix, memo, actor, booked_at"
            " FROM billing_ledgerentry WHERE kind = 'refund'",
            {
                "balance-is-sum-of-entries": "balance 9950000, but its entries add up to 10010000 (micro-units)",
                "sequence-has-no-gap": "the account counts 3 entries, there are 4, the last is number 4",
                "refunds-stay-within-their-charge": "line 0 was charged 200000, but 210000 was refunded (micro-units)",
                "refunded-is-sum-of-refunds": "entry id; says 150000 refunded in 1 parts of 200000; "
                "the ledger says 210000 in 2, of a charge of 200000 (micro-units)",
            },
        ),
        (
            "UPDATE billing_booking SET amount_micros = 150001",
            {
                "booking-has-its-entry": "booked as refund of 150001 (micro-units) for '{charge}', "
                "but its entry is refund of 150000 for '{charge}'"
            },
        ),
        (
            "UPDATE billing_booking SET reference = 'other'",
            {
                "booking-has-its-entry": "booked as refund of 150000 (micro-units) for 'other', "
                "but its entry is refund of 150000 for '{charge}'"
            },
        ),
    ],
)
def test_reconcile_names_what_was_tampered_with(alice: Customer, statement: str, expected: dict[str, str]) -> None:
    (charge,) = buy(alice)
    request_refunds([charge], amount_micros=150_000, memo="blurred", actor="anna", token="t-1")
    assert find_violations() == []
    tamper(statement)
    assert {rule: detail for rule, _, detail in find_violations()} == {
        rule: detail.format(charge=charge.pk) for rule, detail in expected.items()
    }
