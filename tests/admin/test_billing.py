"""Accounts, top-ups, keys and the books."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.keys import find_identities, hash_key
from billing.models import Account, ApiKey, Hold, LedgerEntry
from tests.admin.forms import fill_in, read_errors, read_log
from tests.admin.world import World

KEYS = reverse("admin:billing_apikey_add")


def page_of(account: Account) -> str:
    return reverse("admin:billing_account_change", args=[account.pk])


def top_up_page(account: Account) -> str:
    return reverse("admin:billing_account_top_up", args=[account.pk])


def read_reference(client: Client, account: Account) -> str:
    found = re.search(r'name="reference" value="([0-9a-f-]{36})"', client.get(top_up_page(account)).content.decode())
    assert found
    return found[1]


# --- top-ups ---


def test_a_top_up_is_booked_in_the_ledger(olga: Client, world: World) -> None:
    reference = read_reference(olga, world.account)
    olga.post(top_up_page(world.account), {"amount": "12.5", "memo": "invoice 7", "reference": reference})
    entry = LedgerEntry.objects.latest("id")
    assert (entry.kind, entry.amount_micros, entry.memo, entry.actor, entry.reference) == (
        "top_up",
        12_500_000,
        "invoice 7",
        "olga",
        f"admin-{reference}",
    )
    world.account.refresh_from_db()
    assert world.account.balance_micros == 111_500_000
    assert read_log(world.account) == [("olga", f"Top-up of ¥12.50: entry 4, admin-{reference}")]


def test_the_same_form_sent_twice_books_once(olga: Client, world: World) -> None:
    sent = {"amount": "10", "memo": "wire", "reference": read_reference(olga, world.account)}
    first = olga.post(top_up_page(world.account), sent, follow=True)
    second = olga.post(top_up_page(world.account), sent, follow=True)
    assert "¥10.00 booked. The balance is ¥109.00." in first.content.decode()
    assert "was booked before, as entry 4" in second.content.decode()
    world.account.refresh_from_db()
    assert (world.account.balance_micros, world.account.entries.filter(kind="top_up").count()) == (109_000_000, 2)
    assert len(read_log(world.account)) == 1


def test_the_same_form_with_another_amount_is_refused(olga: Client, world: World) -> None:
    sent = {"amount": "10", "memo": "wire", "reference": read_reference(olga, world.account)}
    olga.post(top_up_page(world.account), sent)
    response = olga.post(top_up_page(world.account), sent | {"amount": "20"})
    assert "is booked already" in read_errors(response)
    world.account.refresh_from_db()
    assert world.account.balance_micros == 109_000_000


def test_every_form_has_a_reference_of_its_own(olga: Client, world: World) -> None:
    assert read_reference(olga, world.account) != read_reference(olga, world.account)


@pytest.mark.parametrize(
    "typed",
    [
        {"amount": "0"},
        {"amount": "-5"},
        {"amount": "0.0000001"},
        {"amount": "many"},
        {"amount": "Infinity"},
        {"memo": ""},
        {"reference": "mine"},
        {"reference": ""},
    ],
)
def test_what_is_no_top_up_is_refused(olga: Client, world: World, typed: dict[str, str]) -> None:
    sent = {"amount": "10", "memo": "wire", "reference": read_reference(olga, world.account)}
    assert olga.post(top_up_page(world.account), sent | typed).status_code == 200
    world.account.refresh_from_db()
    assert world.account.balance_micros == 99_000_000


# --- accounts ---


def test_an_account_shows_its_money_and_takes_none(olga: Client, world: World) -> None:
    shown = olga.get(page_of(world.account)).content.decode()
    assert "¥99.00" in shown
    crafted = {"balance_micros": "1", "held_micros": "1", "sequence": "0", "balance": "1"}
    olga.post(page_of(world.account), fill_in(olga, page_of(world.account), **crafted))
    world.account.refresh_from_db()
    assert (world.account.balance_micros, world.account.held_micros, world.account.sequence) == (99_000_000, 0, 3)


def test_saving_an_account_writes_no_column_that_the_ledger_moves(olga: Client, world: World) -> None:
    sent = fill_in(olga, page_of(world.account), credit_limit_micros="50.5", note="good customer")
    with CaptureQueriesContext(connection) as queries:
        assert olga.post(page_of(world.account), sent).status_code == 302
    updates = [query["sql"] for query in queries if query["sql"].startswith('UPDATE "billing_account"')]
    assert len(updates) == 1
    assert not re.search("balance_micros|held_micros|sequence", updates[0].partition("WHERE")[0])
    world.account.refresh_from_db()
    assert (world.account.credit_limit_micros, world.account.note) == (50_500_000, "good customer")
    assert "credit limit ¥0.00 -> ¥50.50" in read_log(world.account)[0][1]


def test_a_credit_limit_is_shown_as_it_is_typed(olga: Client, world: World) -> None:
    Account.objects.filter(pk=world.account.pk).update(credit_limit_micros=1_234_567)
    assert fill_in(olga, page_of(world.account))["credit_limit_micros"] == "1.234567"
    assert olga.post(page_of(world.account), fill_in(olga, page_of(world.account))).status_code == 302
    world.account.refresh_from_db()
    assert world.account.credit_limit_micros == 1_234_567
    assert read_log(world.account) == [("olga", "No fields changed.")]


@pytest.mark.parametrize("typed", [{"credit_limit_micros": "-1"}, {"time_zone": "Mars/Olympus"}, {"time_zone": "../x"}])
def test_what_no_account_can_have_is_refused(olga: Client, world: World, typed: dict[str, str]) -> None:
    assert olga.post(page_of(world.account), fill_in(olga, page_of(world.account), **typed)).status_code == 200
    world.account.refresh_from_db()
    assert (world.account.credit_limit_micros, world.account.time_zone) == (0, "Asia/Shanghai")


def test_an_account_is_opened_without_money(olga: Client) -> None:
    address = reverse("admin:billing_account_add")
    assert olga.post(address, fill_in(olga, address, name="Bolt")).status_code == 302
    account = Account.objects.get(name="Bolt")
    assert (account.balance_micros, account.credit_limit_micros, account.state) == (0, 0, "active")


def test_an_account_is_never_deleted(olga: Client, world: World) -> None:
    address = reverse("admin:billing_account_delete", args=[world.account.pk])
    assert olga.post(address, {"post": "yes"}).status_code == 403


# --- keys ---


def create_a_key(client: Client, account: Account) -> tuple[ApiKey, str, Any]:
    sent = {"account": account.pk, "name": "ci", "expires_at_0": "", "expires_at_1": ""}
    response = client.post(KEYS, sent)
    found = re.search(r"sk-cr-[0-9a-f]{8}-[\w-]+", response.content.decode())
    assert found
    return ApiKey.objects.latest("id"), found[0], response


def test_a_new_key_works_and_its_secret_is_shown_once(olga: Client, world: World) -> None:
    key, secret, response = create_a_key(olga, world.account)
    assert (key.account, key.name, key.key_hash, key.prefix) == (world.account, "ci", hash_key(secret), secret[:14])
    assert find_identities([hash_key(secret)])[hash_key(secret)].account_id == world.account.pk
    assert "no-store" in response.headers["Cache-Control"]
    assert response.content.decode().count(secret) == 1
    later = [
        olga.get(reverse("admin:billing_apikey_change", args=[key.pk])),
        olga.get(reverse("admin:billing_apikey_changelist")),
        olga.get(page_of(world.account)),
        olga.get(reverse("admin:admin_logentry_changelist")),
    ]
    assert [secret in page.content.decode() for page in later] == [False] * 4


def test_a_key_is_created_from_the_page_of_its_account(olga: Client, world: World) -> None:
    response = olga.get(reverse("admin:billing_account_create_key", args=[world.account.pk]))
    assert response.headers["Location"] == f"{KEYS}?account={world.account.pk}"
    assert fill_in(olga, response.headers["Location"])["account"] == str(world.account.pk)


def test_the_secret_is_kept_nowhere(olga: Client, world: World, caplog: pytest.LogCaptureFixture) -> None:
    with CaptureQueriesContext(connection) as queries:
        _, secret, response = create_a_key(olga, world.account)
    assert [query["sql"] for query in queries if secret in query["sql"]] == []
    assert secret not in str(response.cookies)
    assert [secret in str(session.get_decoded()) for session in Session.objects.all()] == [False]
    assert secret not in caplog.text


def test_hash_prefix_and_account_of_a_key_stay(olga: Client, world: World) -> None:
    address = reverse("admin:billing_apikey_change", args=[world.key.pk])
    other = Account.objects.create(name="Other")
    crafted = {"prefix": "sk-cr-x", "key_hash": "0" * 64, "account": other.pk, "spent_micros": "0", "revoked_at_0": ""}
    assert olga.post(address, fill_in(olga, address, name="renamed", **crafted)).status_code == 302
    key = ApiKey.objects.get(pk=world.key.pk)
    assert key.name == "renamed"
    assert (key.prefix, key.key_hash, key.account) == (world.key.prefix, world.key.key_hash, world.account)
    assert key.spent_micros == 1_000_000


def test_a_key_is_not_created_to_expire_in_the_past(olga: Client, world: World) -> None:
    sent = {"account": world.account.pk, "name": "", "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    assert "this is in the past" in read_errors(olga.post(KEYS, sent))
    assert ApiKey.objects.count() == 1


def test_a_key_is_revoked_after_a_question(olga: Client, world: World) -> None:
    address = reverse("admin:billing_apikey_revoke", args=[world.key.pk])
    assert olga.get(address).status_code == 200
    world.key.refresh_from_db()
    assert world.key.is_usable()
    olga.post(address)
    world.key.refresh_from_db()
    assert not world.key.is_usable()
    assert read_log(world.key) == [("olga", "Revoked")]


def test_selected_keys_are_revoked_once(olga: Client, world: World) -> None:
    sent = {"action": "revoke_selected", "_selected_action": [world.key.pk]}
    for _ in range(2):
        olga.post(reverse("admin:billing_apikey_changelist"), sent)
    world.key.refresh_from_db()
    assert world.key.revoked_at is not None
    assert len(read_log(world.key)) == 1


def test_a_key_is_never_deleted(olga: Client, world: World) -> None:
    address = reverse("admin:billing_apikey_delete", args=[world.key.pk])
    assert olga.post(address, {"post": "yes"}).status_code == 403


# --- the books ---


@pytest.mark.parametrize("table", [LedgerEntry, Hold])
def test_the_books_are_read_never_written(olga: Client, world: World, table: Any) -> None:
    name = f"billing_{table._meta.model_name}"
    row = table.objects.first()
    before = list(table.objects.order_by("id").values())
    crafted = {"amount_micros": "1", "kind": "top_up", "reference": "x", "account": world.account.pk, "post": "yes"}
    answers = [
        olga.post(reverse(f"admin:{name}_add"), crafted),
        olga.post(reverse(f"admin:{name}_change", args=[row.pk]), crafted),
        olga.post(reverse(f"admin:{name}_delete", args=[row.pk]), crafted),
    ]
    assert [answer.status_code for answer in answers] == [403] * 3
    selected = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    olga.post(reverse(f"admin:{name}_changelist"), selected)
    assert list(table.objects.order_by("id").values()) == before


def test_the_ledger_is_searched_by_generation_and_by_key(olga: Client, world: World) -> None:
    ledger = reverse("admin:billing_ledgerentry_changelist")
    searches: list[tuple[str, int]] = [(world.generation.pk, 2), (world.key.prefix, 2), ("first", 1), ("nothing", 0)]
    for wanted, found in searches:
        assert len(olga.get(ledger, {"q": wanted}).context["cl"].result_list) == found
    by_account = olga.get(f"{ledger}?account__id__exact={world.account.pk}&kind__exact=charge")
    assert len(by_account.context["cl"].result_list) == 2
    shown = by_account.content.decode()
    assert "-¥0.50" in shown
    assert "¥99.00" in shown


# --- those who may only look, or only change accounts ---


def test_a_viewer_books_nothing(victor: Client, world: World) -> None:
    sent = {"amount": "10", "memo": "x", "reference": "7f1b9f46-0000-4000-8000-000000000000"}
    assert victor.get(top_up_page(world.account)).status_code == 403
    refused = [
        (top_up_page(world.account), sent),
        (page_of(world.account), {"credit_limit_micros": "1000"}),
        (KEYS, {"account": world.account.pk}),
        (reverse("admin:billing_apikey_revoke", args=[world.key.pk]), {}),
    ]
    assert [victor.post(address, data).status_code for address, data in refused] == [403] * 4
    victor.post(
        reverse("admin:billing_apikey_changelist"), {"action": "revoke_selected", "_selected_action": [world.key.pk]}
    )
    world.account.refresh_from_db()
    assert (world.account.balance_micros, ApiKey.objects.filter(revoked_at=None).count()) == (99_000_000, 1)


def test_booking_takes_a_right_of_its_own(victor: Client, world: World) -> None:
    clerk = User.objects.get(username="victor")
    clerk.user_permissions.add(Permission.objects.get(codename="change_account"))
    sent = {"amount": "10", "memo": "x", "reference": "7f1b9f46-0000-4000-8000-000000000000"}
    assert victor.post(top_up_page(world.account), sent).status_code == 403
    assert top_up_page(world.account) not in victor.get(page_of(world.account)).content.decode()
    clerk.user_permissions.add(Permission.objects.get(codename="add_ledgerentry"))
    assert victor.post(top_up_page(world.account), sent).status_code == 302
    assert LedgerEntry.objects.latest("id").actor == "victor"


def test_strangers_are_sent_to_the_login(world: World) -> None:
    response = Client().get(top_up_page(world.account))
    assert response.headers["Location"].startswith(reverse("admin:login"))


def test_an_account_agrees_to_copies_of_its_requests(olga: Client, world: World) -> None:
    page = reverse("admin:billing_account_change", args=[world.account.pk])
    assert olga.post(page, fill_in(olga, page, shadow_allowed="on")).status_code == 302
    world.account.refresh_from_db()
    assert world.account.shadow_allowed is True
    assert read_log(world.account) == [("olga", "Changed Shadow copies allowed.")]
    sent = fill_in(olga, page)
    sent.pop("shadow_allowed")
    olga.post(page, sent)
    world.account.refresh_from_db()
    assert world.account.shadow_allowed is False
