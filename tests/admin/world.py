"""Rows as the product leaves them: what the admin has to show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from billing.keys import create_key
from billing.ledger import Charge, Reservation, Settlement, reserve, settle, top_up
from billing.models import Account, ApiKey
from crazyrouter.files.models import StoredImage
from crazyrouter.files.names import new_name
from crazyrouter.generation.ids import new_id
from crazyrouter.generation.models import Attempt, Generation, WaitingCall
from models_registry.models import ImageModel
from models_registry.seed import seed_models
from providers.models import (
    Alert,
    Capacity,
    Channel,
    Offer,
    OfferHealth,
    Swap,
    UpstreamAccount,
    add_credential,
)
from providers.routing import NOTHING, load_routes

SECRET = "sk-carrier-secret-9f3a"
PROMPT = "a lighthouse in the fog"


@dataclass
class World:
    """Two channels that can serve one model, an account with money and a key, one generation that went through."""

    operator: User
    max: ImageModel
    first: Channel
    second: Channel
    offer: Offer
    spare: Offer
    account: Account
    key: ApiKey
    generation: Generation


def build_world() -> World:
    seed_models()
    model = ImageModel.objects.get(name="qwen-image-max")
    first, second = add_channel("official"), add_channel("reseller")
    offer, spare = add_offer(first, model, priority=3, weight=7), add_offer(second, model, priority=9, enabled=False)
    account = Account.objects.create(name="Acme")
    top_up(account, amount_micros=100_000_000, reference="first", memo="wire", actor="finance")
    key, _ = create_key(account, name="production")
    generation = add_generation(account, key, offer)
    account.refresh_from_db()
    operator = User.objects.create_superuser("olga", password="correct horse battery")
    return World(operator, model, first, second, offer, spare, account, key, generation)


def read_routes(model: str = "qwen-image-max") -> list[tuple[str, int, int]]:
    """(channel, priority, weight) of what serves customers now."""
    routes = load_routes().get(model, NOTHING).routes
    return [(route.channel_name, route.priority, route.weight) for route in routes]


def add_routing(world: World, name: str = "dashscope-cn") -> None:
    """What routing leaves: an upstream account in use, health, an alert, a swap, a call that waits, a drain."""
    account = UpstreamAccount.objects.create(name=name, polls_per_s=20)
    capacity = Capacity.objects.create(
        account=account, submit_interval_ms=30_000, submit_burst=2, max_running=2, starts=[1_795_000_000_000], running=1
    )
    channel = add_channel(f"on {name}", account=account, draining_since=timezone.now())
    offer = add_offer(channel, world.max, enabled=False, canary_percent=5)
    recent = [[1_795_000_000.0, 1, 8_000, ""], [1_795_000_009.0, 0, 100, "timeout"]]
    OfferHealth.objects.create(offer=offer, circuit="open", reason="timeouts", recent=recent)
    Alert.objects.create(kind="credential", subject=name, channel=channel, text="Disabled: 401")
    empty: dict[str, Any] = {"canary_percent": None, "shadow_percent": None}
    rows = [{"offer": offer.pk, "enabled": True, "priority": 1, "weight": 1} | empty]
    Swap.objects.create(
        model=world.max, from_channel=world.first, to_channel=channel, before=rows, after=rows, actor="olga"
    )
    number = WaitingCall.objects.count() + 5
    WaitingCall.objects.create(
        generation=world.generation, number=number, account=world.account, model=world.max, wants=str(capacity.pk)
    )


def add_channel(name: str, **values: Any) -> Channel:
    channel = Channel.objects.create(
        name=name, kind="dashscope_sync", base_url="http://127.0.0.1:8001/api/v1", **values
    )
    add_credential(channel, SECRET)
    return channel


def add_offer(channel: Channel, model: ImageModel, **values: Any) -> Offer:
    facts = {"upstream_model": model.name, "shape": "sync", "cost_micros": 300_000, **values}
    return Offer.objects.create(channel=channel, model=model, **facts)


def add_generation(account: Account, key: ApiKey, offer: Offer, *, expired: bool = False) -> Generation:
    """Two images: the first try was refused, the second delivered both, and both are charged."""
    begun = timezone.now() - timedelta(minutes=5)
    price = offer.model.prices.get()
    generation = Generation.objects.create(
        id=new_id("gen"),
        account=account,
        api_key=key,
        model=offer.model,
        price=price,
        unit_price_micros=price.amount_micros,
        prompt=PROMPT,
        options={"negative_prompt": "people <b>"},
        width=1328,
        height=1328,
        render_width=1328,
        render_height=1328,
        n=2,
        response_format="url",
        state="succeeded",
        delivered=2,
        revised_prompts={"0": "a lighthouse, oil on canvas"},
        lease_owner="web-1",
        lease_expires_at=begun,
        deadline_at=begun + timedelta(minutes=5),
        created_at=begun,
        finished_at=begun + timedelta(seconds=12),
        answered_at=begun + timedelta(seconds=12),
    )
    add_attempts(generation, offer)
    pay(generation, key)
    for slot in range(2):
        add_image(generation, slot=slot, expired=expired)
    return generation


def add_attempts(generation: Generation, offer: Offer) -> None:
    credential = offer.channel.credentials.first()
    common: dict[str, Any] = {
        "generation": generation,
        "offer": offer,
        "channel": offer.channel,
        "credential": credential,
        "base_url": offer.channel.base_url,
        "upstream_model": offer.upstream_model,
        "shape": "sync",
        "slots": [0, 1],
        "routing": {"candidates": [{"offer": offer.pk, "channel": offer.channel.name}, {"offer": 0, "channel": "b"}]},
    }
    Attempt.objects.create(
        **common,
        number=1,
        state="rejected",
        code="rate_limited",
        billed="no",
        detail="<script>alert(1)</script> slow down",
        created_at=generation.created_at + timedelta(seconds=0.25),
        ended_at=generation.created_at + timedelta(seconds=1.5),
    )
    Attempt.objects.create(
        **common,
        number=2,
        state="succeeded",
        images=2,
        upstream_id="req-77",
        created_at=generation.created_at + timedelta(seconds=1.75),
        ended_at=generation.created_at + timedelta(seconds=11.5),
    )


def pay(generation: Generation, key: ApiKey) -> None:
    charges = tuple(
        Charge(
            line=slot,
            unit_price_micros=generation.unit_price_micros,
            price_version=generation.price_id,
            model=generation.model.name,
            size=generation.size,
            key_prefix=key.prefix,
        )
        for slot in range(2)
    )
    with transaction.atomic():
        held = Reservation(generation.pk, generation.account_id, key.pk, 2 * generation.unit_price_micros)
        reserve(connection, [held])
        settle(connection, [Settlement(generation.pk, charges)])


def add_image(generation: Generation, *, slot: int, expired: bool = False) -> StoredImage:
    ended = timezone.now() - timedelta(seconds=1) if expired else timezone.now() + timedelta(hours=72)
    return StoredImage.objects.create(
        name=new_name(),
        generation_id=generation.pk,
        slot=slot,
        width=1328,
        height=1328,
        bytes=1_234_567,
        sha256="0" * 64,
        created_at=generation.created_at,
        expires_at=ended,
        deleted_at=timezone.now() if expired else None,
    )
