"""Why an attempt went where it did, in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from crazyrouter.generation.models import Attempt
from crazyrouter.generation.timeline import put_into_past, tell_comparison, tell_why
from providers.models import Channel
from tests.admin.world import World

A, B, C, D = (
    {"offer": 1, "channel": "A"},
    {"offer": 2, "channel": "B"},
    {"offer": 3, "channel": "C"},
    {"offer": 4, "channel": "D"},
)


def tell(routing: dict[str, Any], *, offer: int = 2, purpose: str = "customer") -> str:
    attempt = Attempt(channel=Channel(name="B"), offer_id=offer, purpose=purpose, routing=routing)
    return tell_why(attempt)


@pytest.mark.parametrize(
    ("routing", "said"),
    [
        ({}, ""),
        ({"candidates": [B]}, "Sent to B, the only candidate."),
        ({"candidates": [B, A]}, "Sent to B, the first candidate."),
        ({"candidates": [A, B, C]}, "Sent to B, candidate 2 of 3."),
        ({"candidates": [A]}, "Sent to B."),
        ({"candidates": [B, A], "chosen": 2, "reason": "first by priority"}, "Sent to B, first by priority."),
        ({"candidates": [B], "chosen": 2, "reason": "canary", "excluded": []}, "Sent to B, canary."),
        ({"candidates": [B], "reason": "the first choice"}, "Sent to B, the first choice."),
        (
            {"candidates": [A, B], "reason": "the first choice", "busy": [A | {"why": "others wait for it"}]},
            "Sent to B, the first with room: A had no room (others waited for it).",
        ),
        (
            {
                "candidates": [A | {"priority": 10}, B],
                "chosen": 2,
                "reason": "first with room",
                "busy": [A | {"priority": 10, "why": "2 calls run there"}],
                "excluded": [C | {"why": "its circuit is open: 5 calls in a row failed: timeout"}],
                "waited_s": 2.134,
                "ahead": 3,
            },
            "Sent to B after 2.1 s in the queue behind 3 calls, first with room: A (priority 10) had no room (2 calls "
            "ran there); C was excluded because its circuit was open: 5 calls in a row failed: timeout.",
        ),
        (
            {
                "candidates": [B],
                "reason": "after a failure",
                "excluded": [
                    A | {"why": "it was tried before"},
                    C | {"why": "the offer is disabled"},
                    D | {"why": "a canary for 5 % of requests, and this is none of them"},
                ],
                "waited_s": 0.004,
            },
            "Sent to B, after a failure: A was excluded because it was tried before; D was excluded because it was a "
            "canary for 5 % of requests, and this was none of them.",
        ),
        (
            {
                "candidates": [B],
                "reason": "after A failed: overloaded",
                "excluded": [A | {"why": "it was tried before"}, D | {"why": "it was tried before"}],
            },
            "Sent to B, after A failed: overloaded; D was excluded because it was tried before.",
        ),
        (
            {"candidates": [B], "reason": "after A failed: timeout", "excluded": [A | {"why": "it was tried before"}]},
            "Sent to B, after A failed: timeout.",
        ),
        (
            {
                "candidates": [B],
                "reason": "the first choice",
                "excluded": [
                    A | {"why": "its circuit is open: 5 calls in a row failed: overloaded: 503 Please try again."},
                    C | {"why": "its circuit is open: the probe failed: 503 Service is unavailable."},
                ],
            },
            "Sent to B, the first choice: A was excluded because its circuit was open: 5 calls in a row failed: "
            "overloaded: 503 Please try again; C was excluded because its circuit was open: the probe failed: 503 "
            "Service is unavailable.",
        ),
    ],
)
def test_a_sentence_for_each_choice(routing: dict[str, Any], said: str) -> None:
    assert tell(routing) == said


def test_a_copy_is_called_one() -> None:
    assert tell({"candidates": [B]}, purpose="shadow") == "Copied to B, the only candidate."


@pytest.mark.parametrize(
    ("why", "was"),
    [
        ("its circuit is open: is broken", "its circuit was open: is broken"),
        ("the channel is draining", "the channel was draining"),
        ("the channel has no credential", "the channel had no credential"),
        ("it does not render 1024x1024", "it did not render 1024x1024"),
        ("it does not take seed", "it did not take seed"),
        ("it cools down", "it cooled down"),
        ("2 calls run there", "2 calls ran there"),
        ("others wait for it", "others waited for it"),
        ("its submit rate is used up", "its submit rate was used up"),
        (
            "its circuit is half-open, and another call tries it",
            "its circuit was half-open, and another call tried it",
        ),
    ],
)
def test_what_was_is_told_as_past(why: str, was: str) -> None:
    assert put_into_past(why) == was


def test_the_page_tells_it_and_what_was_no_candidate(olga: Client, world: World) -> None:
    world.generation.attempts.filter(number=2).update(
        routing={
            "candidates": [{"offer": world.offer.pk, "channel": "official"}],
            "chosen": world.offer.pk,
            "reason": "first by priority",
            "excluded": [{"offer": 9, "channel": "<b>", "why": "the offer is disabled"}],
        }
    )
    html = olga.get(reverse("admin:generation_generation_change", args=[world.generation.pk])).content.decode()
    assert "Sent to official, first by priority." in html
    assert "Not candidates: &lt;b&gt;: the offer is disabled" in html
    assert "Sent to official, the first candidate." in html


COMPARED = {
    "latency_ms": 8_240,
    "sizes": [[1328, 1328], [1024, 1024]],
    "asked": [1328, 1328],
    "images": 1,
    "wanted": 2,
    "failure": "bad_response",
    "customer": {"latency_ms": 11_500, "images": 2, "failure": ""},
}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {},
            "1 of 2 images after 8.2 s (bad_response), 1024x1024 where 1328x1328 was asked; "
            "the customer got 2 after 11.5 s.",
        ),
        (
            {
                "sizes": [[1328, 1328]] * 2,
                "images": 2,
                "failure": "",
                "customer": {"latency_ms": 300_000, "images": 0, "failure": "generation_timeout"},
            },
            "2 of 2 images after 8.2 s; the customer got 0 after 300.0 s (generation_timeout).",
        ),
    ],
)
def test_a_copy_says_how_it_compares(olga: Client, world: World, facts: dict[str, Any], said: str) -> None:
    assert tell_comparison(COMPARED | facts) == said
    world.generation.attempts.filter(number=2).update(purpose="shadow", comparison=COMPARED | facts)
    html = olga.get(reverse("admin:generation_generation_change", args=[world.generation.pk])).content.decode()
    assert said in html
