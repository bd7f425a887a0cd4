"""Every rule of `reconcile` is broken here, below the ORM and past the triggers, and named with its subject."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from billing.closing import close_month
from billing.ledger import Reservation, reserve, top_up
from billing.models import Account, AccountPrice, Booking, LedgerEntry, RefundedCharge, UsageDay
from billing.reconcile import RULES as LEDGER_RULES
from crazyrouter.files.models import StoredImage
from crazyrouter.files.names import new_name
from crazyrouter.files.storage import get_storage
from crazyrouter.generation import suspects
from crazyrouter.generation.ids import new_id
from crazyrouter.generation.models import Generation
from crazyrouter.generation.reconcile import (
    BYTES,
    RULES,
    RULES_BY_THE_CLOCK,
    check_books,
    check_files,
    check_running,
    check_tables,
    open_books,
)
from crazyrouter.generation.suspects import find_suspects
from crazyrouter.management.traffic import story
from crazyrouter.management.traffic.cast import hire_cast
from crazyrouter.management.traffic.plan import Plan
from crazyrouter.management.traffic.story import write_traffic
from models_registry.models import ImageModel, Price, Verification
from tests.reset import reset_database

pytestmark = pytest.mark.database

Found = set[tuple[str, str]]


@dataclass(frozen=True)
class Shop:
    """Books that are right, with one of everything. `names` are what the cases below put into their statements."""

    names: dict[str, Any]


@pytest.fixture(scope="module")
def shop(django_db_setup: None, django_db_blocker: Any) -> Iterator[Shop]:
    """Made once: every case is rolled back."""
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(story, "REFUNDS_ONE_IN", 4)
        plan = Plan(generations=40, accounts=2, days=10, seed=1, until=datetime(2026, 2, 20, tzinfo=UTC), share=0.5)
        list(write_traffic(plan, hire_cast(plan)))
        for month in (1, 2):
            close_month(Account.objects.order_by("id")[0].pk, date(2026, month, 1), closed_by="olga")
        running = open_generation(Account.objects.order_by("id")[1])
        yield Shop(pick_names(running))
        reset_database()


def open_generation(account: Account) -> Generation:
    """One that runs, with money held for it."""
    key, model = account.keys.order_by("id")[0], ImageModel.objects.get(name="qwen-image-plus")
    price, now = model.prices.latest("effective_from"), timezone.now()
    generation = Generation.objects.create(
        id=new_id("gen"),
        account=account,
        api_key=key,
        model=model,
        price=price,
        unit_price_micros=price.amount_micros,
        prompt="a lighthouse",
        width=1328,
        height=1328,
        render_width=1328,
        render_height=1328,
        n=2,
        response_format="url",
        state="running",
        lease_owner="web-1",
        lease_expires_at=now + timedelta(minutes=5),
        deadline_at=now + timedelta(minutes=5),
    )
    with transaction.atomic():
        reserve(connection, [Reservation(generation.pk, account.pk, key.pk, 2 * price.amount_micros)])
    return generation


def pick_names(running: Generation) -> dict[str, Any]:
    """`first` has closed months, `second` the running generation; `done` delivered two pictures, `failed` none."""
    first, second = Account.objects.order_by("id")
    of_first = Generation.objects.filter(account=first).order_by("id")
    done, failed = of_first.filter(delivered=2).first(), of_first.filter(delivered=0).first()
    assert done is not None
    assert failed is not None
    refunded = RefundedCharge.objects.filter(charge__account=first).order_by("pk")[0]
    spare = RefundedCharge.objects.filter(charge__account=second).order_by("pk")[0]
    return {
        "first": first.pk,
        "first_name": first.name,
        "second": second.pk,
        "second_name": second.name,
        "last_sequence": LedgerEntry.objects.filter(account=second).latest("sequence").sequence,
        "done": done.pk,
        "done_key": done.api_key.prefix,
        "done_model": done.model_id,
        "unit": done.unit_price_micros,
        "other_price": Price.objects.exclude(pk=done.price_id).order_by("pk")[0].pk,
        "failed": failed.pk,
        "running": running.pk,
        "running_key": running.api_key.prefix,
        "held": 2 * running.unit_price_micros,
        "refunded": refunded.pk,
        "charge": refunded.charge_id,
        "charge_reference": refunded.charge.reference,
        "booking": Booking.objects.filter(kind="refund", charge=refunded.charge_id).get().pk,
        "usage": UsageDay.objects.filter(account=second).order_by("pk")[0].pk,
        "first_booking": Booking.objects.get(entry__account=second, entry__sequence=1).pk,
        "charge_of_second": spare.charge_id,
        "reference_of_second": spare.charge.reference,
        "name": new_name(),
    }


def tamper(*statements: str) -> None:
    """Past triggers, foreign keys and everything above them, within a transaction that is rolled back."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = replica")
        else:
            cursor.execute("PRAGMA defer_foreign_keys = ON")
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in cursor.fetchall():
                cursor.execute(f'DROP TRIGGER "{name}"')
        for statement in statements:
            cursor.execute(statement)
            assert cursor.rowcount != 0, statement


