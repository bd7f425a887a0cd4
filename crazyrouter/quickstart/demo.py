"""What a first start puts into the database, and a later one finds there: nothing that exists is changed back."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.contrib.auth.models import User

from billing.keys import create_key, find_identities, hash_key
from billing.ledger import top_up
from billing.models import Account
from billing.money import MICROS
from models_registry.models import ImageModel
from providers.adapters import get_adapter_class
from providers.credentials import CredentialUnreadable
from providers.models import Capacity, Channel, Offer, UpstreamAccount, add_credential

ACCOUNT = "demo"
ADMIN = "admin"
CREDIT_MICROS = 100 * MICROS
ACTOR = "quickstart"
DASHSCOPE_URL = "https://dashscope.aliyuncs.com/api/v1"

#: Images per call: plus and max make one, the 2.0 series up to six (Qwen-Image API reference).
ONE_BY_ONE = {"qwen-image-max": 1, "qwen-image-2.0": 6, "qwen-image-2.0-pro": 6}
ALL_FOUR = {"qwen-image-plus": 1, **ONE_BY_ONE}


@dataclass(frozen=True, slots=True)
class Carrier:
    """One channel as quickstart makes it: `path` is what its base URL has after the host."""

    name: str
    kind: str
    models: Mapping[str, int]
    priority: int
    path: str = ""
    options: Mapping[str, object] | None = None


SIMULATED = (
    Carrier("Simulated DashScope, async", "dashscope_async", {"qwen-image-plus": 1}, 10, "/api/v1"),
    Carrier("Simulated DashScope, sync", "dashscope_sync", ONE_BY_ONE, 10, "/api/v1"),
    Carrier("Simulated reseller", "openai_images", ALL_FOUR, 20, options={"extra_fields": True}),
)
# The published shape first: plus is sold as async.
REAL = (
    Carrier("DashScope, async", "dashscope_async", {"qwen-image-plus": 1}, 0),
    Carrier("DashScope, sync", "dashscope_sync", ALL_FOUR, 1),
)


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` submits in any `burst * interval_ms`, and so many calls at a time."""

    interval_ms: int
    burst: int
    max_running: int | None = None


TWO_A_SECOND, TWO_A_MINUTE = Limit(500, 2), Limit(30_000, 2)
#: What the model maker documents for one account (Model Studio rate limits, 2026), by channel. Two tasks at a time are
#: a limit of tasks alone, so tasks and calls are counted as two accounts: plus may then start four a second, and hardly
#: ever does, since two tasks take twenty seconds.
REAL_LIMITS = {
    "DashScope, async": {"qwen-image-plus": Limit(500, 2, max_running=2)},
    "DashScope, sync": {
        "qwen-image-plus": TWO_A_SECOND,
        "qwen-image-max": TWO_A_MINUTE,
        "qwen-image-2.0": TWO_A_SECOND,
        "qwen-image-2.0-pro": TWO_A_MINUTE,
    },
}
REAL_POLLS_PER_S = 20


def open_account() -> Account:
    """The demo account, with its credit booked once."""
    account, _ = Account.objects.get_or_create(name=ACCOUNT)
    top_up(account, amount_micros=CREDIT_MICROS, reference=ACTOR, memo="Demo credit", actor=ACTOR)
    return account


def keep_key(account: Account, secret: str) -> str:
    """This secret if it still opens the account, else a new key's."""
    found = find_identities([hash_key(secret)]) if secret else {}
    if any(identity.account_id == account.pk for identity in found.values()):
        return secret
    return create_key(account, name=ACTOR)[1]


def keep_admin(password: str, *, reset: bool) -> bool:
    """Whether `admin` has this password: given to a new user, and with `reset` to the one that is there."""
    user = User.objects.filter(username=ADMIN).first()
    if user is None:
        User.objects.create_superuser(ADMIN, password=password)
        return True
    if reset:
        user.set_password(password)
        user.save(update_fields=["password"])
        return True
    return user.check_password(password)


