"""Routing by priority, then weight; credentials that open only with their key."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from cryptography.fernet import Fernet

from providers.credentials import CredentialUnreadable, decrypt, encrypt
from providers.models import Channel, Credential, Offer, add_credential
from providers.routing import Route, load_routes, order_candidates
from tests.shop import open_channel

BASE = "http://127.0.0.1:9/api/v1"
MODEL = {"qwen-image-2.0": 6}


def make_route(offer_id: int, *, priority: int = 0, weight: int = 1) -> Route:
    return Route(
        offer_id=offer_id,
        channel_id=offer_id,
        channel_name=f"c{offer_id}",
        kind="dashscope_sync",
        base_url=BASE,
        options="{}",
        credential_id=1,
        ciphertext="",
        upstream_model="m",
        shape="sync",
        max_n=1,
        priority=priority,
        weight=weight,
        retry_billed=0,
        cost_micros=None,
        cost_currency="CNY",
    )


def test_priority_comes_before_weight() -> None:
    routes = [make_route(1), make_route(2, priority=5, weight=1000), make_route(3, priority=9)]
    assert [route.offer_id for route in order_candidates(routes)] == [1, 2, 3]


def test_weight_is_the_share_of_first_places() -> None:
    routes = [make_route(1, weight=1), make_route(2, weight=3)]
    draw = random.Random(7)
    firsts = Counter(order_candidates(routes, draw=draw)[0].offer_id for _ in range(4000))
    assert firsts[1] + firsts[2] == 4000
    assert 900 < firsts[1] < 1100


def test_only_what_may_serve_is_in_the_table(db: None) -> None:
    channel = open_channel(BASE, "dashscope_sync", MODEL)
    assert [route.channel_id for route in load_routes()["qwen-image-2.0"]] == [channel.pk]
    offer = Offer.objects.get()
    for change in ({"enabled": False}, {"genuine": False}, {"weight": 0}):
        Offer.objects.update(enabled=True, genuine=True, weight=1)
        Offer.objects.filter(pk=offer.pk).update(**change)
        assert load_routes() == {}, change
    Offer.objects.update(weight=1)
    Channel.objects.update(enabled=False)
    assert load_routes() == {}
    Channel.objects.update(enabled=True)
    Credential.objects.all().delete()
    assert load_routes() == {}


def test_the_newest_credential_is_used(db: None) -> None:
    channel = open_channel(BASE, "dashscope_sync", MODEL)
    newer = add_credential(channel, "sk-newer-one")
    route = load_routes()["qwen-image-2.0"][0]
    assert route.credential_id == newer.pk
    assert decrypt(route.ciphertext) == "sk-newer-one"
    assert "sk-newer-one" not in newer.ciphertext
    assert newer.last4 == "-one"
    assert newer.ciphertext not in repr(route)


def test_keys_rotate_and_a_wrong_one_raises(settings: Any) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [old]
    secret = encrypt("sk-secret")
    settings.CREDENTIAL_KEYS = [new, old]
    assert decrypt(secret) == "sk-secret"
    assert decrypt(encrypt("sk-other")) == "sk-other"
    settings.CREDENTIAL_KEYS = [new]
    with pytest.raises(CredentialUnreadable):
        decrypt(secret)