def read_findings() -> Found:
    return {(found.rule, found.subject) for found in check_tables()}


def ask_about_everything() -> Found:
    """What the rules say without being told whom to suspect."""
    found = {(one.rule, one.subject) for rule in (*LEDGER_RULES, *RULES) for one in rule.check(connection)}
    return found | {(one.rule, one.subject) for one in check_running()}


@dataclass(frozen=True)
class Case:
    """Statements, and all that reconcile then finds: rules and their subjects, both with names to be filled in."""

    statements: tuple[str, ...]
    findings: dict[str, tuple[str, ...]]


def case(*statements: str, **findings: str | tuple[str, ...]) -> Case:
    named = {rule.replace("_", "-"): (one,) if isinstance(one, str) else one for rule, one in findings.items()}
    return Case(statements, named)


IMAGE = (
    "INSERT INTO files_storedimage (name, generation_id, slot, width, height, bytes, sha256, created_at, expires_at) "
    "VALUES ('{name}', '%s', %d, 8, 8, 8, '', '2026-01-01 00:00:00+00', '2026-01-02 00:00:00+00')"
)
#: One more entry of the second account, numbered and added up as it should be.
ENTRY = """
    INSERT INTO billing_ledgerentry (account_id, sequence, kind, amount_micros, balance_after_micros, currency,
        reference, line, model, size, unit_price_micros, price_version, key_prefix, memo, actor, booked_at)
    SELECT id, sequence + 1, '%s', %s, balance_micros + (%s), 'CNY', '%s', %d, '', '', NULL, NULL, '', '', '',
        '2026-03-01 00:00:00+00' FROM billing_account WHERE id = {second}
"""
MOVE = "UPDATE billing_account SET sequence = sequence + 1, balance_micros = balance_micros + (%s) WHERE id = {second}"
CHARGES = "UPDATE billing_ledgerentry SET %s WHERE kind = 'charge' AND reference = '{done}' AND line = 0"