def keep_simulated(simulator_url: str) -> None:
    """The simulated channels, at the simulator's present address."""
    for carrier in SIMULATED:
        channel = Channel.objects.filter(simulated=True, kind=carrier.kind).order_by("id").first()
        base_url = simulator_url + carrier.path
        if channel is None:
            channel = open_channel(carrier, base_url, simulated=True)
        elif channel.base_url != base_url and urlsplit(channel.base_url).hostname == urlsplit(simulator_url).hostname:
            channel.base_url = base_url
            channel.save(update_fields=["base_url"])
        keep_credential(channel, None)


def keep_real(key: str, base_url: str) -> list[str]:
    """DashScope itself; names of the models that it serves now. Their simulated offers are disabled.

    A simulated picture is never sold as a real one.
    """
    for carrier in REAL:
        channel = Channel.objects.filter(name=carrier.name).first()
        if channel is None:
            channel = open_channel(carrier, base_url, simulated=False)
            limit_channel(channel, REAL_LIMITS[carrier.name])
        elif channel.base_url != base_url:
            channel.base_url = base_url
            channel.save(update_fields=["base_url"])
        keep_credential(channel, key)
    served = Offer.objects.filter(
        channel__simulated=False, channel__enabled=True, channel__name__in=[c.name for c in REAL], enabled=True
    )
    names = sorted(set(served.values_list("model__name", flat=True)))
    disable(Offer.objects.filter(channel__simulated=True, enabled=True, model__name__in=names))
    return names


def limit_channel(channel: Channel, limits: Mapping[str, Limit]) -> None:
    """A new channel's upstream account, with what it can take."""
    account, _ = UpstreamAccount.objects.get_or_create(
        name=channel.name,
        defaults={"polls_per_s": REAL_POLLS_PER_S, "note": "Documented limits; edit them as yours are."},
    )
    for model, limit in limits.items():
        Capacity.objects.get_or_create(
            account=account,
            upstream_model=model,
            defaults={
                "submit_interval_ms": limit.interval_ms,
                "submit_burst": limit.burst,
                "max_running": limit.max_running,
            },
        )
    channel.account = account
    channel.save(update_fields=["account"])


def disable(offers: Iterable[Offer]) -> None:
    for offer in offers:
        offer.enabled = False
        offer.save(update_fields=["enabled"])


def open_channel(carrier: Carrier, base_url: str, *, simulated: bool) -> Channel:
    channel = Channel.objects.create(
        name=find_name(carrier.name),
        kind=carrier.kind,
        base_url=base_url,
        options=dict(carrier.options or {}),
        simulated=simulated,
    )
    models = ImageModel.objects.in_bulk(carrier.models, field_name="name")
    for name, max_n in carrier.models.items():
        Offer.objects.create(
            channel=channel,
            model=models[name],
            upstream_model=name,
            shape=get_adapter_class(carrier.kind).shape,
            priority=carrier.priority,
            max_n=max_n,
        )
    return channel


def find_name(wanted: str) -> str:
    """Names are unique, and an operator may have given this one to another channel."""
    return f"{wanted} ({secrets.token_hex(2)})" if Channel.objects.filter(name=wanted).exists() else wanted


def keep_credential(channel: Channel, secret: str | None) -> None:
    """Append the secret unless it is the newest already; None stands for any secret that can be read."""
    newest = channel.credentials.order_by("-id").first()
    try:
        known = newest.reveal() if newest else None
    except CredentialUnreadable:
        known = None
    if known is None or (secret is not None and known != secret):
        add_credential(channel, secret or f"sk-sim-{secrets.token_hex(8)}")


def read_real() -> tuple[str, str] | None:
    """The key and base URL of a real account; from the environment alone, and not from any file."""
    key = os.environ.get("DASHSCOPE_API_KEY", "").strip()
    if not key:
        return None
    return key, (os.environ.get("DASHSCOPE_BASE_URL", "").strip() or DASHSCOPE_URL).rstrip("/")
