"""Ids that sort by time: 48 bits of milliseconds and 80 random bits in Crockford's base 32, as a ULID."""

from __future__ import annotations

import os
import re
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PAIRS = [a + b for a in ALPHABET for b in ALPHABET]


VALUES = {sign: value for value, sign in enumerate(ALPHABET)}


def new_id(prefix: str) -> str:
    """`<prefix>_` and 26 characters; later ids sort after earlier ones of another millisecond."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    return prefix + "_" + "".join([PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])


def read_time(text: str) -> int:
    """The second, since 1970, in which an id of `new_id` was drawn."""
    value = 0
    for sign in text.partition("_")[2][:10]:
        value = value << 5 | VALUES[sign]
    # Ten signs are 50 bits: the upper two of 26 signs' 130 are never set.
    return value // 1000


def is_id(text: str, prefix: str) -> bool:
    """Whether `new_id(prefix)` could have drawn it."""
    return bool(re.fullmatch(f"{prefix}_[{ALPHABET}]{{26}}", text))
