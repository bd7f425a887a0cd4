"""API keys: `sk-cr-<prefix>-<secret>`; only HMAC-SHA-256 under a pepper is stored, so no look-up needs a slow hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
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
    return hmac.new(settings.API_KEY_PEPPER.encode(), secret.encode(), hashlib.sha256).hexdigest()


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


def find_identity(key_hash: str) -> KeyIdentity | None:
    """The usable key with this hash; unknown, expired and revoked are the same nothing."""
    key = ApiKey.objects.select_related("account").filter(key_hash=key_hash, revoked_at=None).first()
    if key is None or not key.is_usable():
        return None
    suspended = key.account.state == Account.State.SUSPENDED
    return KeyIdentity(key.pk, key.account_id, key.prefix, suspended, key.expires_at)
