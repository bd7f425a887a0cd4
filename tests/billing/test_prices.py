"""Prices agreed with an account, and the one place where an amount is rounded."""

from __future__ import annotations

from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.models import Account, AccountPrice
from billing.money import discount
from billing.prices import (
    UNIT_PRICE_SQL,
    AgreedPrice,
    PriceRefused,
    append_account_price,
    find_account_prices,
    quote_unit,
)
from models_registry.models import ImageModel
from models_registry.seed import seed_models

AMOUNTS = st.integers(min_value=1, max_value=10**15 - 1)
POINTS = st.integers(min_value=1, max_value=9_999)


def agree(kind: str = "list", *, amount: int | None = None, points: int | None = None) -> AgreedPrice:
    return AgreedPrice(1, kind, amount, points)


# --- what an image costs ---


@pytest.mark.parametrize(
    ("amount", "points", "costs"),
    [
        (200_000, 1_250, 175_000),
        (200_000, 1, 199_980),
        (1, 1, 1),
        (1, 9_999, 1),
        (4, 1_250, 4),
        (4, 1_251, 3),
        (5_000, 1, 5_000),
        (5_001, 1, 5_000),
        (15_000, 1, 14_999),
        (10**15 - 1, 9_999, 100_000_000_000),
    ],
)
def test_a_discount_is_rounded_half_up_and_never_to_nothing(amount: int, points: int, costs: int) -> None:
    assert discount(amount, basis_points=points) == costs


@given(AMOUNTS, POINTS)
def test_a_discount_is_the_nearest_micro_unit(amount: int, points: int) -> None:
    exact = Decimal(amount) * (10_000 - points) / 10_000
    assert discount(amount, basis_points=points) == max(1, int(exact.quantize(Decimal(1), ROUND_HALF_UP)))


@given(AMOUNTS, POINTS)
def test_a_discount_stays_between_one_and_the_list_price(amount: int, points: int) -> None:
    assert 1 <= discount(amount, basis_points=points) <= amount


@given(AMOUNTS, AMOUNTS, POINTS)
def test_more_costs_no_less(amount: int, other: int, points: int) -> None:
    low, high = sorted((amount, other))
    assert discount(low, basis_points=points) <= discount(high, basis_points=points)


@given(AMOUNTS, POINTS, POINTS)
def test_a_larger_discount_costs_no_more(amount: int, points: int, other: int) -> None:
    low, high = sorted((points, other))
    assert discount(amount, basis_points=high) <= discount(amount, basis_points=low)


@given(AMOUNTS, AMOUNTS)
def test_list_and_fixed_prices_are_exact(list_micros: int, fixed: int) -> None:
    assert quote_unit(list_micros, None) == list_micros
    assert quote_unit(list_micros, agree()) == list_micros
    assert quote_unit(list_micros, agree("fixed", amount=fixed)) == fixed


ANY_TERMS = st.one_of(
    st.none(),
    st.just(agree()),
    AMOUNTS.map(lambda amount: agree("fixed", amount=amount)),
    POINTS.map(lambda points: agree("discount", points=points)),
)


