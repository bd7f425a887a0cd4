"""API keys: `sk-cr-<prefix>-<secret>`; only HMAC-SHA-256 under a pepper is stored, so no look-up needs a slow hash."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone

from billing.models import Account, ApiKey

#: Longer than any key of ours; what is longer is not hashed at all.
LONGEST = 256


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """Who is calling: what the hot path needs to know of a key."""

    key_id: int
    account_id: int
    prefix: str
    account_suspended: bool
    expires_at: datetime | None


def hash_key(secret: str) -> str:
    return hmac.digest(settings.API_KEY_PEPPER.encode(), secret.encode(), "sha256").hex()


def create_key(account: Account, *, name: str = "", expires_at: datetime | None = None) -> tuple[ApiKey, str]:
    """The new key and its secret, which cannot be shown again."""
    prefix = f"sk-cr-{secrets.token_hex(4)}"
    secret = f"{prefix}-{secrets.token_urlsafe(32)}"
    key = ApiKey.objects.create(
        account=account, name=name, prefix=prefix, key_hash=hash_key(secret), expires_at=expires_at
    )
    return key, secret


def revoke_key(key: ApiKey) -> bool:
    """True if this call revoked it; a key stays revoked."""
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()))


def find_identities(hashes: Collection[str]) -> dict[str, KeyIdentity]:
    """The usable keys with these hashes; unknown, expired and revoked are the same nothing."""
    if not hashes:
        return {}
    rows = ApiKey.objects.filter(key_hash__in=hashes, revoked_at=None).select_related("account")
    return {
        row.key_hash: KeyIdentity(
            key_id=row.pk,
            account_id=row.account_id,
            prefix=row.prefix,
            account_suspended=row.account.state == Account.State.SUSPENDED,
            expires_at=row.expires_at,
        )
        for row in rows
        if row.is_usable()
    }