CASES = {
    "a balance": case(
        "UPDATE billing_account SET balance_micros = balance_micros + 1 WHERE id = {first}",
        balance_is_sum_of_entries="{first_name}",
    ),
    "a sequence": case(
        "UPDATE billing_account SET sequence = sequence - 1 WHERE id = {first}", sequence_has_no_gap="{first_name}"
    ),
    "an entry's number": case(
        "UPDATE billing_ledgerentry SET sequence = 0 WHERE account_id = {second} AND sequence = 1",
        sequence_has_no_gap="{second_name}",
        running_balance_adds_up="{second}",
    ),
    "a running balance": case(
        "UPDATE billing_ledgerentry SET balance_after_micros = balance_after_micros + 1 "
        "WHERE account_id = {second} AND sequence = {last_sequence}",
        running_balance_adds_up="{second}",
    ),
    "an entry that is gone": case(
        "DELETE FROM billing_ledgerentry WHERE account_id = {second} AND sequence = 1",
        balance_is_sum_of_entries="{second_name}",
        sequence_has_no_gap="{second_name}",
        running_balance_adds_up="{second}",
        booking_has_its_entry="{first_booking}",
    ),
    "held by an account": case(
        "UPDATE billing_account SET held_micros = held_micros + 1 WHERE id = {first}",
        held_is_sum_of_open_holds="{first_name}",
    ),
    "in flight of an account": case(
        "UPDATE billing_account SET in_flight = in_flight + 1 WHERE id = {first}",
        held_is_sum_of_open_holds="{first_name}",
    ),
    "held by a key": case(
        "UPDATE billing_apikey SET held_micros = held_micros - 1 WHERE prefix = '{running_key}'",
        key_held_is_sum_of_open_holds="{running_key}",
    ),
    "captured": case(
        "UPDATE billing_hold SET captured_micros = captured_micros - 1 WHERE reference = '{done}'",
        captured_is_sum_of_charges="{done}",
    ),
    "a hold that is gone": case(
        "DELETE FROM billing_hold WHERE reference = '{done}'",
        charge_has_a_hold="{done}",
    ),
    "a hold of another account": case(
        "UPDATE billing_hold SET account_id = {second} WHERE reference = '{done}'",
        charge_has_a_hold="{done}",
        hold_has_a_generation="{done}",
    ),
    "a day of usage": case(
        "UPDATE billing_usageday SET images = images + 1 WHERE id = {usage}",
        usage_is_sum_of_charges="{second}",
    ),
    "spent by an account": case(
        "UPDATE billing_account SET spent_micros = spent_micros + 1 WHERE id = {first}",
        spent_is_sum_of_usage="{first_name}",
    ),
    "spent by an account in a month": case(
        "UPDATE billing_account SET month_spent_micros = month_spent_micros + 1 WHERE id = {first}",
        spent_is_sum_of_usage="{first_name}",
    ),
    "spent by a key": case(
        "UPDATE billing_apikey SET spent_micros = spent_micros + 1 WHERE prefix = '{done_key}'",
        key_spent_is_sum_of_usage="{done_key}",
    ),
    "refunded": case(
        "UPDATE billing_refundedcharge SET refunded_micros = refunded_micros - 1 WHERE id = {refunded}",
        refunded_is_sum_of_refunds="{charge}",
    ),
    "a refund too many": case(
        ENTRY % ("refund", "{unit} + 1", "{unit} + 1", "{charge_of_second}", 1),
        MOVE % "{unit} + 1",
        refunds_stay_within_their_charge="{reference_of_second}",
        refunded_is_sum_of_refunds="{charge_of_second}",
    ),
    "a refund of nothing": case(
        "DELETE FROM billing_refundedcharge WHERE id = {refunded}", refund_has_its_charge="{first}"
    ),
    "a booking": case(
        "UPDATE billing_booking SET amount_micros = amount_micros + 1 WHERE id = {booking}",
        booking_has_its_entry="{booking}",
    ),
    "a closed month": case(
        "UPDATE billing_closedmonth SET entries = entries + 1 WHERE account_id = {first} AND month = '2026-02'",
        closed_month_is_what_was_booked="{first}",
    ),
    "the end of the closed books": case(
        "UPDATE billing_account SET closed_until = NULL WHERE id = {first}",
        closed_books_end_with_their_last_month="{first_name}",
    ),
    "a frozen statement": case(
        "UPDATE billing_closedmonth SET csv = csv || ' ' WHERE account_id = {first} AND month = '2026-02'",
        frozen_statement_has_its_hash="{first}",
    ),
    "an overdrawn account": case(
        ENTRY % ("adjustment", "-1 - balance_micros", "-1 - balance_micros", "correction", 0),
        MOVE % "-1 - balance_micros",
        account_is_overdrawn="{second_name}",
    ),
    "a picture that is gone": case(
        "DELETE FROM files_storedimage WHERE generation_id = '{done}' AND slot = 1",
        charge_has_an_image="{done}",
        delivered_is_count_of_images="{done}",
    ),
    "a picture in another slot": case(
        "UPDATE files_storedimage SET slot = 7 WHERE generation_id = '{done}' AND slot = 1",
        charge_has_an_image="{done}",
        image_is_charged="{done}",
    ),
    "a picture for nothing": case(
        IMAGE % ("{done}", 5), image_is_charged="{done}", delivered_is_count_of_images="{done}"
    ),
    "a picture of nobody": case(IMAGE % ("gen_nobody", 0), image_has_a_generation="{name}"),
    "delivered": case(
        "UPDATE generation_generation SET delivered = 1 WHERE id = '{done}'",
        delivered_is_count_of_images="{done}",
        delivered_picture_has_an_attempt="{done}",
    ),
    "a finished generation that holds": case(
        "UPDATE billing_hold SET state = 'open' WHERE reference = '{failed}'",
        "UPDATE billing_account SET in_flight = in_flight + 1, held_micros = held_micros + "
        "(SELECT amount_micros FROM billing_hold WHERE reference = '{failed}') WHERE id = {first}",
        "UPDATE billing_apikey SET in_flight = in_flight + 1, held_micros = held_micros + "
        "(SELECT amount_micros FROM billing_hold WHERE reference = '{failed}') "
        "WHERE id = (SELECT api_key_id FROM billing_hold WHERE reference = '{failed}')",
        finished_generation_holds_nothing="{failed}",
    ),
    "a running generation that holds nothing": case(
        "UPDATE billing_hold SET state = 'released' WHERE reference = '{running}'",
        "UPDATE billing_account SET in_flight = 0, held_micros = 0 WHERE id = {second}",
        "UPDATE billing_apikey SET in_flight = 0, held_micros = 0 WHERE prefix = '{running_key}'",
        running_generation_has_a_hold="{running}",
    ),
    "a hold of nobody": case(
        "UPDATE billing_hold SET reference = 'gen_nobody' WHERE reference = '{failed}'",
        hold_has_a_generation="gen_nobody",
    ),
    "a price version": case(CHARGES % "price_version = {other_price}", charge_is_its_price_version="{done}"),
    "a charge without a version": case(CHARGES % "price_version = NULL", charge_is_its_price_version="{done}"),
    "an agreement that is none": case(CHARGES % "account_price_version = 99", charge_is_its_price_version="{done}"),
    "a unit price": case(CHARGES % "unit_price_micros = {unit} + 1", charge_is_its_price_version="{done}"),
    "a generation's price": case(
        "UPDATE generation_generation SET price_id = {other_price} WHERE id = '{done}'",
        charge_is_its_price_version="{done}",
    ),
    "a charge in the name of another": case(
        CHARGES % "reference = 'gen_nobody'",
        captured_is_sum_of_charges="{done}",
        charge_has_a_hold="gen_nobody",
        charge_has_an_image="gen_nobody",
        image_is_charged="{done}",
        charge_is_its_price_version="gen_nobody",
    ),
    "pictures of an attempt": case(
        "UPDATE generation_attempt SET images = images + 1 WHERE generation_id = '{done}' AND images > 0",
        delivered_picture_has_an_attempt="{done}",
    ),
    "room that nobody holds": case(
        "INSERT INTO providers_upstreamaccount (id, name, note, polls_reserved_until_ms) VALUES (7, 'acme', '', 0)",
        "INSERT INTO providers_capacity (account_id, upstream_model, submit_burst, starts, running, call_ms) "
        "VALUES (7, 'qwen', 1, '[]', 1, 0)",
        capacity_counts_what_runs="acme: qwen",
    ),
    "a place in the queue of what has ended": case(
        "INSERT INTO generation_waitingcall (generation_id, number, account_id, model_id, wants, since) "
        "VALUES ('{done}', 9, {first}, {done_model}, '', '2026-03-01 00:00:00+00')",
        waiting_call_is_of_a_running_generation="{done}",
    ),
    "a generation past its horizon": case(
        "UPDATE generation_generation SET created_at = '2026-02-01 00:00:00+00' WHERE id = '{running}'",
        generation_ends_within_its_horizon="{running}",
    ),
    "a driver that is gone": case(
        "UPDATE generation_generation SET lease_expires_at = '2026-02-01 00:00:00+00' WHERE id = '{running}'",
        driver_is_gone="{running}",
    ),
}


