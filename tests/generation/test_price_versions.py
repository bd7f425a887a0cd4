"""A charge is what its price versions say: the list price's, and the one agreed with the account where there is one."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from billing.ledger import Charge, Reservation, Settlement, reserve, settle
from billing.models import Account
from billing.prices import append_account_price, find_account_prices, quote_unit
from crazyrouter.generation.ids import new_id
from crazyrouter.generation.models import Generation
from crazyrouter.generation.reconcile import check_books
from models_registry.models import Price
from tests.admin.world import World, build_world


@pytest.fixture
def world(database: None) -> World:
    return build_world()


def agree(world: World, *, model: Any = None, account: Account | None = None, **terms: Any) -> int:
    facts = {"kind": "discount", "discount_basis_points": 1_250, **terms}
    return append_account_price(account or world.account, model or world.max, reason="deal", actor="x", **facts).pk


def sell(world: World, *, version: int | None, unit: int, charged_version: int | None = None) -> str:
    """One image at this unit price; the entry names the agreement of the generation, or another one."""
    facts: dict[str, Any] = dict(Generation.objects.filter(pk=world.generation.pk).values().get())
    facts |= {"id": new_id("gen"), "account_price_id": version, "unit_price_micros": unit, "n": 1, "delivered": 1}
    reference = Generation.objects.create(**facts).pk
    charge = Charge(0, unit, facts["price_id"], "qwen-image-max", "1x1", world.key.prefix, charged_version or version)
    with transaction.atomic():
        reserve(connection, [Reservation(reference, world.account.pk, world.key.pk, unit)])
        settle(connection, [Settlement(reference, (charge,))])
    return reference


def find_wrong_prices() -> list[tuple[str, str]]:
    return [(one.subject, one.detail) for one in check_books() if one.rule == "charge-is-its-price-version"]


def test_charges_at_list_and_agreed_prices_are_proved(world: World) -> None:
    price = world.max.prices.get()
    for terms in (
        {"discount_basis_points": 3_333},
        {"kind": "fixed", "discount_basis_points": None, "amount_micros": 123_457},
    ):
        version = agree(world, **terms)
        agreed = find_account_prices([world.account.pk], price.created_at.max.replace(tzinfo=price.created_at.tzinfo))
        unit = quote_unit(price.amount_micros, agreed[world.account.pk][world.max.pk])
        sell(world, version=version, unit=unit)
    sell(world, version=None, unit=price.amount_micros)
    assert find_wrong_prices() == []


@pytest.mark.parametrize(
    ("unit", "due"),
    [(500_000, 437_500), (437_499, 437_500), (437_501, 437_500)],
)
def test_another_amount_than_was_agreed_is_named(world: World, unit: int, due: int) -> None:
    reference = sell(world, version=agree(world), unit=unit)
    said = f"slot 0 is charged {unit} micro-units at a unit price of {unit}, its price versions say {due}"
    assert find_wrong_prices() == [(reference, f"{said}; they are its own")]


def test_an_agreement_of_another_model_account_or_generation_is_named(world: World) -> None:
    other = world.max.__class__.objects.get(name="qwen-image-plus")
    bob = Account.objects.create(name="bob")
    wrong = [
        sell(world, version=agree(world, model=other), unit=437_500),
        sell(world, version=agree(world, account=bob), unit=437_500),
        sell(world, version=agree(world), charged_version=agree(world), unit=437_500),
        sell(world, version=None, charged_version=agree(world), unit=437_500),
    ]
    said = "slot 0 is charged 437500 micro-units at a unit price of 437500, its price versions say 437500"
    assert sorted(find_wrong_prices()) == sorted(
        (reference, f"{said}; they are not those of its generation") for reference in wrong
    )


def test_the_price_of_another_version_is_named(world: World) -> None:
    again = Price.objects.create(model=world.max, amount_micros=world.max.prices.get().amount_micros)
    Generation.objects.update(price=again)
    assert [detail.rpartition("; ")[2] for _, detail in find_wrong_prices()] == [
        "they are not those of its generation"
    ] * 2
