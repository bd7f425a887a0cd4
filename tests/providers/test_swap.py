"""Swaps and the way back: all of it in one transaction, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from models_registry.models import ImageModel
from providers.models import Channel, Offer, Swap
from providers.swap import SwapRefused, swap_back, swap_offers
from tests.admin.world import World, add_channel, add_offer, build_world, read_routes


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def make_swap(world: World) -> Swap:
    swap_offers(world.max, from_channel=world.first, to_channel=world.second, actor="olga")
    return Swap.objects.get()


def read_offers() -> list[dict[str, Any]]:
    return [dict(row) for row in Offer.objects.order_by("id").values()]


def test_every_offer_of_the_old_channel_ends_and_the_best_one_is_taken_over(world: World) -> None:
    add_offer(world.first, world.max, upstream_model="alias", priority=1, weight=2)
    disabled, successor = swap_offers(world.max, from_channel=world.first, to_channel=world.second)
    assert (len(disabled), successor) == (2, world.spare)
    assert read_routes() == [("reseller", 1, 2)]


def test_a_swap_leaves_other_models_alone(world: World) -> None:
    other = ImageModel.objects.get(name="qwen-image-2.0")
    kept = add_offer(world.first, other, priority=1)
    make_swap(world)
    assert read_routes("qwen-image-2.0") == [("official", 1, 1)]
    assert kept.history.count() == 1


def test_a_swap_in_the_other_direction(world: World) -> None:
    make_swap(world)
    swap_offers(world.max, from_channel=world.second, to_channel=world.first)
    assert read_routes() == [("official", 3, 7)]
    assert list(Offer.objects.order_by("id").values_list("enabled", flat=True)) == [True, False]


def test_a_canary_that_takes_over_is_on_trial_no_more(world: World) -> None:
    Offer.objects.filter(pk=world.spare.pk).update(enabled=True, canary_percent=5)
    make_swap(world)
    world.spare.refresh_from_db()
    assert (world.spare.canary_percent, world.spare.priority, world.spare.weight) == (None, 3, 7)


def test_the_successor_of_a_canary_is_a_canary(world: World) -> None:
    Offer.objects.filter(pk=world.offer.pk).update(canary_percent=5)
    make_swap(world)
    world.spare.refresh_from_db()
    assert world.spare.canary_percent == 5


def test_a_shadow_serves_nobody_and_can_take_over(world: World) -> None:
    Offer.objects.filter(pk=world.spare.pk).update(enabled=True, shadow_percent=10, shadow_per_day=5)
    with pytest.raises(SwapRefused, match="reseller does not serve qwen-image-max now"):
        swap_offers(world.max, from_channel=world.second, to_channel=world.first)
    make_swap(world)
    assert read_routes() == [("reseller", 3, 7)]


# --- refusals ---


def refuse_disabled(world: World) -> str:
    Channel.objects.filter(pk=world.second.pk).update(enabled=False)
    return "reseller is disabled"


def refuse_draining(world: World) -> str:
    Channel.objects.filter(pk=world.second.pk).update(draining_since=timezone.now())
    return "reseller is draining"


def refuse_without_adapter(world: World) -> str:
    Channel.objects.filter(pk=world.second.pk).update(kind="telex")
    return "reseller: no adapter speaks telex"


def refuse_without_credential(world: World) -> str:
    world.second.credentials.all().delete()
    return "reseller has no credential"


def refuse_without_offer(world: World) -> str:
    world.spare.delete()
    return "reseller has no genuine offer for qwen-image-max"


def refuse_imitation(world: World) -> str:
    Offer.objects.filter(pk=world.spare.pk).update(genuine=False)
    return "reseller has no genuine offer for qwen-image-max"


def refuse_two(world: World) -> str:
    add_offer(world.second, world.max, upstream_model="alias")
    return "reseller has 2 offers for qwen-image-max"


def refuse_idle(world: World) -> str:
    Offer.objects.filter(pk=world.offer.pk).update(weight=0)
    return "official does not serve qwen-image-max now"


def refuse_fallen(world: World) -> str:
    Offer.objects.filter(pk=world.spare.pk).update(canary_fallen_at=timezone.now(), canary_fallen_reason="slow")
    return "the canary of reseller fell back: slow"


@pytest.mark.parametrize(
    "prepare",
    [
        refuse_disabled,
        refuse_draining,
        refuse_without_adapter,
        refuse_without_credential,
        refuse_without_offer,
        refuse_imitation,
        refuse_two,
        refuse_idle,
        refuse_fallen,
    ],
)
def test_a_swap_that_would_leave_nobody_is_refused(world: World, prepare: Any) -> None:
    reason = prepare(world)
    before = read_offers()
    with pytest.raises(SwapRefused, match=reason):
        swap_offers(world.max, from_channel=world.first, to_channel=world.second)
    assert read_offers() == before
    assert Swap.objects.count() == 0


def test_a_channel_does_not_replace_itself(world: World) -> None:
    with pytest.raises(SwapRefused, match="cannot take its own place"):
        swap_offers(world.max, from_channel=world.first, to_channel=world.first)


# --- and back ---


def test_back_to_exactly_what_it_was(world: World) -> None:
    Offer.objects.filter(pk=world.spare.pk).update(enabled=True, canary_percent=5)
    add_offer(world.first, world.max, upstream_model="alias", priority=1, weight=2)
    before = read_offers()
    swap = make_swap(world)
    assert read_offers() != before
    assert [row["offer"] for row in swap.before] == [offer["id"] for offer in (before[0], before[2], before[1])]
    restored = swap_back(swap, actor="finn")
    assert read_offers() == before
    assert len(restored) == 3
    assert (swap.undone_by, swap.undone_at is not None) == ("finn", True)
    version = world.spare.history.first()
    assert version.history_change_reason == "swapped back: reseller -> official"


def test_back_once(world: World) -> None:
    swap = make_swap(world)
    swap_back(swap)
    with pytest.raises(SwapRefused, match="swapped back already"):
        swap_back(swap)
    assert read_routes() == [("official", 3, 7)]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("priority", 8, "qwen-image-max via reseller was changed since: priority is 8, the swap had left 3"),
        ("enabled", False, "qwen-image-max via reseller was changed since: enabled is no, the swap had left yes"),
        ("canary_percent", 5, "reseller was changed since: canary percent is 5, the swap had left empty"),
    ],
)
def test_what_somebody_has_changed_since_is_not_overwritten(world: World, column: str, value: Any, said: str) -> None:
    swap = make_swap(world)
    Offer.objects.filter(pk=world.spare.pk).update(**{column: value})
    before = read_offers()
    with pytest.raises(SwapRefused, match=said):
        swap_back(swap)
    swap.refresh_from_db()
    assert (read_offers(), swap.undone_at) == (before, None)


def test_an_offer_that_is_gone_cannot_come_back(world: World) -> None:
    swap = make_swap(world)
    world.offer.delete()
    with pytest.raises(SwapRefused, match="was deleted since"):
        swap_back(swap)


def test_no_way_back_to_a_channel_that_cannot_serve(world: World) -> None:
    swap = make_swap(world)
    Channel.objects.filter(pk=world.first.pk).update(enabled=False)
    with pytest.raises(SwapRefused, match="official is disabled"):
        swap_back(swap)
    assert read_routes() == [("reseller", 3, 7)]


def test_a_swap_after_it_goes_first(world: World) -> None:
    """Two swaps in a row: the first has its way back again when the second has gone back."""
    third = add_channel("third")
    add_offer(third, world.max, enabled=False)
    first = make_swap(world)
    swap_offers(world.max, from_channel=world.second, to_channel=third)
    second = Swap.objects.first()
    assert second is not None
    with pytest.raises(SwapRefused, match="was changed since"):
        swap_back(first)
    swap_back(second)
    swap_back(first)
    assert read_routes() == [("official", 3, 7)]
