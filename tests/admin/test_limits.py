"""Limits, keys that are switched off, time zones and agreed prices in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.keys import find_identities, hash_key
from billing.models import Account, AccountPrice, ApiKey, UsageDay
from models_registry.models import ImageModel, Price
from tests.admin.forms import fill_in, read_errors, read_log
from tests.admin.world import World

NEW_KEY = reverse("admin:billing_apikey_add")
NEW_PRICE = reverse("admin:billing_accountprice_add")
PRICES = reverse("admin:billing_accountprice_changelist")
LIMITS = {
    "spend_limit_micros": "100",
    "monthly_spend_limit_micros": "12.5",
    "requests_per_minute": "60",
    "max_in_flight": "3",
    "allowed_models": "qwen-image-max qwen-image-plus",
    "allowed_networks": "10.0.0.0/8\n2001:db8::1",
}
STORED = (
    100_000_000,
    12_500_000,
    60,
    3,
    ["qwen-image-max", "qwen-image-plus"],
    ["10.0.0.0/8", "2001:db8::1/128"],
)


def page_of(row: Account | ApiKey) -> str:
    return reverse(f"admin:billing_{row._meta.model_name}_change", args=[row.pk])


def read_limits(row: Account | ApiKey) -> tuple[Any, ...]:
    return tuple(type(row).objects.filter(pk=row.pk).values_list(*LIMITS).get())


@pytest.mark.parametrize("name", ["account", "key"])
def test_limits_are_set_and_shown_and_taken_away(olga: Client, world: World, name: str) -> None:
    row = getattr(world, name)
    page = page_of(row)
    assert olga.post(page, fill_in(olga, page, **LIMITS)).status_code == 302
    assert read_limits(row) == STORED
    shown = fill_in(olga, page)
    assert {field: shown[field] for field in LIMITS} == {
        "spend_limit_micros": "100.00",
        "monthly_spend_limit_micros": "12.50",
        "requests_per_minute": "60",
        "max_in_flight": "3",
        "allowed_models": "qwen-image-max, qwen-image-plus",
        "allowed_networks": "10.0.0.0/8, 2001:db8::1/128",
    }
    said = olga.get(page).content.decode()
    assert "¥1.00 of ¥100.00" in said
    assert "¥1.00 of ¥12.50" in said
    assert "0 of 3" in said
    assert olga.post(page, fill_in(olga, page, **dict.fromkeys(LIMITS, ""))).status_code == 302
    assert read_limits(row) == (None, None, None, None, [], [])


def test_saving_a_page_as_it_is_changes_nothing(olga: Client, world: World) -> None:
    ApiKey.objects.update(**dict(zip(LIMITS, STORED, strict=True)))
    page = page_of(world.key)
    sent = fill_in(olga, page)
    ApiKey.objects.update(held_micros=7, in_flight=1, spent_micros=9, window_requests=3)
    assert olga.post(page, sent).status_code == 302
    assert read_limits(world.key) == STORED
    moved = ApiKey.objects.values_list("held_micros", "in_flight", "spent_micros", "window_requests").get()
    assert moved == (7, 1, 9, 3)
    assert read_log(world.key) == [("olga", "No fields changed.")]


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("spend_limit_micros", "-1", "greater than or equal to 0"),
        ("spend_limit_micros", "ten", "Enter a number"),
        ("monthly_spend_limit_micros", "0.0000001", "no more than 6 decimal places"),
        ("requests_per_minute", "0", "greater than or equal to 1"),
        ("max_in_flight", "1.5", "Enter a whole number"),
        ("allowed_models", "dall-e-3", "there is no model &#x27;dall-e-3&#x27;"),
        ("allowed_networks", "10.0.0.1/8", "is it 10.0.0.0/8, or the address alone?"),
        ("allowed_networks", "example.com", "is not a network: write one like 203.0.113.0/24"),
    ],
)
def test_a_wrong_limit_is_said_where_it_was_typed(
    olga: Client, world: World, field: str, text: str, words: str
) -> None:
    page = page_of(world.key)
    response = olga.post(page, fill_in(olga, page, **{field: text}))
    assert words in read_errors(response)
    assert list(response.context["adminform"].form.errors) == [field]
    assert read_limits(world.key) == (None, None, None, None, [], [])


def test_a_new_key_has_its_limits(olga: Client, world: World) -> None:
    response = olga.post(NEW_KEY, fill_in(olga, NEW_KEY, account=str(world.account.pk), name="shop", **LIMITS))
    key = ApiKey.objects.get(name="shop")
    assert (response.status_code, read_limits(key), key.enabled) == (200, STORED, True)
    assert find_identities([hash_key(response.context["secret"])])


def test_keys_are_switched_off_and_on(olga: Client, world: World) -> None:
    keys = reverse("admin:billing_apikey_changelist")
    sent = {"_selected_action": [str(world.key.pk)]}
    olga.post(keys, sent | {"action": "disable_selected"})
    assert ApiKey.objects.get().enabled is False
    assert find_identities([ApiKey.objects.get().key_hash]) == {}
    assert "disabled" in olga.get(keys).content.decode()
    olga.post(keys, sent | {"action": "disable_selected"})
    olga.post(keys, sent | {"action": "enable_selected"})
    assert ApiKey.objects.get().enabled is True
    assert read_log(world.key) == [("olga", "Disabled"), ("olga", "Enabled")]
    page = page_of(world.key)
    sent = fill_in(olga, page)
    del sent["enabled"]
    olga.post(page, sent)
    assert ApiKey.objects.get().enabled is False


def test_a_viewer_switches_nothing(victor: Client, world: World) -> None:
    keys = reverse("admin:billing_apikey_changelist")
    victor.post(keys, {"_selected_action": [str(world.key.pk)], "action": "disable_selected"})
    victor.post(page_of(world.key), {"spend_limit_micros": "1"})
    assert ApiKey.objects.values_list("enabled", "spend_limit_micros").get() == (True, None)


def test_a_lower_credit_limit_may_leave_the_account_overdrawn(olga: Client, world: World) -> None:
    Account.objects.update(credit_limit_micros=50_000_000, balance_micros=-40_000_000)
    page = page_of(world.account)
    assert olga.post(page, fill_in(olga, page, credit_limit_micros="10")).status_code == 302
    account = Account.objects.get()
    assert (account.credit_limit_micros, account.available_micros) == (10_000_000, -30_000_000)


# --- time zones ---


def test_a_time_zone_moves_what_is_counted_by_day(olga: Client, world: World) -> None:
    page = page_of(world.account)
    day = UsageDay.objects.get().day
    UsageDay.objects.update(day=day - timedelta(days=300))
    olga.post(page, fill_in(olga, page, time_zone="Europe/Berlin", note="moved"))
    assert Account.objects.values_list("time_zone", "note").get() == ("Europe/Berlin", "moved")
    assert abs(UsageDay.objects.get().day - day) <= timedelta(days=1)


def test_a_time_zone_is_fixed_by_a_closed_month(olga: Client, world: World) -> None:
    page = page_of(world.account)
    sent = fill_in(olga, page, time_zone="Europe/Berlin", note="moved")
    Account.objects.update(closed_until=timezone.now() - timedelta(days=40))
    response = olga.post(page, sent)
    assert "a month was closed in Asia/Shanghai: it stays" in read_errors(response)
    assert Account.objects.values_list("time_zone", "note").get() == ("Asia/Shanghai", "")
    assert olga.post(page, fill_in(olga, page, note="noted")).status_code == 302
    assert Account.objects.values_list("time_zone", "note").get() == ("Asia/Shanghai", "noted")


def test_a_month_that_closes_while_the_form_is_saved_keeps_the_zone(
    olga: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.forms.check_zone", lambda name: Account.objects.update(closed_until=timezone.now()))
    page = page_of(world.account)
    response = olga.post(page, fill_in(olga, page, time_zone="Europe/Berlin"), follow=True)
    assert "The time zone was not changed: a month of this account is closed" in response.content.decode()
    assert Account.objects.get().time_zone == "Asia/Shanghai"


def test_an_unknown_time_zone_is_refused(olga: Client, world: World) -> None:
    page = page_of(world.account)
    response = olga.post(page, fill_in(olga, page, time_zone="Mars/Olympus"))
    assert "there is no time zone &#x27;Mars/Olympus&#x27;" in read_errors(response)


# --- agreed prices ---


def agree(client: Client, world: World, **typed: str) -> Any:
    facts = {"account": str(world.account.pk), "model": str(world.max.pk), "reason": "a year's contract"}
    return client.post(NEW_PRICE, fill_in(client, NEW_PRICE, **(facts | typed)))


@pytest.mark.parametrize(
    ("typed", "terms", "words"),
    [
        ({"kind": "fixed", "amount": "0.18"}, ("fixed", 180_000, None), "¥0.18 per image"),
        ({"kind": "discount", "discount": "12.5"}, ("discount", None, 1_250), "12.5 % off the list price"),
        ({"kind": "discount", "discount": "0.01"}, ("discount", None, 1), "0.01 % off the list price"),
        ({"kind": "discount", "discount": "10"}, ("discount", None, 1_000), "10 % off the list price"),
        ({"kind": "list"}, ("list", None, None), "list price"),
    ],
)
def test_a_price_is_agreed(
    olga: Client, world: World, typed: dict[str, str], terms: tuple[Any, ...], words: str
) -> None:
    assert agree(olga, world, **typed).status_code == 302
    price = AccountPrice.objects.get()
    assert (price.kind, price.amount_micros, price.discount_basis_points) == terms
    assert (price.account, price.model, price.reason, price.actor) == (
        world.account,
        world.max,
        "a year's contract",
        "olga",
    )
    assert timezone.now() - timedelta(minutes=1) < price.effective_from <= timezone.now()
    for page in (PRICES, page_of(world.account), reverse("admin:billing_accountprice_change", args=[price.pk])):
        said = olga.get(page).content.decode()
        assert words in said
        assert "in force" in said


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"kind": "fixed"}, "a fixed price has an amount, a discount its per cent, the list price neither"),
        ({"kind": "fixed", "amount": "0"}, "greater than or equal to 0.000001"),
        ({"kind": "fixed", "amount": "0.18", "discount": "5"}, "a fixed price has an amount"),
        ({"kind": "discount", "discount": "0"}, "a discount is between 0.01 % and 99.99 %"),
        ({"kind": "discount", "discount": "100"}, "less than or equal to 99.99"),
        ({"kind": "discount", "discount": "12.345"}, "no more than 2 decimal places"),
        ({"kind": "discount", "discount": "-5"}, "greater than or equal to 0"),
        ({"kind": "list", "amount": "0.18"}, "the list price neither"),
        ({"kind": "fixed", "amount": "0.18", "reason": ""}, "This field is required"),
        ({"kind": "list", "effective_from_0": "2020-01-01", "effective_from_1": "00:00"}, "in the past"),
    ],
)
def test_what_cannot_be_agreed_is_said(olga: Client, world: World, typed: dict[str, str], words: str) -> None:
    assert words in read_errors(agree(olga, world, **typed))
    assert AccountPrice.objects.count() == 0


def test_an_agreement_may_wait_for_its_day_and_end_with_another(olga: Client, world: World) -> None:
    agree(olga, world, kind="fixed", amount="0.18")
    agree(olga, world, kind="fixed", amount="0.17")
    agree(olga, world, kind="list", effective_from_0="2999-01-01", effective_from_1="00:00")
    said = olga.get(PRICES).content.decode()
    assert [said.count(state) for state in ("replaced", "in force", "to come")] == [1, 1, 1]


def test_an_agreement_is_neither_edited_nor_deleted(olga: Client, world: World) -> None:
    agree(olga, world, kind="fixed", amount="0.18")
    price = AccountPrice.objects.get()
    for page in ("change", "delete"):
        assert (
            olga.post(reverse(f"admin:billing_accountprice_{page}", args=[price.pk]), {"reason": "x"}).status_code
            == 403
        )
    assert AccountPrice.objects.get().reason == "a year's contract"


def test_a_viewer_agrees_nothing(victor: Client, world: World) -> None:
    sent = {"account": world.account.pk, "model": world.max.pk, "kind": "fixed", "amount": "0.18", "reason": "x"}
    assert victor.post(NEW_PRICE, sent).status_code == 403
    assert victor.get(reverse("admin:billing_account_agree_price", args=[world.account.pk])).status_code == 403
    assert victor.get(PRICES).status_code == 200
    assert AccountPrice.objects.count() == 0


def test_the_page_of_an_account_leads_to_a_new_agreement(olga: Client, world: World) -> None:
    response = olga.get(reverse("admin:billing_account_agree_price", args=[world.account.pk]))
    assert response.headers["Location"] == f"{NEW_PRICE}?account={world.account.pk}"


# --- models without a price ---


def test_an_active_model_without_a_price_in_force_is_pointed_at(olga: Client, world: World) -> None:
    models = reverse("admin:models_registry_imagemodel_changelist")
    assert "without a price in force" not in olga.get(models).content.decode()
    draft = ImageModel.objects.create(name="draft", title="Draft", execution_shape="sync", default_size="512x512")
    Price.objects.create(model=draft, amount_micros=5, effective_from=timezone.now() + timedelta(days=1))
    said = "Active, but without a price in force, so every request is refused: draft."
    assert said in olga.get(models).content.decode()
    ImageModel.objects.filter(pk=draft.pk).update(status="hidden")
    assert said not in olga.get(models).content.decode()


def test_the_navigation_leads_to_agreed_prices(olga: Client, world: World) -> None:
    assert User.objects.get(username="olga").is_superuser
    assert f'href="{PRICES}"' in olga.get(reverse("admin:index")).content.decode()
