"""A carrier's own words, made safe to keep and to show to operators."""

from __future__ import annotations

import re

MAX_CHARACTERS = 300
# Longer texts (a whole HTML page) are cut before the patterns run over them.
_READ_CHARACTERS = 4000

_SECRETS = (
    (re.compile(r"(://)[^/\s@]+@"), r"\1"),
    (re.compile(r"(https?://[^\s?#\"'<>]*)[?#][^\s\"'<>]*"), r"\1?***"),
    (re.compile(r"\b(Bearer)\s+[^\s\"',;]+", re.IGNORECASE), r"\1 ***"),
    (re.compile(r"\b(Key)\s+[\w-]+:[\w-]+"), r"\1 ***"),
    # sk-ws-… keys hold dots and are long; st-… are temporary tokens. Masked ones (sk-ab**yz) go too.
    (re.compile(r"\b(?:sk|st)-[\w.*-]+"), "***"),
)


def redact(text: str) -> str:
    """No keys, no signed queries, one line, at most 300 characters."""
    text = "".join(sign if sign.isprintable() else " " for sign in text[:_READ_CHARACTERS])
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())[:MAX_CHARACTERS]
