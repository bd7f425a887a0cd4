"""Who buys what from whom in made-up traffic. Accounts, keys, channel and prices are ordinary rows."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from billing.keys import hash_key
from billing.models import Account, ApiKey
from crazyrouter.management.traffic.plan import Plan
from models_registry.models import ImageModel, ImageSize, Price
from models_registry.seed import seed_models
from providers.models import Channel, Credential, Offer, add_credential

NAME = "Made-up traffic"
KEYS_EACH = 2


@dataclass(frozen=True, slots=True)
class Product:
    """A model on sale: its price versions in the order in which they came into force, and who serves it."""

    model_id: int
    name: str
    shape: str
    max_n: int
    size: tuple[int, int]
    prices_from: list[float]
    prices: list[tuple[int, int]]
    offer_id: int

    def find_price(self, moment: float) -> tuple[int, int]:
        """(version, micro-units) in force then; `moment` in seconds since 1970."""
        return self.prices[bisect_right(self.prices_from, moment) - 1]


@dataclass(frozen=True, slots=True)
class Buyer:
    account_id: int
    name: str
    time_zone: str
    keys: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cast:
    buyers: list[Buyer]
    products: list[Product]
    channel_id: int
    credential_id: int
    base_url: str


def hire_cast(plan: Plan) -> Cast:
    seed_models()
    channel, credential = find_channel()
    return Cast(
        buyers=open_accounts(plan),
        products=[find_product(model, channel, plan.since) for model in ImageModel.objects.order_by("id")],
        channel_id=channel.pk,
        credential_id=credential.pk,
        base_url=channel.base_url,
    )


def find_channel() -> tuple[Channel, Credential]:
    """One that serves nobody: disabled, and at an address that does not exist."""
    facts = {"kind": "dashscope_sync", "base_url": "https://traffic.invalid/api/v1", "enabled": False}
    channel, is_new = Channel.objects.get_or_create(name=NAME, defaults=facts)
    credential = add_credential(channel, "sk-none") if is_new else channel.credentials.first()
    if credential is None:
        raise ValueError(f"the channel {NAME!r} has lost its credential")
    return channel, credential


def find_product(model: ImageModel, channel: Channel, since: datetime) -> Product:
    offer, _ = Offer.objects.get_or_create(
        channel=channel,
        model=model,
        upstream_model=model.name,
        defaults={"shape": "sync", "max_n": model.max_n, "cost_micros": 100_000, "enabled": False},
    )
    size = ImageSize.objects.filter(model=model).order_by("position").first()
    prices = list_prices(model, since)
    return Product(
        model_id=model.pk,
        name=model.name,
        shape=offer.shape,
        max_n=model.max_n,
        size=(size.width, size.height) if size else (1024, 1024),
        prices_from=[price.effective_from.timestamp() for price in prices],
        prices=[(price.pk, price.amount_micros) for price in prices],
        offer_id=offer.pk,
    )


def list_prices(model: ImageModel, since: datetime) -> list[Price]:
    """Every version, oldest first; one is appended where none was in force when the traffic begins."""
    prices = model.prices.order_by("effective_from", "id")
    first = prices.first()
    if first is None or first.effective_from > since:
        Price.objects.create(
            model=model,
            amount_micros=first.amount_micros if first else 200_000,
            effective_from=since - timedelta(days=1),
            reason="made-up traffic begins",
            actor="make_traffic",
        )
    return list(prices.all())


def open_accounts(plan: Plan) -> list[Buyer]:
    """New accounts, numbered after those that are there."""
    first = Account.objects.filter(name__startswith=f"{NAME} ").count() + 1
    return [open_account(f"{NAME} {number}", plan.seed, plan.since) for number in range(first, first + plan.accounts)]


def open_account(name: str, seed: int, created_at: datetime) -> Buyer:
    account = Account.objects.create(name=name, created_at=created_at)
    keys = []
    for number in range(KEYS_EACH):
        digest = hashlib.sha256(f"{seed}/{name}/{number}".encode()).hexdigest()
        # Nobody has the secret of such a key: what is hashed here is no key's form.
        key = ApiKey.objects.create(
            account=account,
            name=f"key {number + 1}",
            prefix=f"sk-cr-{digest[:8]}",
            key_hash=hash_key(f"none-{digest}"),
            created_at=created_at,
        )
        keys.append((key.pk, key.prefix))
    return Buyer(account.pk, name, account.time_zone, keys)
