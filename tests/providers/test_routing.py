"""Routing by priority, then weight; credentials that open only with their key."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.utils import timezone

from providers.credentials import CredentialUnreadable, decrypt, encrypt
from providers.models import Capacity, Channel, Credential, Offer, OfferHealth, UpstreamAccount, add_credential
from providers.routing import Decision, Listing, Route, Wish, choose, load_routes, order_by_priority
from tests.shop import open_channel

BASE = "http://127.0.0.1:9/api/v1"
NAME = "qwen-image-2.0"
MODEL = {NAME: 6}


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
    assert [route.offer_id for route in order_by_priority(routes)] == [1, 2, 3]


def test_weight_is_the_share_of_first_places() -> None:
    routes = [make_route(1, weight=1), make_route(2, weight=3)]
    draw = random.Random(7)
    firsts = Counter(order_by_priority(routes, draw=draw)[0].offer_id for _ in range(4000))
    assert firsts[1] + firsts[2] == 4000
    assert 900 < firsts[1] < 1100


def test_only_what_may_serve_is_in_the_table(db: None) -> None:
    channel = open_channel(BASE, "dashscope_sync", MODEL)
    assert [route.channel_id for route in load_routes()[NAME].routes] == [channel.pk]
    offer = Offer.objects.get()
    now = timezone.now()
    for change, why in (
        ({"enabled": False}, "the offer is disabled"),
        ({"genuine": False}, "it is not genuinely this model"),
        ({"weight": 0}, "its weight is 0"),
        (
            {"canary_percent": 5, "canary_fallen_at": now, "canary_fallen_reason": "too slow"},
            "the canary fell back: too slow",
        ),
    ):
        Offer.objects.update(enabled=True, genuine=True, weight=1, canary_fallen_at=None, canary_percent=None)
        Offer.objects.filter(pk=offer.pk).update(**change)
        assert list_reasons() == [why]
    # Without a share it is no canary any more, whatever became of it.
    Offer.objects.update(canary_percent=None)
    assert len(load_routes()[NAME].routes) == 1
    OfferHealth.objects.create(offer=offer, circuit="open", reason="3 of 5 calls failed")
    assert list_reasons() == ["its circuit is open: 3 of 5 calls failed"]
    OfferHealth.objects.update(circuit="half_open")
    assert [route.circuit for route in load_routes()[NAME].routes] == ["half_open"]
    Channel.objects.update(enabled=False, disabled_reason="arrears")
    assert list_reasons() == ["the channel is disabled: arrears"]
    Channel.objects.update(enabled=True, draining_since=now)
    assert list_reasons() == ["the channel is draining"]
    Channel.objects.update(draining_since=None)
    Credential.objects.all().delete()
    assert list_reasons() == ["the channel has no credential"]


def test_a_shadow_serves_no_customer(db: None) -> None:
    open_channel(BASE, "dashscope_sync", MODEL)
    Offer.objects.update(shadow_percent=10, shadow_per_day=5)
    assert list_reasons() == ["a shadow serves no customer"]
    [shadow] = load_routes()[NAME].shadows
    assert (shadow.shadow_percent, shadow.shadow_per_day) == (10, 5)


def test_offers_of_one_account_and_model_share_its_capacity(db: None) -> None:
    """The account's row for the very model counts, else its row for all others; without an account nothing is known."""
    account = UpstreamAccount.objects.create(name="acme", polls_per_s=20)
    exact = Capacity.objects.create(account=account, upstream_model=NAME, submit_interval_ms=500)
    others = Capacity.objects.create(account=account, max_running=2)
    for name in ("a", "b", "c"):
        open_channel(BASE, "dashscope_sync", MODEL, name=name)
    Channel.objects.filter(name__in=["a", "b"]).update(account=account)
    Offer.objects.filter(channel__name="b").update(upstream_model="some-other-name")
    routes = {route.channel_name: route for route in load_routes()[NAME].routes}
    assert {name: route.capacity_id for name, route in routes.items()} == {"a": exact.pk, "b": others.pk, "c": None}
    assert (routes["a"].account_id, routes["a"].polls_per_s, routes["c"].account_id) == (account.pk, 20, None)


def list_reasons() -> list[str]:
    """Why nobody serves."""
    listing = load_routes()[NAME]
    assert listing.routes == ()
    return [one.why for one in listing.excluded]


WISH = Wish((512, 512))


def read(decision: Decision) -> tuple[list[int], list[tuple[int, str]]]:
    return [one.offer_id for one in decision.candidates], [(one.offer_id, one.why) for one in decision.excluded]


def test_who_cannot_render_or_pass_on_what_is_asked_is_left_out() -> None:
    small = replace(make_route(1), sizes=frozenset({(512, 512)}))
    plain = replace(make_route(2), unsupported=frozenset({"seed", "watermark"}), priority=1)
    listing = Listing((small, plain))
    assert read(choose(listing, WISH)) == ([1, 2], [])
    assert read(choose(listing, Wish((1024, 1024)))) == ([2], [(1, "it does not render 1024x1024")])
    assert read(choose(listing, Wish((512, 512), frozenset({"seed"})))) == ([1], [(2, "it does not take seed")])
    assert read(choose(listing, WISH, tried=frozenset({1}))) == ([2], [(1, "it was tried before")])


@pytest.mark.parametrize(("luck", "first"), [(0.0, 2), (0.049, 2), (0.05, 3), (0.149, 3), (0.15, 1), (1.0, 1)])
def test_canaries_take_their_share_and_no_more(luck: float, first: int) -> None:
    """5 % to the one, 10 % to the other; whoever meets one falls back to the others, and never to a second canary."""
    routes = (make_route(1), replace(make_route(2), canary_percent=5), replace(make_route(3), canary_percent=10))
    decision = choose(Listing(routes), WISH, luck=luck)
    assert decision.candidates[0].offer_id == first
    assert {one.offer_id for one in decision.candidates} == {first, 1}
    retried = choose(Listing(routes), WISH, luck=luck, tried=frozenset({first}))
    assert [one.offer_id for one in retried.candidates] == ([1] if first != 1 else [])


def test_cooling_offers_stay_candidates_with_the_moment_at_which_they_may_be_asked() -> None:
    now = time.time()
    by_table, by_process = replace(make_route(1), cooling_until=now + 30), make_route(2)
    decision = choose(Listing((by_table, by_process, make_route(3))), WISH, cooling={2: now + 60, 3: now - 1})
    assert len(decision.candidates) == 3
    assert decision.cooling == {1: now + 30, 2: now + 60}


def test_the_newest_credential_is_used(db: None) -> None:
    channel = open_channel(BASE, "dashscope_sync", MODEL)
    newer = add_credential(channel, "sk-newer-one")
    route = load_routes()[NAME].routes[0]
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
