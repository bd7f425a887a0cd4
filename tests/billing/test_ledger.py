import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from billing.ledger import (
    Charge,
    Duplicate,
    LedgerError,
    Reason,
    Reservation,
    Settlement,
    lock_accounts,
    release,
    reserve,
    settle,
    top_up,
)
from billing.models import Account, ApiKey, Hold, LedgerEntry
from billing.reconcile import check_ledger
from tests.shop import Customer, open_customer


def hold(customer: Customer, *items: tuple[str, int]) -> dict[str, Reason]:
    with transaction.atomic():
        verdicts = reserve(
            connection, [Reservation(ref, customer.account.pk, customer.key_id, amount) for ref, amount in items]
        )
    return {reference: verdict.reason for reference, verdict in verdicts.items()}


def charge(line: int = 0, price: int = 200_000) -> Charge:
    return Charge(line, price, 7, "qwen-image-plus", "1024x1024", "")


def finish(*items: Settlement) -> None:
    """Settle, with the charges in the name of the key that ordered."""
    prefixes = dict(Hold.objects.values_list("reference", "api_key__prefix"))
    named = [
        replace(item, charges=tuple(replace(one, key_prefix=prefixes[item.reference]) for one in item.charges))
        for item in items
    ]
    with transaction.atomic():
        settle(connection, named)


def read(customer: Customer) -> tuple[int, int, int]:
    account = Account.objects.get(pk=customer.account.pk)
    return account.balance_micros, account.held_micros, account.available_micros


def test_a_delivered_image_is_charged_and_the_rest_released(db: None) -> None:
    customer = open_customer(micros=1_000_000)
    assert hold(customer, ("gen_a", 800_000)) == {"gen_a": Reason.RESERVED}
    assert read(customer) == (1_000_000, 800_000, 200_000)
    finish(Settlement("gen_a", (charge(0), charge(3))))
    assert read(customer) == (600_000, 0, 600_000)
    entries = list(LedgerEntry.objects.filter(kind="charge").order_by("sequence"))
    assert [(e.sequence, e.line, e.amount_micros, e.balance_after_micros) for e in entries] == [
        (2, 0, -200_000, 800_000),
        (3, 3, -200_000, 600_000),
    ]
    assert (entries[0].model, entries[0].size, entries[0].price_version, entries[0].key_prefix) == (
        "qwen-image-plus",
        "1024x1024",
        7,
        customer.prefix,
    )
    assert Hold.objects.values_list("state", "captured_micros").get() == ("settled", 400_000)
    assert ApiKey.objects.get(pk=customer.key_id).spent_micros == 400_000
    assert list(check_ledger(connection)) == []


def test_settling_again_books_nothing(db: None) -> None:
    customer = open_customer(micros=1_000_000)
    hold(customer, ("gen_a", 200_000))
    for _ in range(2):
        finish(Settlement("gen_a", (charge(),)))
    with transaction.atomic():
        release(connection, ["gen_a"])
    assert read(customer) == (800_000, 0, 800_000)
    assert LedgerEntry.objects.filter(kind="charge").count() == 1


def test_release_gives_everything_back(db: None) -> None:
    customer = open_customer(micros=500_000)
    hold(customer, ("gen_a", 500_000))
    with transaction.atomic():
        release(connection, ["gen_a", "gen_unknown"])
    assert read(customer) == (500_000, 0, 500_000)
    assert Hold.objects.get().state == "released"


@pytest.mark.parametrize(("balance", "verdict"), [(200_000, Reason.RESERVED), (199_999, Reason.INSUFFICIENT_QUOTA)])
def test_the_last_micro_unit_decides(db: None, balance: int, verdict: Reason) -> None:
    customer = open_customer(micros=balance)
    assert hold(customer, ("gen_a", 200_000)) == {"gen_a": verdict}
    assert Hold.objects.count() == (verdict is Reason.RESERVED)


def test_a_refused_large_hold_does_not_refuse_a_small_one_behind_it(db: None) -> None:
    poor, rich = open_customer("poor", micros=300_000), open_customer("rich", micros=10_000_000)
    with transaction.atomic():
        verdicts = reserve(
            connection,
            [
                Reservation("gen_large", poor.account.pk, poor.key_id, 400_000),
                Reservation("gen_rich", rich.account.pk, rich.key_id, 400_000),
                Reservation("gen_small", poor.account.pk, poor.key_id, 200_000),
                Reservation("gen_next", poor.account.pk, poor.key_id, 200_000),
            ],
        )
    assert {reference: verdict.reason for reference, verdict in verdicts.items()} == {
        "gen_large": Reason.INSUFFICIENT_QUOTA,
        "gen_rich": Reason.RESERVED,
        "gen_small": Reason.RESERVED,
        "gen_next": Reason.INSUFFICIENT_QUOTA,
    }
    assert read(poor)[1] == 200_000