def fill(shop: Shop, one: Case) -> tuple[list[str], Found]:
    findings = {(rule, name.format(**shop.names)) for rule, names in one.findings.items() for name in names}
    return [statement.format(**shop.names) for statement in one.statements], findings


def test_these_books_are_right(shop: Shop) -> None:
    assert [found for found in check_books() if not found.notice] == []
    assert read_findings() == set() == ask_about_everything()
    assert find_suspects(connection) == []


@pytest.mark.parametrize("what", CASES)
def test_it_is_named_with_its_subject(shop: Shop, what: str) -> None:
    statements, expected = fill(shop, CASES[what])
    with transaction.atomic():
        tamper(*statements)
        assert read_findings() == expected
        assert ask_about_everything() == expected
        transaction.set_rollback(True)


def test_with_too_many_suspects_the_rules_are_asked_about_everything(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "MANY", 3)
    with transaction.atomic():
        tamper("DELETE FROM files_storedimage")
        assert find_suspects(connection) is None
        found = read_findings()
        assert {rule for rule, _ in found} == {"charge-has-an-image", "delivered-is-count-of-images"}
        assert len({subject for _, subject in found}) == Generation.objects.filter(delivered__gt=0).count() > 3
        transaction.set_rollback(True)


def test_bytes_that_are_not_there_are_named(shop: Shop) -> None:
    """A row that promises a file, and one whose time is up and that promises none."""
    now = timezone.now()
    with transaction.atomic():
        for days in (1, -1):
            begun = now + timedelta(days=days - 3)
            StoredImage.objects.create(
                name=new_name(),
                generation_id="gen_x",
                slot=days + 1,
                width=8,
                height=8,
                bytes=8,
                created_at=begun,
                expires_at=now + timedelta(days=days),
            )
        promised = StoredImage.objects.get(expires_at__gt=now)
        (found,) = check_files()
        assert (found.rule, found.subject, found.notice) == (BYTES, promised.name, False)
        assert found.detail.startswith("not on disk")
        get_storage().write(promised.name, b"seven b")
        (found,) = check_files()
        assert (found.rule, found.detail) == (BYTES, "7 bytes on disk, 8 stored")
        get_storage().delete(promised.name)
        transaction.set_rollback(True)


