"""top_up, refund and adjust from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from billing import bookings
from billing.models import Account, Booking, LedgerEntry
from billing.reconcile import check_ledger
from crazyrouter.generation.models import Generation
from tests.admin.world import World, build_world

ROOT = Path(__file__).parents[2]


@pytest.fixture
def world(db: None) -> World:
    """Acme has ¥99.00, and a generation of two images at ¥0.50 each."""
    return build_world()


def run(command: str, *arguments: str) -> str:
    out = StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()


def refuse(command: str, *arguments: str) -> str:
    """What the refusal says; nothing may be written."""
    before = (LedgerEntry.objects.count(), Booking.objects.count(), read_balance())
    with pytest.raises(CommandError) as caught:
        run(command, *arguments)
    assert (LedgerEntry.objects.count(), Booking.objects.count(), read_balance()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read_balance() -> int:
    return Account.objects.get(name="Acme").balance_micros


# --- adjustments ---------------------------------------------------------------------------------------------------


def test_an_adjustment_takes(world: World) -> None:
    out = run("adjust", "Acme", "-12.5", "--memo", "chargeback", "--reference", "CB-1")
    assert out == "Acme: -¥12.50 as CB-1, balance ¥86.50\n"
    entry = LedgerEntry.objects.latest("id")
    assert (entry.kind, entry.amount_micros, entry.memo, entry.reference) == (
        "adjustment",
        -12_500_000,
        "chargeback",
        "CB-1",
    )
    assert entry.actor.startswith("shell")
    assert Booking.objects.get().entry == entry


def test_an_adjustment_sent_again_is_booked_once(world: World) -> None:
    run("adjust", "Acme", "1", "--memo", "sorry", "--reference", "S-1")
    out = run("adjust", "Acme", "1", "--memo", "sorry", "--reference", "S-1")
    assert (out, read_balance()) == ("Acme: ¥1.00 as S-1, balance ¥100.00, booked before\n", 100_000_000)
    assert "'S-1' is booked already" in refuse("adjust", "Acme", "2", "--memo", "sorry", "--reference", "S-1")


def test_one_reference_may_be_paid_and_adjusted(world: World) -> None:
    run("top_up", "Acme", "5", "--memo", "wire", "--reference", "INV-7")
    run("adjust", "Acme", "-5", "--memo", "it bounced", "--reference", "INV-7")
    assert read_balance() == 99_000_000


def test_without_a_reference_each_is_booked(world: World) -> None:
    for _ in range(2):
        run("adjust", "Acme", "1", "--memo", "sorry")
    assert read_balance() == 101_000_000


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0", "an adjustment must not be zero"),
        ("-0.00", "an adjustment must not be zero"),
        ("1.0000001", "'1.0000001' is not an amount"),
        ("nan", "'nan' is not an amount"),
        ("Infinity", "'Infinity' is not an amount"),
        ("1e3", "'1e3' is not an amount"),
        ("9223372036854775808", "'9223372036854775808' is not an amount"),
        ("1000000000", "'1000000000' is not an amount"),
        ("", "'' is not an amount"),
    ],
)
def test_what_is_no_adjustment_writes_nothing(world: World, amount: str, words: str) -> None:
    assert refuse("adjust", "Acme", amount, "--memo", "x").startswith(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--memo", " "), "a memo is required"),
        (("--memo", "x" * 201), "a memo is one line of at most 200 characters"),
        (("--memo", "x", "--reference", "r" * 65), "a reference is one line of at most 64 characters"),
        (("--memo", "x", "--date", "yesterday"), "'yesterday' is not a date"),
        (("--memo", "x", "--date", "2026-02-30"), "'2026-02-30' is not a date"),
        (("--memo", "x", "--date", "0001-01-01"), "'0001-01-01' is not a date"),
    ],
)
def test_what_the_books_cannot_keep_is_refused(world: World, arguments: tuple[str, ...], words: str) -> None:
    for command in ("adjust", "top_up"):
        assert refuse(command, "Acme", "5", *arguments).startswith(words)


def test_a_longest_reference_is_kept_whole(world: World) -> None:
    for _ in range(2):
        run("top_up", "Acme", "1", "--memo", "wire", "--reference", "r" * 64)
    assert LedgerEntry.objects.filter(reference="r" * 64).count() == 1


def test_nobody_pays_for_an_account_that_is_not_there(world: World) -> None:
    assert refuse("adjust", "nobody", "5", "--memo", "x").startswith("there is no account 'nobody'")


# --- dates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("date", "moment"),
    [
        ("2025-03-31", "2025-03-30T16:00:00+00:00"),
        ("2025-03-31T12:00", "2025-03-31T04:00:00+00:00"),
        ("2025-03-31T12:00:00+01:00", "2025-03-31T11:00:00+00:00"),
    ],
)
def test_a_payment_is_dated_where_the_account_is(world: World, date: str, moment: str) -> None:
    for _ in range(2):
        run("top_up", "Acme", "5", "--memo", "wire", "--date", date, "--reference", "INV-7")
    assert [entry.booked_at.isoformat() for entry in LedgerEntry.objects.filter(reference="INV-7")] == [moment]


def test_no_payment_is_dated_into_a_closed_month(world: World) -> None:
    Account.objects.update(closed_until="2025-03-31T16:00:00Z")
    assert "closed" in refuse("top_up", "Acme", "5", "--memo", "wire", "--date", "2025-03-31")
    said = refuse("top_up", "Acme", "5", "--memo", "wire", "--date", "2999-01-01")
    assert said == "2999-01-01T00:00:00+08:00 lies in the future"
    run("top_up", "Acme", "5", "--memo", "wire", "--date", "2025-04-01")
    assert read_balance() == 104_000_000


# --- refunds -------------------------------------------------------------------------------------------------------


def test_one_image_is_refunded(world: World) -> None:
    out = run("refund", world.generation.pk, "--slot", "1", "--memo", "blurred")
    assert out == f"{world.generation.pk}/1: ¥0.50 refunded, balance ¥99.50\n"
    charge = LedgerEntry.objects.get(kind="charge", line=1)
    entry = LedgerEntry.objects.get(kind="refund")
    assert (entry.reference, entry.line, entry.amount_micros, entry.memo) == (str(charge.pk), 0, 500_000, "blurred")
    assert refuse("refund", world.generation.pk, "--slot", "1", "--memo", "blurred") == "nothing is left to refund"
    assert list(check_ledger(connection)) == []


def test_a_part_is_refunded_and_no_more_than_all(world: World) -> None:
    out = run("refund", world.generation.pk, "--slot", "0", "--amount", "0.3", "--memo", "blurred")
    assert out == f"{world.generation.pk}/0: ¥0.30 refunded, balance ¥99.30\n"
    said = refuse("refund", world.generation.pk, "--slot", "0", "--amount", "0.3", "--memo", "blurred")
    assert said == "¥0.30 is more than is left of this charge: ¥0.20"
    run("refund", world.generation.pk, "--slot", "0", "--memo", "blurred")
    assert read_balance() == 99_500_000


def test_all_images_are_refunded_once_under_one_reference(world: World) -> None:
    asked = ("refund", world.generation.pk, "--all", "--memo", "blurred", "--reference", "ticket 7")
    first, second = run(*asked), run(*asked)
    name = world.generation.pk
    assert first == f"{name}/0: ¥0.50 refunded, balance ¥99.50\n{name}/1: ¥0.50 refunded, balance ¥100.00\n"
    assert second == (
        f"{name}/0: ¥0.50 refunded, balance ¥99.50, booked before\n"
        f"{name}/1: ¥0.50 refunded, balance ¥100.00, booked before\n"
    )
    assert (read_balance(), LedgerEntry.objects.filter(kind="refund").count()) == (100_000_000, 2)
    assert "this refund is booked already" in refuse(*asked, "--amount", "0.1")


def test_what_cannot_be_refunded_is_named(world: World) -> None:
    name = world.generation.pk
    assert refuse("refund", "gen_x", "--memo", "x") == "there is no generation 'gen_x'"
    assert refuse("refund", name, "--memo", "x") == (
        "say which image by --slot, or --all of them; these were charged: 0, 1"
    )
    assert refuse("refund", name, "--slot", "7", "--memo", "x") == "slot 7 was not charged; these were: 0, 1"
    assert refuse("refund", name, "--slot", "-1", "--memo", "x").startswith("slot -1 was not charged")
    Generation.objects.create(**unpaid(world))
    assert refuse("refund", "gen_unpaid", "--memo", "x") == "gen_unpaid was charged for no image"


def unpaid(world: World) -> dict[str, Any]:
    values: dict[str, Any] = dict(Generation.objects.filter(pk=world.generation.pk).values().get())
    return values | {"id": "gen_unpaid", "state": "failed", "delivered": 0}


@pytest.mark.parametrize("amount", ["0", "-0.1", "0.0000001", "nan", "9223372036854775808"])
def test_no_wrong_amount_is_refunded(world: World, amount: str) -> None:
    refuse("refund", world.generation.pk, "--slot", "0", f"--amount={amount}", "--memo", "x")


def test_a_refund_says_why(world: World) -> None:
    assert refuse("refund", world.generation.pk, "--slot", "0", "--memo", "  ") == "a memo is required"


# --- above the threshold -------------------------------------------------------------------------------------------


def test_what_is_above_the_threshold_waits_and_says_where(world: World, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "10"
    asked = ("top_up", "Acme", "10.000001", "--memo", "wire", "--reference", "INV-8")
    first, second = run(*asked), run(*asked)
    booking = Booking.objects.get()
    page = f"http://127.0.0.1:8000/admin/billing/booking/{booking.pk}/change/"
    assert first == second == f"Acme: ¥10.000001 waits for a second person's approval at {page}\n"
    assert (booking.state, read_balance()) == ("waiting", 99_000_000)
    bookings.approve(booking, actor="bob")
    assert run(*asked) == "Acme: ¥10.000001 as INV-8, balance ¥109.000001, booked before\n"
    assert read_balance() == 109_000_001


def test_what_was_rejected_is_an_error(world: World, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    asked = ("refund", world.generation.pk, "--slot", "0", "--memo", "blurred", "--reference", "t-1")
    run(*asked)
    bookings.reject(Booking.objects.get(), actor="bob", reason="it is sharp")
    assert refuse(*asked) == (f"{world.generation.pk}/0: ¥0.50 was asked for before and rejected by bob: it is sharp")


def test_an_account_is_set_up_by_one_person(db: None, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    run("create_account", "bolt", "--top-up", "50000")
    assert Account.objects.get(name="bolt").balance_micros == 50_000_000_000


# --- the process ---------------------------------------------------------------------------------------------------


def test_exit_codes_and_one_clear_line(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "DEBUG": "true",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'books.sqlite3'}",
        "APPROVAL_THRESHOLD": "100",
    }

    def start(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    assert start("migrate", "-v0")[0] == 0
    assert start("create_account", "acme")[0] == 0
    code, out, err = start("adjust", "acme", "-0.5", "--memo", "x", "--reference", "r")
    assert (code, out, err) == (0, "acme: -¥0.50 as r, balance -¥0.50\n", "")
    code, out, err = start("top_up", "acme", "100.01", "--memo", "x")
    assert (code, err) == (0, "")
    assert out.startswith("acme: ¥100.01 waits for a second person's approval at http://127.0.0.1:8000/admin/")
    code, out, err = start("refund", "gen_x", "--memo", "x")
    assert (code, out, err) == (1, "", "CommandError: there is no generation 'gen_x'\n")
