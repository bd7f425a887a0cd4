"""Carrier keys at rest: MultiFernet over `CREDENTIAL_KEYS`. The first key encrypts, all decrypt.

CredentialUnreadable    none of the keys opens it; never answered by the ciphertext or by silence
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class CredentialUnreadable(Exception):
    """The stored secret was encrypted under a key that CREDENTIAL_KEYS does not hold."""


@lru_cache(maxsize=4)
def load_cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(secret: str) -> str:
    return load_cipher(tuple(settings.CREDENTIAL_KEYS)).encrypt(secret.encode()).decode()


def decrypt(ciphertext: str) -> str:
    try:
        return load_cipher(tuple(settings.CREDENTIAL_KEYS)).decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        raise CredentialUnreadable("no key in CREDENTIAL_KEYS opens this credential") from None
