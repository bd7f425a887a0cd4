"""`manage.py explain`: what would become of a request now, and a clear word where there is none."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from billing.models import Account
from crazyrouter.generation.models import WaitingCall
from crazyrouter.sql import read_epoch_ms
from models_registry.models import ImageModel
from providers.models import Capacity, Channel, Offer, OfferHealth, UpstreamAccount
from tests.admin.world import World, add_channel, add_offer, build_world

CANDIDATES = "Candidates, in the order in which they are asked for room (drawn by weight within a priority):"


@pytest.fixture
def world(db: None, settings: Any) -> World:
    settings.QUEUE_LIMIT_S = 120
    return build_world()


def explain(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("explain", *arguments, stdout=out)
    return out.getvalue().splitlines()


def change(row: Any, **columns: Any) -> None:
    type(row)._default_manager.filter(pk=row.pk).update(**columns)


def limit(channel: Channel, **limits: Any) -> Capacity:
    account = UpstreamAccount.objects.create(name=f"of {channel}")
    change(channel, account=account)
    return Capacity.objects.create(account=account, **limits)


def read_section(lines: list[str], heading: str) -> list[str]:
    """The lines below a heading, down to the next empty one."""
    rest = lines[lines.index(heading) + 1 :]
    return rest[: rest.index("")] if "" in rest else rest


def test_candidates_exclusions_and_calls(world: World) -> None:
    third = add_channel("third")
    other = add_offer(third, world.max, priority=5, max_n=2, cost_micros=None, upstream_model="qwen-max")
    assert explain("qwen-image-max", "--n", "3", "--size", "1024x1024") == [
        "qwen-image-max at 1024x1024, rendered at 1328x1328, n = 3",
        "",
        CANDIDATES,
        f"  1. official (offer {world.offer.pk}): priority 3, weight 7, qwen-image-max, sync, 1 image a call, "
        "¥0.30 an image",
        "     room: no limit is known",
        "     health: circuit closed; no recent call",
        f"  2. third (offer {other.pk}): priority 5, weight 1, qwen-max, sync, 2 images a call, unknown cost an image",
        "     room: no limit is known",
        "     health: circuit closed; no recent call",
        "",
        "Not candidates:",
        f"  reseller (offer {world.spare.pk}): the offer is disabled",
        "",
        "3 images now:",
        "  call 1: slot 0 to official, at once",
        "  call 2: slot 1 to official, at once",
        "  call 3: slot 2 to official, at once",
    ]


def test_room_decides_where_each_call_goes(world: World) -> None:
    """Two at a time are free here, one there; what is left waits, and the first of it is asked for its turn."""
    change(world.spare, enabled=True, max_n=2)
    limit(world.first, max_running=3, running=1, call_ms=10_000)
    limit(world.second, submit_interval_ms=30_000, submit_burst=2, starts=[read_epoch_ms(connection) - 1_000])
    lines = explain("qwen-image-max", "--n", "4")
    assert "     room: 3 at a time; 1 running; the next call can start now" in lines
    assert "     room: 2 submits per 60 s; 0 running; the next call can start now" in lines
    assert read_section(lines, "4 images now:") == [
        "  call 1: slot 0 to official, at once",
        "  call 2: slot 1 to official, at once",
        "  call 3: slots 2, 3 to reseller, at once",
    ]


def test_a_wait_is_estimated(world: World) -> None:
    limit(world.first, max_running=2, running=2, call_ms=10_000)
    lines = explain("qwen-image-max", "--n", "2")
    assert "     room: 2 at a time; 2 running; the next call can start in about 5.0 s" in lines
    assert read_section(lines, "2 images now:") == [
        "  call 1: slot 0 waits for room, about 5.0 s",
        "  call 2: slot 1 waits for room",
    ]


def test_who_waits_is_counted(world: World) -> None:
    capacity = limit(world.first, max_running=2, running=2, call_ms=10_000)
    other = Account.objects.create(name="Bolt")
    later = timezone.now() + timedelta(minutes=1)
    change(world.generation, state="running", delivered=0, lease_expires_at=later)
    for number in (7, 8):
        WaitingCall.objects.create(
            generation=world.generation, number=number, account=other, model=world.max, wants=str(capacity.pk)
        )
    lines = explain("qwen-image-max")
    assert "2 calls wait for it" in lines[4]
    # One turn of the other account goes before the first of this one, and a call ends every five seconds.
    assert read_section(lines, "1 image now:") == ["  call 1: slot 0 waits for room, about 10.0 s"]


def test_a_wait_that_is_too_long_is_an_answer(world: World, settings: Any) -> None:
    settings.QUEUE_LIMIT_S = 20
    limit(world.first, max_running=1, running=1, call_ms=50_000)
    assert explain("qwen-image-max")[-1] == (
        "It would be answered 429 rate_limit_exceeded: the first call would wait about 50 s, and QUEUE_LIMIT_S is 20. "
        "Retry-After: 30"
    )


def test_nobody_to_serve_it(world: World) -> None:
    change(world.first, enabled=False, disabled_reason="arrears")
    lines = explain("qwen-image-max")
    assert "Candidates: none. Every such request is answered 503 no_channel_available." in lines
    assert f"  official (offer {world.offer.pk}): the channel is disabled: arrears" in lines
    assert lines[-1] == f"  reseller (offer {world.spare.pk}): the offer is disabled"


def test_sizes_and_fields_exclude(world: World) -> None:
    change(world.offer, sizes=["1664x928"])
    change(world.second, kind="openai_images")
    change(world.spare, enabled=True)
    lines = explain("qwen-image-max", "--size", "1104x1472", "--fields", "seed")
    assert read_section(lines, "Not candidates:") == [
        f"  official (offer {world.offer.pk}): it does not render 1104x1472",
        f"  reseller (offer {world.spare.pk}): it does not take seed",
    ]


def test_health_is_told(world: World) -> None:
    now = timezone.now()
    OfferHealth.objects.create(
        offer=world.offer,
        circuit="half_open",
        reason="5 calls in a row failed: timeout",
        changed_at=now,
        cooling_until=now + timedelta(days=9),
        cooling_reason="throttled",
        recent=[[1_795_000_000.0, 1, 8000, ""]],
    )
    lines = explain("qwen-image-max")
    (health,) = [line for line in lines if line.startswith("     health:")]
    assert health.startswith("     health: circuit half-open since ")
    assert "5 calls in a row failed: timeout; cools down until " in health
    assert health.endswith("throttled; 100 % of 1 call succeeded, 8.0 s on average")
    assert lines[-1].startswith("It would be answered 429 rate_limit_exceeded")


def test_trials_are_told_apart(world: World) -> None:
    change(world.spare, enabled=True, canary_percent=5)
    shadow = add_offer(add_channel("third"), world.max, shadow_percent=10, shadow_per_day=1_000)
    lines = explain("qwen-image-max")
    assert read_section(lines, "On trial:") == [
        f"  reseller (offer {world.spare.pk}): a canary, the first choice of 5 % of requests",
        f"  third (offer {shadow.pk}): a shadow, gets copies of 10 % of requests, at most 1,000 a day, of accounts "
        "that agreed",
    ]
    assert read_section(lines, "Not candidates:") == [
        f"  third (offer {shadow.pk}): a shadow serves no customer",
        f"  reseller (offer {world.spare.pk}): a canary for 5 % of requests, and this is none of them",
    ]


def test_a_model_without_a_price(world: World) -> None:
    model = ImageModel.objects.create(name="unpriced", title="New", execution_shape="sync", default_size="1328x1328")
    add_offer(world.first, model)
    assert explain("unpriced")[1] == "It has no price in force: every request is answered 503 model_unavailable."


def test_explaining_changes_nothing(world: World) -> None:
    capacity = limit(world.first, max_running=5, submit_interval_ms=1)
    before = Capacity.objects.filter(pk=capacity.pk).values().get()
    explain("qwen-image-max", "--n", "4")
    assert Capacity.objects.filter(pk=capacity.pk).values().get() == before
    assert WaitingCall.objects.count() == 0
    assert Offer.objects.filter(enabled=True).count() == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gpt-image-1"], "'gpt-image-1' is not sold: there are qwen-image-2.0, qwen-image-2.0-pro, qwen-image-max"),
        (
            ["qwen-image-max", "--size", "512x512"],
            "Invalid size '512x512' for qwen-image-max. Supported sizes: 1664x928",
        ),
        (["qwen-image-max", "--size", "large"], "Invalid size 'large' for qwen-image-max"),
        (["qwen-image-max", "--n", "5"], "Invalid n: qwen-image-max takes at most 4, got 5"),
        (["qwen-image-max", "--n", "0"], "Invalid n: expected at least 1"),
        (
            ["qwen-image-max", "--fields", "seed,style"],
            "--fields takes negative_prompt, prompt_extend, seed, watermark",
        ),
    ],
)
def test_what_is_not_sold_is_said(world: World, arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError) as refused:
        explain(*arguments)
    assert str(refused.value).startswith(said)
    assert refused.value.returncode == 1


def test_a_hidden_model_is_not_sold(world: World) -> None:
    ImageModel.objects.filter(pk=world.max.pk).update(status="hidden")
    with pytest.raises(CommandError, match="'qwen-image-max' is not sold"):
        explain("qwen-image-max")
