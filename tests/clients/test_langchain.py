"""LangChain's OpenAI image wrapper: base URL and key are all that changes."""

from __future__ import annotations

from typing import Any

import pytest

from billing.models import Account
from tests.books import count_rows, read_violations
from tests.clients.running import fetch_picture, run_asks
from tests.server import RunningServer
from tests.shop import Customer

pytestmark = pytest.mark.live


def configure(server: RunningServer, customer: Customer, **settings: Any) -> dict[str, Any]:
    usual = {"model": "qwen-image-max", "base_url": f"{server.base_url}/v1", "api_key": customer.secret}
    return usual | settings


def test_pictures(server: RunningServer, customer: Customer) -> None:
    one, two = run_asks(
        "ask_langchain",
        [
            (configure(server, customer), "A cat 猫"),
            (
                configure(server, customer, model="qwen-image-2.0", size="512x512", n=2, quality="standard"),
                "Two cats",
            ),
        ],
    )
    assert [fetch_picture(url) for url in one["text"].split("\n")] == [("PNG", (1024, 1024))]
    assert [fetch_picture(url) for url in two["text"].split("\n")] == [("PNG", (512, 512))] * 2
    assert count_rows() == {"generations": 2, "attempts": 2, "images": 3, "charges": 3, "held": 0}
    assert Account.objects.get(name="alice").balance_micros == 100_000_000 - 500_000 - 2 * 200_000
    assert read_violations() == []


def test_errors_are_openai_s_own(server: RunningServer, customer: Customer) -> None:
    answers = run_asks(
        "ask_langchain",
        [
            (configure(server, customer, size="256x256"), "A cat"),
            (configure(server, customer), "A cat [[sim: moderation_input]]"),
            (configure(server, customer, api_key="sk-cr-nobody"), "A cat"),
            (configure(server, customer, quality="hd"), "A cat"),
            (configure(server, customer), "A cat [[sim: html status=502]]"),
        ],
    )
    assert [(answer["error"], answer["code"]) for answer in answers] == [
        ("openai.BadRequestError", "invalid_value"),
        ("openai.BadRequestError", "moderation_blocked"),
        ("openai.AuthenticationError", "invalid_api_key"),
        ("openai.BadRequestError", "invalid_value"),
        ("openai.InternalServerError", "upstream_failed"),
    ]
    assert "Invalid size '256x256' for qwen-image-max. Supported sizes: 1664x928" in answers[0]["message"]
    assert "'quality' is not supported here: leave it out or send 'auto', 'standard'." in answers[3]["message"]
    assert "The image could not be generated. Nothing was charged." in answers[4]["message"]
    # Two reached an upstream, each once, though the wrapper retries: it was told not to.
    assert count_rows() == {"generations": 2, "attempts": 2, "images": 0, "charges": 0, "held": 0}
    assert read_violations() == []