def test_every_rule_is_broken_above() -> None:
    rules = {rule.name for rule in (*LEDGER_RULES, *RULES, *RULES_BY_THE_CLOCK)}
    assert rules == {rule for one in CASES.values() for rule in one.findings}


# --- the snapshot --------------------------------------------------------------------------------------------------


def test_a_writer_does_not_wait_and_is_not_seen(shop: Shop) -> None:
    """The books stay open on one moment while somebody else commits; the next look sees it."""
    account = Account.objects.create(name="Newcomer")
    written = threading.Event()

    def write() -> None:
        top_up(account, amount_micros=5_000_000, reference="while-reading", memo="", actor="test")
        written.set()
        connection.close()

    with open_books():
        assert find_suspects(connection) == []
        writer = threading.Thread(target=write)
        writer.start()
        assert written.wait(10), "the writer waits for the reader"
        writer.join()
        assert not LedgerEntry.objects.filter(account=account).exists()
        assert read_findings() == set()
    assert LedgerEntry.objects.filter(account=account).count() == 1
    assert [found for found in check_books() if not found.notice] == []


def test_the_reader_cannot_write(shop: Shop) -> None:
    with pytest.raises(DatabaseError), open_books():
        Account.objects.update(note="written while checking")
    assert not Account.objects.filter(note="written while checking").exists()


def test_what_was_set_for_the_check_is_as_it_was(shop: Shop) -> None:
    asked = "SHOW work_mem" if connection.vendor == "postgresql" else "PRAGMA cache_size"

    def read_setting() -> Any:
        with connection.cursor() as cursor:
            cursor.execute(asked)
            return cursor.fetchone()

    before = read_setting()
    with open_books():
        assert read_setting() != before
    assert read_setting() == before
    Account.objects.filter(name="Nobody").update(note="")  # may write again


# --- what may never be changed -------------------------------------------------------------------------------------

APPEND_ONLY = {
    "billing_accountprice",
    "billing_closedmonth",
    "billing_ledgerentry",
    "models_registry_price",
    "models_registry_verification",
}


def add_one_of_each() -> None:
    """Rows for the triggers that look at rows."""
    model, account = ImageModel.objects.order_by("id")[0], Account.objects.order_by("id")[0]
    AccountPrice.objects.create(account=account, model=model, kind="fixed", amount_micros=1, reason="agreed")
    Verification.objects.create(model=model, from_state="beta", to_state="verified", reason="seen")
    # PostgreSQL empties no table whose foreign keys are still to be checked, whatever its triggers say.
    connection.check_constraints()


def test_append_only_tables_are_those(shop: Shop) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger "
                "WHERE NOT tgisinternal AND tgenabled = 'O' AND tgname LIKE '%%_no_%%'"
            )
        else:
            cursor.execute("SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger'")
        assert {name for (name,) in cursor.fetchall()} == APPEND_ONLY


@pytest.mark.parametrize("table", sorted(APPEND_ONLY))
def test_an_append_only_table_refuses_every_change(shop: Shop, table: str) -> None:
    verbs = [f"UPDATE {table} SET id = id", f"DELETE FROM {table}"]
    if connection.vendor == "postgresql":
        verbs.append(f"TRUNCATE {table} CASCADE")
    for verb in verbs:
        with transaction.atomic():
            add_one_of_each()
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(verb)
            transaction.set_rollback(True)