@given(list_micros=AMOUNTS, agreed=ANY_TERMS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_database_counts_the_same(db: None, list_micros: int, agreed: AgreedPrice | None) -> None:
    terms = (agreed.kind, agreed.amount_micros, agreed.discount_basis_points) if agreed else (None, None, None)
    query = f"""
        SELECT {UNIT_PRICE_SQL} FROM (SELECT CAST(%s AS bigint) AS amount_micros) p,
            (SELECT CAST(%s AS text) AS kind, CAST(%s AS bigint) AS amount_micros,
                    CAST(%s AS integer) AS discount_basis_points) a
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(query, [list_micros, *terms])
        assert cursor.fetchone() == (quote_unit(list_micros, agreed),)


# --- what is agreed ---


@pytest.fixture
def account(db: None) -> Account:
    seed_models()
    return Account.objects.create(name="alice")


def find(name: str = "qwen-image-max") -> ImageModel:
    return ImageModel.objects.get(name=name)


def append(account: Account, **terms: Any) -> AccountPrice:
    given: dict[str, Any] = {
        "kind": "discount",
        "discount_basis_points": 1_250,
        "reason": "a year's contract",
        "actor": "anna",
    }
    return append_account_price(account, find(), **(given | terms))


def test_the_latest_version_that_has_begun_is_in_force(account: Account) -> None:
    now = timezone.now()
    first = append(account)
    second = append(account, kind="fixed", amount_micros=7, discount_basis_points=None)
    third = append(account, kind="list", discount_basis_points=None, effective_from=now + timedelta(days=2))
    fourth = append(account, discount_basis_points=1, effective_from=now + timedelta(days=3))
    in_force = [
        find_account_prices([account.pk], moment)
        for moment in (
            first.effective_from - timedelta(microseconds=1),
            first.effective_from,
            second.effective_from,
            third.effective_from,
            fourth.effective_from,
        )
    ]
    model = find().pk
    assert in_force == [
        {},
        {account.pk: {model: AgreedPrice(first.pk, "discount", None, 1_250)}},
        {account.pk: {model: AgreedPrice(second.pk, "fixed", 7, None)}},
        {},
        {account.pk: {model: AgreedPrice(fourth.pk, "discount", None, 1)}},
    ]


def test_of_two_versions_from_the_same_moment_the_later_one_holds(account: Account) -> None:
    moment = timezone.now() + timedelta(days=1)
    append(account, effective_from=moment)
    last = append(account, discount_basis_points=2_000, effective_from=moment)
    assert find_account_prices([account.pk], moment)[account.pk][find().pk].version == last.pk


def test_accounts_and_models_are_told_apart(account: Account) -> None:
    bob = Account.objects.create(name="bob")
    append(account)
    append_account_price(bob, find("qwen-image-plus"), kind="fixed", amount_micros=9, reason="friend", actor="anna")
    found = find_account_prices([account.pk, bob.pk], timezone.now())
    assert {owner: set(prices) for owner, prices in found.items()} == {
        account.pk: {find().pk},
        bob.pk: {find("qwen-image-plus").pk},
    }
    assert find_account_prices([], timezone.now()) == {}


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"reason": "  "}, "a reason is required"),
        ({"reason": "x" * 201}, "at most 200 characters"),
        ({"kind": "gift"}, "'gift' is no kind of agreement: fixed, discount, list are"),
        ({"kind": "fixed"}, "a fixed price has an amount, a discount its per cent, the list price neither"),
        ({"kind": "list"}, "the list price neither"),
        ({"amount_micros": 5}, "the list price neither"),
        ({"discount_basis_points": None}, "the list price neither"),
        ({"discount_basis_points": 0}, "between 0.01 % and 99.99 %"),
        ({"discount_basis_points": 10_000}, "between 0.01 % and 99.99 %"),
        ({"kind": "fixed", "discount_basis_points": None, "amount_micros": 0}, "a price is above zero"),
    ],
)
def test_what_cannot_be_agreed(account: Account, terms: dict[str, Any], words: str) -> None:
    with pytest.raises(PriceRefused, match=words):
        append(account, **terms)
    assert AccountPrice.objects.count() == 0


def test_no_agreement_begins_in_the_past(account: Account) -> None:
    with pytest.raises(PriceRefused, match="in the past"):
        append(account, effective_from=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize(
    "statement", ["UPDATE billing_accountprice SET reason = ''", "DELETE FROM billing_accountprice"]
)
def test_agreements_are_append_only_below_the_orm(account: Account, statement: str) -> None:
    append(account)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_the_database_refuses_terms_that_do_not_fit(account: Account) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        AccountPrice.objects.create(account=account, model=find(), kind="fixed", discount_basis_points=5, reason="x")
