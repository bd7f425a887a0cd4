"""Money moved by people in the admin: who asks, who decides, and what both are told."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from billing import bookings, ledger
from billing.models import Account, Booking, LedgerEntry
from tests.admin.forms import fill_in, read_errors, read_log
from tests.admin.world import World

LIST = reverse("admin:billing_booking_changelist")


def page(kind: str, verb: str, row: Any) -> str:
    return reverse(f"admin:billing_{kind}_{verb}", args=[row.pk])


def enter(world: World, name: str, *rights: str) -> Client:
    user = User.objects.create_user(name, password="correct horse battery", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def clara(world: World) -> Client:
    """Books, but decides nothing."""
    rights = ("view_account", "change_account", "add_ledgerentry", "view_ledgerentry", "view_booking")
    return enter(world, "clara", *rights)


@pytest.fixture
def bob(world: World) -> Client:
    """Decides, but books nothing."""
    return enter(world, "bob", "view_booking", "approve_booking", "view_account", "view_ledgerentry")


@pytest.fixture
def charge(world: World) -> LedgerEntry:
    return LedgerEntry.objects.get(kind="charge", line=0)


def send(client: Client, address: str, **typed: Any) -> Any:
    """The form at this address, filled in and sent; where it leads to."""
    return client.post(address, fill_in(client, address, **typed), follow=True)


def read_balance() -> int:
    return Account.objects.get(name="Acme").balance_micros


def read_said(response: Any) -> list[str]:
    return [re.sub("<[^>]+>", "", str(message)) for message in response.context["messages"]]


def wait_for_approval(settings: Any, client: Client, world: World, amount: str = "20") -> Booking:
    settings.APPROVAL_THRESHOLD = "10"
    send(client, page("account", "top_up", world.account), amount=amount, memo="wire 7")
    return Booking.objects.latest("id")


# --- adjustments ---------------------------------------------------------------------------------------------------


def test_an_adjustment_shows_its_effect_before_it_is_booked(olga: Client, world: World) -> None:
    address = page("account", "adjust", world.account)
    sent = fill_in(olga, address, amount="-12.50", memo="chargeback")
    shown = olga.post(address, sent)
    assert "With it the balance goes from ¥99.00 to ¥86.50." in shown.content.decode()
    assert (read_balance(), Booking.objects.count()) == (99_000_000, 0)
    done = olga.post(address, sent | {"seen": shown.context["form"]["seen"].value()}, follow=True)
    assert read_said(done) == ["-¥12.50 booked. The balance is ¥86.50."]
    entry = LedgerEntry.objects.latest("id")
    assert (entry.kind, entry.amount_micros, entry.memo, entry.actor) == (
        "adjustment",
        -12_500_000,
        "chargeback",
        "olga",
    )
    assert read_log(world.account) == [("olga", f"Adjustment of -¥12.50: entry 4, {entry.reference}")]


def test_an_amount_typed_over_is_shown_again(olga: Client, world: World) -> None:
    address = page("account", "adjust", world.account)
    sent = fill_in(olga, address, amount="-12.50", memo="chargeback", seen="-12500000")
    shown = olga.post(address, sent | {"amount": "-125"}).content.decode()
    assert "With it the balance goes from ¥99.00 to -¥26.00. The account is then overdrawn" in shown
    assert read_balance() == 99_000_000


@pytest.mark.parametrize(
    "typed",
    [
        {"amount": "0"},
        {"amount": "-0.0000001"},
        {"amount": "1000000000"},
        {"amount": "9223372036854775808"},
        {"amount": "NaN"},
        {"amount": "-Infinity"},
        {"amount": ""},
        {"memo": ""},
        {"memo": "   "},
        {"memo": "x" * 201},
        {"memo": "two\nlines"},
        {"reference": "mine"},
        {"book_on": "2999-01-01"},
        {"book_on": "0001-01-01"},
        {"book_on": "soon"},
    ],
)
def test_what_is_no_adjustment_is_refused(olga: Client, world: World, typed: dict[str, str]) -> None:
    address = page("account", "adjust", world.account)
    sent = fill_in(olga, address, amount="-12.50", memo="chargeback", seen="-12500000") | typed
    response = olga.post(address, sent)
    assert (response.status_code, read_errors(response) != "") == (200, True)
    assert (read_balance(), Booking.objects.count()) == (99_000_000, 0)


def test_a_payment_is_dated_where_the_account_is(olga: Client, world: World) -> None:
    send(olga, page("account", "top_up", world.account), amount="5", memo="wire", book_on="2025-03-31")
    assert LedgerEntry.objects.latest("id").booked_at.isoformat() == "2025-03-30T16:00:00+00:00"
    Account.objects.update(closed_until="2025-03-31T16:00:00Z")
    address = page("account", "top_up", world.account)
    response = olga.post(address, fill_in(olga, address, amount="5", memo="wire", book_on="2025-03-31"))
    assert "closed month" in read_errors(response)


# --- refunds -------------------------------------------------------------------------------------------------------


def test_a_refund_is_filled_in_with_what_is_left(olga: Client, world: World, charge: LedgerEntry) -> None:
    address = page("ledgerentry", "refund", charge)
    assert address in olga.get(page("ledgerentry", "change", charge)).content.decode()
    assert fill_in(olga, address)["amount"] == "0.50"
    done = send(olga, address, amount="0.2", memo="blurred")
    assert read_said(done) == ["¥0.20 booked. The balance is ¥99.20."]
    entry = LedgerEntry.objects.latest("id")
    assert (entry.kind, entry.amount_micros, entry.reference, entry.actor) == (
        "refund",
        200_000,
        str(charge.pk),
        "olga",
    )
    assert read_log(world.account) == [("olga", f"Refund of ¥0.20: entry 4, {world.generation.pk}/0")]
    shown = olga.get(page("ledgerentry", "change", charge)).content.decode()
    assert "¥0.20 of ¥0.50" in shown
    assert fill_in(olga, address)["amount"] == "0.30"


def test_a_refund_never_exceeds_its_charge(olga: Client, charge: LedgerEntry) -> None:
    address = page("ledgerentry", "refund", charge)
    response = olga.post(address, fill_in(olga, address, amount="0.500001", memo="x"))
    assert "¥0.500001 is more than is left of this charge: ¥0.50" in read_errors(response)
    assert read_balance() == 99_000_000


@pytest.mark.parametrize("typed", [{"amount": "0"}, {"amount": "-0.1"}, {"amount": "0.0000001"}, {"memo": " "}])
def test_what_is_no_refund_is_refused(olga: Client, charge: LedgerEntry, typed: dict[str, str]) -> None:
    address = page("ledgerentry", "refund", charge)
    response = olga.post(address, fill_in(olga, address, amount="0.1", memo="x") | typed)
    assert (response.status_code, read_errors(response) != "", Booking.objects.count()) == (200, True, 0)


def test_the_same_refund_sent_twice_books_once(olga: Client, charge: LedgerEntry) -> None:
    address = page("ledgerentry", "refund", charge)
    sent = fill_in(olga, address, amount="0.1", memo="blurred")
    olga.post(address, sent)
    again = olga.post(address, sent, follow=True)
    assert "This refund of ¥0.10 was booked before, as entry 4." in read_said(again)
    assert "this refund is booked already" in read_errors(olga.post(address, sent | {"amount": "0.2"}))
    assert read_balance() == 99_100_000


def test_only_charges_are_refunded(olga: Client, world: World) -> None:
    payment = LedgerEntry.objects.get(kind="top_up")
    assert (
        page("ledgerentry", "refund", payment) not in olga.get(page("ledgerentry", "change", payment)).content.decode()
    )
    assert olga.get(page("ledgerentry", "refund", payment)).status_code == 404


# --- a second person -----------------------------------------------------------------------------------------------


def test_much_money_waits_for_a_second_person(olga: Client, bob: Client, world: World, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "10"
    asked = send(olga, page("account", "top_up", world.account), amount="10.01", memo="wire 7")
    booking = Booking.objects.get()
    assert read_said(asked) == [f"Top-up of ¥10.01 waits for a second person: booking {booking.pk}."]
    assert (booking.state, booking.requested_by, read_balance()) == ("waiting", "olga", 99_000_000)
    address = page("booking", "approve", booking)
    question = bob.get(address).content.decode()
    assert "olga asked for it: “wire 7”" in question
    assert "With it the balance goes from ¥99.00 to ¥109.01." in question
    done = bob.post(address, follow=True)
    assert read_said(done) == ["¥10.01 booked by bob as entry 4."]
    booking.refresh_from_db()
    assert (booking.state, booking.decided_by, read_balance()) == ("booked", "bob", 109_010_000)
    assert booking.entry is not None
    assert (booking.entry.actor, booking.entry.memo) == ("olga", "wire 7")
    assert read_log(booking) == [("bob", "Approved")]
    assert read_log(world.account) == [
        ("olga", f"Top-up of ¥10.01 asked for: booking {booking.pk} waits for a second person"),
        ("bob", f"Top-up of ¥10.01: entry 4, {booking.reference}"),
    ]
    assert "approved by bob" in olga.get(page("ledgerentry", "change", booking.entry)).content.decode()


def test_exactly_the_threshold_is_booked_at_once(olga: Client, world: World, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "10"
    send(olga, page("account", "top_up", world.account), amount="10", memo="wire")
    assert read_balance() == 109_000_000


def test_a_waiting_form_sent_again_asks_once(olga: Client, world: World, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    address = page("account", "top_up", world.account)
    sent = fill_in(olga, address, amount="20", memo="wire")
    olga.post(address, sent)
    again = olga.post(address, sent, follow=True)
    assert f"This top-up of ¥20.00 was sent before: booking {Booking.objects.get().pk} waits for a second person." in (
        read_said(again)
    )


def test_who_asked_is_offered_no_decision_and_refused_one(olga: Client, world: World, settings: Any) -> None:
    booking = wait_for_approval(settings, olga, world)
    for shown in (olga.get(page("booking", "change", booking)), olga.get(LIST)):
        assert page("booking", "approve", booking) not in shown.content.decode()
        assert page("booking", "reject", booking) not in shown.content.decode()
    for verb in ("approve", "reject"):
        answer = olga.post(page("booking", verb, booking), {"reason": "mine"}, follow=True)
        assert read_said(answer) == ["You asked for this booking: somebody else decides."]
    booking.refresh_from_db()
    assert (booking.state, read_balance()) == ("waiting", 99_000_000)


def test_who_may_decide_is_offered_it(olga: Client, bob: Client, world: World, settings: Any) -> None:
    booking = wait_for_approval(settings, olga, world)
    for shown in (bob.get(page("booking", "change", booking)), bob.get(LIST)):
        assert page("booking", "approve", booking) in shown.content.decode()
        assert page("booking", "reject", booking) in shown.content.decode()


def test_deciding_takes_a_right_of_its_own(
    olga: Client, clara: Client, victor: Client, world: World, settings: Any
) -> None:
    booking = wait_for_approval(settings, olga, world)
    for client in (clara, victor):
        assert page("booking", "approve", booking) not in client.get(LIST).content.decode()
        for verb in ("approve", "reject"):
            assert client.get(page("booking", verb, booking)).status_code == 403
            assert client.post(page("booking", verb, booking), {"reason": "no"}).status_code == 403
    booking.refresh_from_db()
    assert booking.state == "waiting"


def test_who_decides_does_not_book(bob: Client, world: World, charge: LedgerEntry) -> None:
    refused = [
        page("account", "top_up", world.account),
        page("account", "adjust", world.account),
        page("ledgerentry", "refund", charge),
    ]
    assert [bob.post(address, {"amount": "1"}).status_code for address in refused] == [403] * 3
    assert page("ledgerentry", "refund", charge) not in bob.get(page("ledgerentry", "change", charge)).content.decode()


def test_a_rejection_says_why(olga: Client, bob: Client, world: World, settings: Any) -> None:
    booking = wait_for_approval(settings, olga, world)
    address = page("booking", "reject", booking)
    assert "required" in read_errors(bob.post(address, {"reason": " "}))
    done = bob.post(address, {"reason": "no such payment"}, follow=True)
    assert read_said(done) == ["Rejected: nothing was booked."]
    assert "no such payment" in done.content.decode()
    booking.refresh_from_db()
    assert (booking.state, booking.decided_by, booking.reason) == ("rejected", "bob", "no such payment")
    assert read_log(booking) == [("bob", "Rejected: no such payment")]
    late = bob.post(page("booking", "approve", booking), follow=True)
    assert read_said(late) == [f"Booking {booking.pk} does not wait any more: rejected by bob: no such payment."]
    assert read_balance() == 99_000_000


def test_what_can_no_longer_be_booked_stays_waiting(
    olga: Client, bob: Client, charge: LedgerEntry, settings: Any
) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    send(olga, page("ledgerentry", "refund", charge), memo="blurred")
    booking = Booking.objects.get()
    ledger.refund(charge, amount_micros=400_000, memo="meanwhile", actor="anna")
    answer = bob.post(page("booking", "approve", booking), follow=True)
    assert read_said(answer) == ["Not booked, it still waits: ¥0.50 is more than is left of this charge: ¥0.10."]
    booking.refresh_from_db()
    assert booking.state == "waiting"
    bob.post(page("booking", "reject", booking), {"reason": "refunded in part"})
    booking.refresh_from_db()
    assert (booking.state, read_balance()) == ("rejected", 99_400_000)


# --- the list ------------------------------------------------------------------------------------------------------


def test_what_waits_comes_first(olga: Client, bob: Client, world: World, settings: Any) -> None:
    first = wait_for_approval(settings, olga, world)
    second = wait_for_approval(settings, olga, world, "30")
    for amount in ("1", "2"):
        send(olga, page("account", "top_up", world.account), amount=amount, memo="small")
    rows = bob.get(LIST).context["cl"].result_list
    assert [(row.state, row.amount_micros) for row in rows] == [
        ("waiting", second.amount_micros),
        ("waiting", first.amount_micros),
        ("booked", 2_000_000),
        ("booked", 1_000_000),
    ]
    waiting = bob.get(f"{LIST}?state__exact=waiting").context["cl"].result_list
    assert {row.pk for row in waiting} == {first.pk, second.pk}
    found = bob.get(LIST, {"q": "small"}).context["cl"].result_list
    assert len(found) == 2


def test_a_command_of_ones_own_is_not_ones_own_to_approve(bob: Client, world: World, settings: Any) -> None:
    settings.APPROVAL_THRESHOLD = "0"
    facts: dict[str, Any] = {"kind": "top_up", "amount_micros": 1, "memo": "x", "reference": "r", "token": "t"}
    booking = bookings.request_booking(world.account, actor="shell:bob", **facts).booking
    assert page("booking", "approve", booking) not in bob.get(LIST).content.decode()
    bob.post(page("booking", "approve", booking))
    booking.refresh_from_db()
    assert booking.state == "waiting"


def test_bookings_are_neither_added_nor_changed_nor_deleted(olga: Client, world: World, settings: Any) -> None:
    booking = wait_for_approval(settings, olga, world)
    crafted = {"state": "booked", "amount_micros": "1", "requested_by": "nobody", "post": "yes"}
    answers = [
        olga.post(reverse("admin:billing_booking_add"), crafted),
        olga.post(page("booking", "change", booking), crafted),
        olga.post(page("booking", "delete", booking), crafted),
    ]
    assert [answer.status_code for answer in answers] == [403] * 3
    before = Booking.objects.values().get()
    olga.post(LIST, {"action": "delete_selected", "_selected_action": [booking.pk], "post": "yes"})
    assert Booking.objects.values().get() == before