def test_credit_may_be_used_and_a_suspended_account_may_not(db: None) -> None:
    customer = open_customer(micros=0)
    Account.objects.update(credit_limit_micros=200_000)
    assert hold(customer, ("gen_a", 200_000)) == {"gen_a": Reason.RESERVED}
    finish(Settlement("gen_a", (charge(),)))
    assert read(customer) == (-200_000, 0, 0)
    Account.objects.update(state="suspended", credit_limit_micros=10**9)
    assert hold(customer, ("gen_b", 1)) == {"gen_b": Reason.ACCOUNT_SUSPENDED}


def test_many_settlements_of_one_account_are_numbered_without_a_gap(db: None) -> None:
    customer = open_customer(micros=10_000_000)
    hold(customer, *[(f"gen_{i}", 400_000) for i in range(5)])
    finish(*[Settlement(f"gen_{i}", (charge(0), charge(1))) for i in range(5)])
    assert list(LedgerEntry.objects.order_by("sequence").values_list("sequence", flat=True)) == list(range(1, 12))
    assert read(customer) == (8_000_000, 0, 8_000_000)
    assert list(check_ledger(connection)) == []


def test_a_charge_in_a_closed_month_is_booked_when_the_next_one_begins(db: None) -> None:
    customer = open_customer(micros=1_000_000)
    closed = timezone.now() + timedelta(days=1)
    Account.objects.update(closed_until=closed)
    hold(customer, ("gen_a", 200_000))
    finish(Settlement("gen_a", (charge(),)))
    assert LedgerEntry.objects.get(kind="charge").booked_at == closed


def test_top_up_books_a_reference_once(db: None) -> None:
    customer, other = open_customer(micros=0), open_customer("bob", micros=0)
    first = top_up(customer.account, amount_micros=5_000_000, reference="bank-1", memo="wire", actor="anna")
    again = top_up(customer.account, amount_micros=5_000_000, reference="bank-1", memo="wire", actor="anna")
    assert first.pk == again.pk
    assert read(customer)[0] == 5_000_000
    with pytest.raises(Duplicate):
        top_up(customer.account, amount_micros=6_000_000, reference="bank-1", memo="", actor="anna")
    with pytest.raises(Duplicate):
        top_up(other.account, amount_micros=5_000_000, reference="bank-1", memo="", actor="anna")
    with pytest.raises(LedgerError):
        top_up(customer.account, amount_micros=0, reference="bank-2", memo="", actor="anna")
    assert LedgerEntry.objects.count() == 1


@pytest.mark.parametrize(
    "statement",
    ["UPDATE billing_ledgerentry SET amount_micros = 5", "DELETE FROM billing_ledgerentry"],
)
def test_the_ledger_is_append_only_below_the_orm(db: None, statement: str) -> None:
    open_customer()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert LedgerEntry.objects.count() == 1


def test_truncate_is_refused_too(db: None) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no TRUNCATE")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE billing_ledgerentry CASCADE")


def test_constraints_hold_without_the_code(db: None) -> None:
    customer = open_customer(micros=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Account.objects.filter(pk=customer.account.pk).update(held_micros=-1)
    hold(customer, ("gen_a", 1))
    with pytest.raises(IntegrityError), transaction.atomic():
        Hold.objects.update(captured_micros=2)


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run with real connections, started together."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def enter(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_racing_reservations_never_overdraw(database: None) -> None:
    customer = open_customer(micros=2_000_000)
    verdicts: list[Reason] = []
    in_threads(16, lambda number: verdicts.extend(hold(customer, (f"gen_{number}", 300_000)).values()))
    assert verdicts.count(Reason.RESERVED) == 6
    assert read(customer) == (2_000_000, 1_800_000, 200_000)


def test_racing_settlements_of_one_hold_charge_once(database: None) -> None:
    customer = open_customer(micros=2_000_000)
    hold(customer, ("gen_a", 400_000))
    in_threads(8, lambda number: finish(Settlement("gen_a", (charge(0), charge(1)))))
    assert read(customer) == (1_600_000, 0, 1_600_000)
    assert LedgerEntry.objects.filter(kind="charge").count() == 2
    assert list(check_ledger(connection)) == []


def test_racing_top_ups_of_one_reference_book_once(database: None) -> None:
    customer = open_customer(micros=0)
    in_threads(
        8,
        lambda number: top_up(customer.account, amount_micros=1_000_000, reference="same", memo="", actor="x") and None,
    )
    assert read(customer)[0] == 1_000_000


def test_batches_over_the_same_accounts_in_any_order_do_not_deadlock(database: None) -> None:
    people = [open_customer(f"c{number}", micros=100_000_000) for number in range(6)]

    def work(number: int) -> None:
        for turn in range(5):
            order = people if number % 2 else people[::-1]
            with transaction.atomic():
                lock_accounts(connection, [one.account.pk for one in order])
                for one in order:
                    reserve(connection, [Reservation(f"g{number}-{turn}-{one.prefix}", one.account.pk, one.key_id, 10)])

    in_threads(6, work)
    assert Hold.objects.count() == 6 * 5 * 6
    assert list(check_ledger(connection)) == []
