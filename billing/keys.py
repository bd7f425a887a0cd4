"""API keys: `sk-cr-<prefix>-<secret>`; only HMAC-SHA-256 under a pepper is stored, so no look-up needs a slow hash."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from billing.limits import Network, group_networks, intersect_models
from billing.models import Account, ApiKey
from billing.prices import AgreedPrice, find_account_prices

#: Longer than any key of ours; what is longer is not hashed at all.
LONGEST = 256


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """Who is calling: what the hot path needs to know of a key and its account.

    `allowed_models`: names that both allow; None for every one. `networks`: groups for `limits.allows_network`.
    `prices`: agreements in force, by model id. `shadow_allowed`: its requests may be copied to carriers on trial. What
    counts (money, windows) is asked of the rows themselves.
    """

    key_id: int
    account_id: int
    prefix: str
    account_suspended: bool
    expires_at: datetime | None
    allowed_models: frozenset[str] | None = None
    networks: tuple[tuple[Network, ...], ...] = ()
    prices: Mapping[int, AgreedPrice] = field(default_factory=dict)
    shadow_allowed: bool = False


def hash_key(secret: str) -> str:
    return hmac.digest(settings.API_KEY_PEPPER.encode(), secret.encode(), "sha256").hex()


def create_key(
    account: Account, *, name: str = "", expires_at: datetime | None = None, limits: Mapping[str, Any] | None = None
) -> tuple[ApiKey, str]:
    """The new key and its secret, which cannot be shown again. `limits`: columns of `billing.models.Limits`."""
    prefix = f"sk-cr-{secrets.token_hex(4)}"
    secret = f"{prefix}-{secrets.token_urlsafe(32)}"
    key = ApiKey.objects.create(
        account=account, name=name, prefix=prefix, key_hash=hash_key(secret), expires_at=expires_at, **(limits or {})
    )
    return key, secret


def revoke_key(key: ApiKey) -> bool:
    """True if this call revoked it; a key stays revoked."""
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()))


def find_identities(hashes: Collection[str]) -> dict[str, KeyIdentity]:
    """The usable keys with these hashes, in two queries. Unknown, expired, disabled, revoked: the same nothing."""
    if not hashes:
        return {}
    found = ApiKey.objects.filter(key_hash__in=hashes, revoked_at=None, enabled=True).select_related("account")
    rows = [row for row in found if row.is_usable()]
    prices = find_account_prices({row.account_id for row in rows}, timezone.now()) if rows else {}
    return {row.key_hash: identify(row, prices.get(row.account_id, {})) for row in rows}


def identify(key: ApiKey, prices: Mapping[int, AgreedPrice]) -> KeyIdentity:
    account = key.account
    return KeyIdentity(
        key_id=key.pk,
        account_id=key.account_id,
        prefix=key.prefix,
        account_suspended=account.state == Account.State.SUSPENDED,
        expires_at=key.expires_at,
        allowed_models=intersect_models(key.allowed_models, account.allowed_models),
        networks=group_networks(key.allowed_networks, account.allowed_networks),
        prices=prices,
        shadow_allowed=account.shadow_allowed,
    )
