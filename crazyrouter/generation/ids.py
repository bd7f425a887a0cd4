"""Ids that sort by time: 48 bits of milliseconds and 80 random bits in Crockford's base 32, as a ULID."""

from __future__ import annotations

import os
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PAIRS = [a + b for a in ALPHABET for b in ALPHABET]


def new_id(prefix: str) -> str:
    """`<prefix>_` and 26 characters; later ids sort after earlier ones of another millisecond."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    return prefix + "_" + "".join([PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])
