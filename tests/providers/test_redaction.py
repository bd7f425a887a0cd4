from __future__ import annotations

import pytest

from providers.redaction import redact


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Incorrect API key provided: sk-ws-H.abc_DEF.123-x. See docs", "Incorrect API key provided: *** See docs"),
        ("key sk-ab**********yz refused", "key *** refused"),
        ("Authorization: Bearer abc.def== sent", "Authorization: Bearer *** sent"),
        ("sent Key 0d3f-11:9ab8c7 to fal", "sent Key *** to fal"),
        ("token st-12345678 expired", "token *** expired"),
        (
            "GET https://oss.example/a.png?Expires=1&Signature=x%2B failed",
            "GET https://oss.example/a.png?*** failed",
        ),
        ("proxy http://user:secret@proxy.example:3128/ down", "proxy http://proxy.example:3128/ down"),
        ("InvalidParameter: task-based risk-free", "InvalidParameter: task-based risk-free"),
        ("<html>\r\n\t<b>502\x00 Bad</b>\x1b[31m", "<html> <b>502 Bad</b> [31m"),
        ("url error, please check url！", "url error, please check url！"),
        ("", ""),
    ],
)
def test_what_an_operator_reads(said: str, kept: str):
    assert redact(said) == kept


def test_at_most_three_hundred_characters_are_kept():
    assert redact("图" * 100_000) == "图" * 300
