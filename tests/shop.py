"""A small shop for tests: models, an account with money and a key, channels that point where the test wants."""

from __future__ import annotations

from dataclasses import dataclass

from billing.keys import create_key
from billing.ledger import top_up
from billing.models import Account
from models_registry.models import ImageModel
from models_registry.seed import seed_models
from providers.adapters import get_adapter_class
from providers.models import Channel, Offer, add_credential


@dataclass(frozen=True)
class Customer:
    account: Account
    secret: str
    key_id: int
    prefix: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}


def open_customer(name: str = "alice", *, micros: int = 100_000_000) -> Customer:
    """An account with this much money, and a key."""
    account = Account.objects.create(name=name)
    if micros:
        top_up(account, amount_micros=micros, reference=f"first-{name}", memo="", actor="test")
    key, secret = create_key(account)
    return Customer(account, secret, key.pk, key.prefix)


def open_channel(
    base_url: str, kind: str, models: dict[str, int], *, name: str = "", priority: int = 0, retry_billed: int = 0
) -> Channel:
    """A channel with a credential and an offer for each model, `{name: images per call}`."""
    seed_models()
    channel = Channel.objects.create(
        name=name or f"{kind}-{priority}", kind=kind, base_url=base_url, retry_billed=retry_billed, simulated=True
    )
    add_credential(channel, "sk-sim-test-credential")
    for model, max_n in models.items():
        Offer.objects.create(
            channel=channel,
            model=ImageModel.objects.get(name=model),
            upstream_model=model,
            shape=get_adapter_class(kind).shape,
            max_n=max_n,
            priority=priority,
            cost_micros=150_000,
        )
    return channel


def open_shop(simulator_url: str) -> Customer:
    """All four models over both upstream shapes at one simulator, and a customer."""
    base = f"{simulator_url}/api/v1"
    open_channel(base, "dashscope_async", {"qwen-image-plus": 1})
    open_channel(base, "dashscope_sync", {"qwen-image-max": 1, "qwen-image-2.0": 6, "qwen-image-2.0-pro": 6})
    return open_customer()
