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
    # A name that says what its value is, in any notation: api_key=…, "apiKey": "…", X-API-Key: … A key has a digit.
    (
        re.compile(
            r"((?:api|access|secret)[_ -]?(?:key|token)|secret|token|password|authorization)"
            r"([\"']?\s*[:=]\s*[\"']?)(?=[^\s\"',;&]*\d)[^\s\"',;&]{8,}",
            re.IGNORECASE,
        ),
        r"\1\2***",
    ),
    # sk-ws-… keys hold dots and are long; st-… are temporary tokens, ms-… and r8_… those of two carriers, hf_… what
    # lies behind some. Masked ones (sk-ab**yz) go too.
    (re.compile(r"\b(?:sk|st)-[\w.*-]+"), "***"),
    (re.compile(r"\b(?:ms-(?=[\w*-]*\d)|r8_|hf_)[\w*-]{6,}"), "***"),
    # The two halves of a key: an id that could stand alone, and its secret.
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:[\w*]{4,}", re.IGNORECASE), "***"),
)


def redact(text: str) -> str:
    """No keys, no signed queries, one line, at most 300 characters."""
    text = "".join(sign if sign.isprintable() else " " for sign in text[:_READ_CHARACTERS])
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())[:MAX_CHARACTERS]
