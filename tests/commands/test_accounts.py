"""Accounts, keys and payments from the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing.keys import find_identities, hash_key
from billing.models import Account, ApiKey, LedgerEntry
from models_registry.seed import seed_models


def run(command: str, *arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(command, *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def refuse(command: str, *arguments: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(command, *arguments)
    assert (Account.objects.count(), LedgerEntry.objects.count()) in {(0, 0), (1, 1)}
    return str(caught.value)


@pytest.fixture
def acme(db: None) -> Account:
    run("create_account", "acme", "--top-up", "100.00")
    return Account.objects.get()


def test_an_account_with_its_first_payment(acme: Account) -> None:
    assert (acme.name, acme.balance_micros) == ("acme", 100_000_000)
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.amount_micros, entry.memo) == ("top_up", 100_000_000, "First payment")
    assert entry.actor.startswith("shell")


def test_an_account_without_money_has_no_entry(db: None) -> None:
    out, _ = run("create_account", "acme")
    assert out == "acme: account created with ¥0.00\n"
    assert LedgerEntry.objects.count() == 0


def test_a_name_is_given_once(acme: Account) -> None:
    assert refuse("create_account", "acme", "--top-up", "1") == "'acme': Account with this Name already exists."


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0", "'0': a top-up must be above zero"),
        ("-5", "'-5': a top-up must be above zero"),
        ("1e3", "'1e3' is not an amount"),
        ("1,000", "'1,000' is not an amount"),
        ("0.0000001", "'0.0000001' is not an amount"),
        ("nan", "'nan' is not an amount"),
        ("１００", "'１００' is not an amount"),
    ],
)
def test_a_wrong_amount_creates_nothing(db: None, amount: str, words: str) -> None:
    assert refuse("create_account", "acme", f"--top-up={amount}").startswith(words)
    assert Account.objects.count() == 0


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_name_must_fit(db: None, name: str) -> None:
    assert refuse("create_account", name).startswith(repr(name))


def test_the_key_stands_alone_on_standard_output(acme: Account) -> None:
    out, err = run("create_key", "acme", "--name", "production")
    secret = out.strip()
    assert out == f"{secret}\n"
    key = ApiKey.objects.get()
    assert (key.account, key.name, key.expires_at) == (acme, "production", None)
    assert find_identities([hash_key(secret)])[hash_key(secret)].key_id == key.pk
    assert err == f"{key.prefix}… for acme. This is the only time that it is shown.\n"
    assert secret not in err


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2099-01-31", datetime(2099, 1, 30, 16, tzinfo=UTC)),
        ("2099-01-31T12:00", datetime(2099, 1, 31, 4, tzinfo=UTC)),
        ("2099-01-31T12:00:00+00:00", datetime(2099, 1, 31, 12, tzinfo=UTC)),
        ("2099-01-31T12:00:00Z", datetime(2099, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_a_key_may_expire(acme: Account, text: str, moment: datetime) -> None:
    run("create_key", "acme", "--expires", text)
    assert ApiKey.objects.get().expires_at == moment


@pytest.mark.parametrize("text", ["tomorrow", "2099-02-30", "2099-01-31T25:00", "2020-01-01"])
def test_a_wrong_expiry_makes_no_key(acme: Account, text: str) -> None:
    with pytest.raises(CommandError, match=text):
        run("create_key", "acme", "--expires", text)
    assert ApiKey.objects.count() == 0


def test_a_key_with_every_limit(acme: Account) -> None:
    seed_models()
    run(
        *("create_key", "acme", "--spend-limit", "100", "--monthly-spend-limit", "12.5", "--rpm", "60"),
        *(
            "--max-in-flight",
            "3",
            "--models",
            "qwen-image-max, qwen-image-plus",
            "--networks",
            "10.0.0.0/8,2001:db8::1",
        ),
    )
    key = ApiKey.objects.get()
    assert (key.spend_limit_micros, key.monthly_spend_limit_micros) == (100_000_000, 12_500_000)
    assert (key.requests_per_minute, key.max_in_flight) == (60, 3)
    assert key.allowed_models == ["qwen-image-max", "qwen-image-plus"]
    assert key.allowed_networks == ["10.0.0.0/8", "2001:db8::1/128"]


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--spend-limit", "ten", "'ten' is not an amount"),
        ("--spend-limit", "-1", "'-1': a limit must not be below zero"),
        ("--monthly-spend-limit", "0.0000001", "'0.0000001' is not an amount"),
        ("--rpm", "0", "'0' is not a whole number from 1 to 1000000"),
        ("--rpm", "1.5", "'1.5' is not a whole number"),
        ("--max-in-flight", "-3", "'-3' is not a whole number"),
        ("--max-in-flight", "1000001", "'1000001' is not a whole number"),
        ("--models", "qwen-image-max,dall-e-3", "there is no model 'dall-e-3': there are qwen-image-2.0, "),
        ("--models", ",", "an empty list would allow everything: leave the option out"),
        ("--networks", "10.0.0.1/8", "'10.0.0.1/8' is an address with a prefix, not a network: is it 10.0.0.0/8"),
        ("--networks", "example.com", "'example.com' is not a network: write one like 203.0.113.0/24"),
        ("--networks", "", "an empty list would allow everything"),
    ],
)
def test_a_wrong_limit_makes_no_key(acme: Account, option: str, text: str, words: str) -> None:
    seed_models()
    with pytest.raises(CommandError) as caught:
        run("create_key", "acme", f"{option}={text}")
    assert words in str(caught.value)
    assert ApiKey.objects.count() == 0


def test_a_spend_limit_of_nothing_is_one(acme: Account) -> None:
    run("create_key", "acme", "--spend-limit", "0")
    assert ApiKey.objects.values_list("spend_limit_micros", "monthly_spend_limit_micros").get() == (0, None)


def test_an_account_on_credit_in_its_own_time_zone(db: None) -> None:
    run("create_account", "acme", "--credit-limit", "500.5", "--time-zone", "Europe/Berlin")
    account = Account.objects.get()
    assert (account.credit_limit_micros, account.time_zone, account.balance_micros) == (500_500_000, "Europe/Berlin", 0)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--credit-limit=-5", "'-5': a credit limit must not be below zero"),
        ("--credit-limit=much", "'much' is not an amount"),
        ("--time-zone=Mars/Olympus", "there is no time zone 'Mars/Olympus': write one like Asia/Shanghai"),
        ("--time-zone=", "there is no time zone ''"),
    ],
)
def test_a_wrong_option_creates_no_account(db: None, option: str, words: str) -> None:
    assert refuse("create_account", "acme", option).startswith(words)
    assert Account.objects.count() == 0


@pytest.mark.parametrize("command", [("create_key", "nobody"), ("top_up", "nobody", "5", "--memo", "x")])
def test_an_unknown_account_is_named(db: None, command: tuple[str, ...]) -> None:
    assert refuse(*command) == "there is no account 'nobody': `manage.py create_account` makes one"


def test_a_payment(acme: Account) -> None:
    out, _ = run("top_up", "acme", "12.5", "--memo", "Invoice 7", "--reference", "INV-7")
    assert out == "acme: ¥12.50 as INV-7, balance ¥112.50\n"
    entry = LedgerEntry.objects.get(reference="INV-7")
    assert (entry.amount_micros, entry.memo, entry.balance_after_micros) == (12_500_000, "Invoice 7", 112_500_000)


def test_a_payment_booked_again_is_booked_once(acme: Account) -> None:
    for _ in range(2):
        run("top_up", "acme", "5", "--memo", "Invoice 7", "--reference", "INV-7")
    acme.refresh_from_db()
    assert acme.balance_micros == 105_000_000
    with pytest.raises(CommandError, match="'INV-7' is booked already, with another amount or account"):
        run("top_up", "acme", "6", "--memo", "Invoice 7", "--reference", "INV-7")


def test_payments_without_a_reference_are_each_booked(acme: Account) -> None:
    for _ in range(2):
        run("top_up", "acme", "5", "--memo", "cash")
    acme.refresh_from_db()
    assert acme.balance_micros == 110_000_000


@pytest.mark.parametrize(
    "arguments",
    [("acme", "0", "--memo", "x"), ("acme", "five", "--memo", "x"), ("acme", "5"), ("acme", "5", "--memo", "x" * 201)],
)
def test_a_wrong_payment_books_nothing(acme: Account, arguments: tuple[str, ...]) -> None:
    refuse("top_up", *arguments)
    acme.refresh_from_db()
    assert acme.balance_micros == 100_000_000


def test_the_actor_is_who_sits_there(acme: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nobody() -> Any:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("getpass.getuser", find_nobody)
    run("top_up", "acme", "5", "--memo", "x", "--reference", "r")
    assert LedgerEntry.objects.get(reference="r").actor == "shell"
