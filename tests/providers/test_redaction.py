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
        ("api_key=0123456789abcdef is wrong", "api_key=*** is wrong"),
        ('{"apiKey": "0123456789abcdef", "code": 1}', '{"apiKey": "***", "code": 1}'),
        ("X-API-Key: 0123456789abcdef, refused", "X-API-Key: ***, refused"),
        ("Invalid token: r8_Ab3dEf4hIj5kLm6nOp7q", "Invalid token: ***"),
        ("Invalid token r8_Ab3********* given", "Invalid token *** given"),
        ("ms-01234567-89ab-cdef-0123-456789abcdef is unknown", "*** is unknown"),
        ("key 01234567-89ab-cdef-0123-456789abcdef:0123456789abcdef0123456789abcdef", "key ***"),
        ("token expired; secret: none; password: wrong", "token expired; secret: none; password: wrong"),
        (
            "request_id 01234567-89ab-cdef-0123-456789abcdef, ms-sql, token: 12",
            "request_id 01234567-89ab-cdef-0123-456789abcdef, ms-sql, token: 12",
        ),
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
