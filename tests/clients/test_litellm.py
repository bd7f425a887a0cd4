"""litellm as a client: base URL and key are all that changes."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from billing.models import Account
from crazyrouter.generation.models import Generation
from tests.books import count_rows, read_violations
from tests.clients.running import fetch_picture, open_picture, run_asks
from tests.server import RunningServer
from tests.shop import Customer

pytestmark = pytest.mark.live


def ask(server: RunningServer, customer: Customer, **arguments: Any) -> dict[str, Any]:
    usual = {"model": "openai/qwen-image-max", "prompt": "A cat 猫", "api_key": customer.secret}
    return usual | {"api_base": f"{server.base_url}/v1"} | arguments


def test_pictures(server: RunningServer, customer: Customer) -> None:
    one, two, inline = run_asks(
        "ask_litellm",
        [
            ask(server, customer, size="1024x1024"),
            ask(server, customer, model="openai/qwen-image-2.0", size="512x512", n=2, quality="standard", user="u-1"),
            ask(server, customer, seed=7, negative_prompt="dogs", extra_body={"response_format": "b64_json"}),
        ],
    )
    assert [fetch_picture(picture["url"]) for picture in one["pictures"]] == [("PNG", (1024, 1024))]
    assert [fetch_picture(picture["url"]) for picture in two["pictures"]] == [("PNG", (512, 512))] * 2
    assert [picture["url"] for picture in inline["pictures"]] == [None]
    assert open_picture(base64.b64decode(inline["pictures"][0]["b64_json"])) == ("PNG", (1664, 928))
    assert count_rows() == {"generations": 3, "attempts": 3, "images": 4, "charges": 4, "held": 0}
    assert Account.objects.get(name="alice").balance_micros == 100_000_000 - 2 * 500_000 - 2 * 200_000
    assert [order.options for order in Generation.objects.order_by("created_at")] == [
        {},
        {"user": "u-1"},
        {"seed": 7, "negative_prompt": "dogs"},
    ]
    assert read_violations() == []


def test_errors_are_litellm_s_own(server: RunningServer, customer: Customer) -> None:
    answers = run_asks(
        "ask_litellm",
        [
            ask(server, customer, size="256x256"),
            ask(server, customer, prompt="A cat [[sim: moderation_input]]"),
            ask(server, customer, api_key="sk-cr-nobody"),
            ask(server, customer, model="openai/qwen-image-edit"),
            ask(server, customer, prompt="A cat [[sim: html status=502]]"),
        ],
    )
    assert [(answer["error"], answer["status"]) for answer in answers] == [
        ("litellm.exceptions.BadRequestError", 400),
        ("litellm.exceptions.BadRequestError", 400),
        ("litellm.exceptions.AuthenticationError", 401),
        ("litellm.exceptions.NotFoundError", 404),
        ("litellm.exceptions.BadGatewayError", 502),
    ]
    said = [answer["message"].partition("Error code: ")[2] for answer in answers]
    assert said[0].startswith("400 - Invalid size '256x256' for qwen-image-max. Supported sizes: 1664x928, ")
    assert said[1:] == [
        "400 - The request was refused by content moderation. Nothing was charged. Please change the prompt.",
        "401 - Incorrect API key provided. Send it as 'Authorization: Bearer YOUR_API_KEY'.",
        "404 - The model 'qwen-image-edit' does not exist.",
        "502 - The image could not be generated. Nothing was charged.",
    ]
    # Two reached an upstream, each once: it does not order again by itself.
    assert count_rows() == {"generations": 2, "attempts": 2, "images": 0, "charges": 0, "held": 0}
    assert read_violations() == []
