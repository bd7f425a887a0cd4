"""Every page of the admin opens, on rows as the product leaves them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.keys import create_key
from billing.models import Account
from models_registry.models import ImageModel, ImageSize, Price
from tests.admin.world import PROMPT, SECRET, World, add_channel, add_generation, add_offer, add_routing

PAGES = [
    "models_registry_imagemodel",
    "models_registry_modelfamily",
    "models_registry_price",
    "models_registry_verification",
    "providers_channel",
    "providers_offer",
    "providers_upstreamaccount",
    "providers_swap",
    "providers_alert",
    "billing_account",
    "billing_apikey",
    "billing_accountprice",
    "billing_hold",
    "billing_ledgerentry",
    "billing_export",
    "billing_closedmonth",
    "billing_booking",
    "generation_generation",
    "generation_bookscheck",
    "generation_waitingcall",
    "files_storedimage",
    "auth_user",
    "auth_group",
    "admin_logentry",
]
ADDABLE = {
    "billing_export",
    "models_registry_modelfamily",
    "models_registry_imagemodel",
    "models_registry_price",
    "providers_channel",
    "providers_offer",
    "providers_upstreamaccount",
    "billing_account",
    "billing_apikey",
    "billing_accountprice",
    "auth_user",
    "auth_group",
    "generation_bookscheck",
}
RECORDED = [
    "models_registry_modelfamily",
    "models_registry_imagemodel",
    "providers_channel",
    "providers_offer",
    "providers_upstreamaccount",
]


@pytest.fixture(autouse=True)
def routing(world: World) -> None:
    add_routing(world)


def find_model(page: str) -> Any:
    return next(model for model in site._registry if f"{model._meta.app_label}_{model._meta.model_name}" == page)


def list_columns(page: str) -> str:
    return reverse(f"admin:{page}_changelist")


def test_the_list_of_pages_is_whole() -> None:
    registered = {f"{model._meta.app_label}_{model._meta.model_name}" for model in site._registry}
    assert registered == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_lists_open(olga: Client, page: str) -> None:
    assert olga.get(list_columns(page)).status_code == 200
    assert olga.get(list_columns(page), {"q": "qwen"}).status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_objects_open(olga: Client, page: str) -> None:
    row = find_model(page)._default_manager.first()
    if row is not None:
        assert olga.get(reverse(f"admin:{page}_change", args=[quote(row.pk)])).status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_forms_to_add_open_where_people_may_add(olga: Client, page: str) -> None:
    assert olga.get(reverse(f"admin:{page}_add")).status_code == (200 if page in ADDABLE else 403)


@pytest.mark.parametrize("page", RECORDED)
def test_histories_open(olga: Client, page: str) -> None:
    row = find_model(page)._default_manager.first()
    assert olga.get(reverse(f"admin:{page}_history", args=[row.pk])).status_code == 200
    version = row.history.first()
    if version is not None:
        form = reverse(f"admin:{page}_simple_history", args=[row.pk, version.pk])
        assert olga.get(form).status_code == 200


def test_the_first_page_and_the_login_open(olga: Client) -> None:
    page = olga.get(reverse("admin:index")).content.decode()
    for group in ("Catalog", "Channels", "Billing", "Traffic"):
        assert group in page
    assert "Crazyrouter" in Client().get(reverse("admin:login")).content.decode()


def test_who_logs_in_lands_on_the_first_page(world: World) -> None:
    typed = {"username": "olga", "password": "correct horse battery"}
    assert Client().post(reverse("admin:login"), typed).headers["Location"] == reverse("admin:index")


def test_navigation_shows_only_what_may_be_seen(victor: Client) -> None:
    User.objects.get(username="victor").user_permissions.set(Permission.objects.filter(codename="view_account"))
    page = victor.get(reverse("admin:index")).content.decode()
    assert reverse("admin:billing_account_changelist") in page
    assert reverse("admin:billing_ledgerentry_changelist") not in page


def test_the_command_search_finds_a_generation_by_its_id(olga: Client, world: World) -> None:
    found = olga.get(reverse("admin:search"), {"s": world.generation.pk, "extended": "1"}).content.decode()
    page = reverse("admin:generation_generation_change", args=[world.generation.pk])
    assert f'href="{page}"' in found
    assert olga.get(page).status_code == 200


def test_no_list_shows_secrets_or_prompts(olga: Client, world: World) -> None:
    hidden = [
        SECRET,
        world.first.credentials.get().ciphertext,
        world.key.key_hash,
        PROMPT,
    ]
    for page in PAGES:
        shown = olga.get(list_columns(page)).content.decode()
        assert [text for text in hidden if text in shown] == [], page


def grow(world: World) -> None:
    """More of everything that the lists show."""
    for number in range(3):
        model = ImageModel.objects.create(
            name=f"model-{number}", title="More", execution_shape="sync", default_size="1024x1024"
        )
        ImageSize.objects.create(model=model, width=1024, height=1024)
        Price.objects.create(model=model, amount_micros=1)
        channel = add_channel(f"channel-{number}")
        add_offer(channel, model)
        add_routing(world, f"upstream {number}")
        account = Account.objects.create(name=f"Account {number}", balance_micros=0)
        key, _ = create_key(world.account)
        create_key(account)
        add_generation(world.account, key, world.offer, expired=True)


def count_queries(client: Client, page: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(list_columns(page)).status_code == 200
    return len(queries)


@pytest.mark.parametrize("page", PAGES)
def test_a_list_asks_as_often_for_many_rows_as_for_few(olga: Client, world: World, page: str) -> None:
    olga.get(list_columns(page))  # content types and permissions are cached by now
    before = count_queries(olga, page)
    grow(world)
    assert count_queries(olga, page) == before


def test_a_generation_asks_as_often_for_many_attempts_as_for_few(olga: Client, world: World) -> None:
    page = reverse("admin:generation_generation_change", args=[quote(world.generation.pk)])
    olga.get(page)
    with CaptureQueriesContext(connection) as before:
        olga.get(page)
    for number in range(3, 8):
        attempt = world.generation.attempts.get(number=1)
        attempt.pk, attempt.number = None, number
        attempt.save()
    with CaptureQueriesContext(connection) as after:
        olga.get(page)
    assert len(after) == len(before)
