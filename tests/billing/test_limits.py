"""Limits that need no counter: models, networks, and what a key's identity says of both."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.keys import create_key, find_identities, hash_key
from billing.limits import (
    InvalidLimit,
    allows_model,
    allows_network,
    group_networks,
    intersect_models,
    parse_models,
    parse_networks,
)
from billing.models import Account, ApiKey
from billing.prices import AgreedPrice, append_account_price
from models_registry.models import ImageModel
from models_registry.seed import seed_models
from tests.shop import Customer, open_customer


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        ([], "203.0.113.7", True),
        ([], "not an address", True),
        (["203.0.113.0/24"], "203.0.113.7", True),
        (["203.0.113.0/24"], "203.0.114.7", False),
        (["203.0.113.0/24"], "::ffff:203.0.113.7", True),
        (["203.0.113.0/24"], "::ffff:cb00:7107", True),
        (["203.0.113.0/24"], "::203.0.113.7", False),
        (["203.0.113.0/24"], "not an address", False),
        (["203.0.113.0/24"], "", False),
        (["203.0.113.0/24"], "203.0.113.007", False),
        (["203.0.113.0/24"], "203.0.113.7:4711", False),
        (["203.0.113.7"], "203.0.113.7", True),
        (["2001:db8::/32"], "2001:db8:1::9", True),
        (["2001:db8::/32"], "2001:db9::9", False),
        (["2001:db8::/32"], "203.0.113.7", False),
        (["::/0"], "203.0.113.7", False),
        (["0.0.0.0/0", "::/0"], "203.0.113.7", True),
        (["::ffff:203.0.113.0/120"], "203.0.113.7", True),
        (["203.0.113.0/24", "broken"], "203.0.113.7", True),
        (["broken"], "203.0.113.7", False),
        ([17], "0.0.0.17", False),
    ],
)
def test_networks(networks: list[Any], address: str, *, allowed: bool) -> None:
    assert allows_network(group_networks(networks), address) is allowed


def test_key_and_account_must_both_allow_the_network() -> None:
    groups = group_networks(["203.0.113.0/24"], ["203.0.0.0/16", "2001:db8::/32"])
    assert [allows_network(groups, one) for one in ("203.0.113.7", "203.0.1.7", "2001:db8::1")] == [True, False, False]
    assert allows_network(group_networks([], ["203.0.0.0/16"]), "203.0.1.7")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("", []),
        (" , ;\n", []),
        ("203.0.113.0/24", ["203.0.113.0/24"]),
        ("203.0.113.7,2001:DB8::/32;10.0.0.0/8", ["203.0.113.7/32", "2001:db8::/32", "10.0.0.0/8"]),
        ("10.0.0.0/255.0.0.0\n10.0.0.0/8 10.0.0.0/8", ["10.0.0.0/8"]),
        ("::ffff:203.0.113.0/120", ["203.0.113.0/24"]),
    ],
)
def test_networks_as_people_write_them(text: str, stored: list[str]) -> None:
    assert parse_networks(text) == stored


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("203.0.113.7/24", "'203.0.113.7/24' is an address with a prefix, not a network: is it 203.0.113.0/24, or"),
        ("203.0.113.0/33", "'203.0.113.0/33' is not a network: write one like 203.0.113.0/24"),
        ("203.0.113", "'203.0.113' is not a network"),
        ("10.0.0.0/8 example.com", "'example.com' is not a network"),
        ("１.0.0.0/8", "'１.0.0.0/8' is not a network"),
        (", ".join(f"10.0.0.{n}" for n in range(101)), "101 networks are too many: at most 100"),
    ],
)
def test_what_is_no_network_is_named(text: str, words: str) -> None:
    with pytest.raises(InvalidLimit) as refused:
        parse_networks(text)
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("lists", "name", "allowed"),
    [
        (([], []), "a", True),
        ((["a", "b"], []), "b", True),
        (([], ["a"]), "b", False),
        ((["a", "b"], ["b", "c"]), "b", True),
        ((["a", "b"], ["b", "c"]), "a", False),
        ((["a"], ["b"]), "a", False),
        ((["a"], ["b"]), "b", False),
    ],
)
def test_a_model_must_be_allowed_by_both(lists: tuple[list[str], list[str]], name: str, *, allowed: bool) -> None:
    assert allows_model(intersect_models(*lists), name) is allowed


def test_models_as_people_write_them() -> None:
    assert parse_models(" b, a\nb ", {"a", "b", "c"}) == ["b", "a"]
    assert parse_models("", {"a"}) == []
    with pytest.raises(InvalidLimit, match="there is no model 'x': there are a, b"):
        parse_models("a x", {"b", "a"})


# --- identities ---


def identify(customer: Customer) -> Any:
    return find_identities([hash_key(customer.secret)]).get(hash_key(customer.secret))


def test_an_identity_knows_what_key_and_account_allow(db: None) -> None:
    customer = open_customer()
    assert (identify(customer).allowed_models, identify(customer).networks) == (None, ())
    ApiKey.objects.update(allowed_models=["a", "b"], allowed_networks=["10.0.0.0/8"])
    Account.objects.update(allowed_models=["b", "c"], allowed_networks=["10.1.0.0/16"])
    identity = identify(customer)
    assert identity.allowed_models == {"b"}
    assert [allows_network(identity.networks, one) for one in ("10.1.2.3", "10.2.2.3")] == [True, False]


@pytest.mark.parametrize(
    "columns",
    [
        {"enabled": False},
        {"revoked_at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_key_that_cannot_be_used_is_nothing(db: None, columns: dict[str, Any]) -> None:
    customer = open_customer()
    ApiKey.objects.update(**columns)
    assert identify(customer) is None


def test_identities_are_found_in_two_queries(db: None) -> None:
    seed_models()
    model = ImageModel.objects.get(name="qwen-image-max")
    hashes = []
    for number in range(4):
        account = open_customer(f"c{number}", micros=0).account
        hashes += [hash_key(create_key(account)[1]) for _ in range(3)]
        append_account_price(account, model, kind="fixed", amount_micros=100 + number, reason="deal", actor="anna")
    with CaptureQueriesContext(connection) as queries:
        found = find_identities(hashes)
    assert (len(found), len(queries)) == (12, 2)
    assert {one.prices[model.pk].amount_micros for one in found.values()} == {100, 101, 102, 103}
    assert all(isinstance(one.prices[model.pk], AgreedPrice) for one in found.values())
    with CaptureQueriesContext(connection) as queries:
        assert find_identities(["unknown"]) == {}
    assert len(queries) == 1
