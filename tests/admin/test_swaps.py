"""The swap in the admin: what is known beforehand, one button to make it, one to take it back."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from providers.models import Channel, Offer, Swap, add_credential
from providers.swap import swap_offers
from tests.admin.forms import list_buttons, press, read_errors, read_log, read_messages
from tests.admin.world import World, add_channel, read_routes
from tests.simulator.running import RunningSimulator

SWAPS = reverse("admin:providers_swap_changelist")
SAID = "Swapped: qwen-image-max moved from official to reseller"
BACK = "Swapped back: qwen-image-max moved from reseller to official"


@pytest.fixture(autouse=True)
def upstream(world: World, simulator: RunningSimulator, settings: Any) -> None:
    """Both channels lead to a carrier that knows their keys."""
    settings.EGRESS_ALLOW = [f"127.0.0.1:{simulator.port}"]
    for channel in (world.first, world.second):
        channel.base_url = f"{simulator.base_url}/api/v1"
        channel.save()
        add_credential(channel, "sk-sim-77b1")


def swap_page(offer: Offer) -> str:
    return reverse("admin:providers_offer_swap", args=[offer.pk])


def checked(world: World) -> str:
    """The page after `Check`."""
    return f"{swap_page(world.offer)}?to_channel={world.second.pk}"


def test_what_is_known_stands_above_the_button(olga: Client, world: World) -> None:
    assert list_buttons(olga, swap_page(world.offer)) == []
    html = olga.get(checked(world)).content.decode()
    lines, button = html.index("…77b1: it works"), html.index("Serve qwen-image-max by reseller")
    assert html.index('id="preflight"') < lines < button
    assert read_routes() == [("official", 3, 7)]


def test_one_click_moves_the_traffic(olga: Client, world: World) -> None:
    answer = press(olga, checked(world), "Serve qwen-image-max by reseller")
    assert answer.redirect_chain == [(reverse("admin:providers_offer_change", args=[world.spare.pk]), 302)]
    assert read_routes() == [("reseller", 3, 7)]
    assert (read_log(world.offer), read_log(world.spare)) == ([("olga", SAID)], [("olga", SAID)])
    for offer in (world.offer, world.spare):
        version = offer.history.first()
        assert version.history_user == world.operator
        assert version.history_change_reason == "swap: official -> reseller"
    swap = Swap.objects.get()
    assert (swap.actor, swap.from_channel, swap.to_channel) == ("olga", world.first, world.second)
    assert SWAPS in read_messages(answer)[0]


def test_one_click_takes_it_back(olga: Client, world: World) -> None:
    before = list(Offer.objects.order_by("id").values())
    press(olga, checked(world), "Serve qwen-image-max by reseller")
    answer = press(olga, SWAPS, "Swap back")
    assert answer.redirect_chain == [(SWAPS, 302)]
    assert read_messages(answer)[-1] == f"{BACK}. It is in force everywhere within 2 s."
    assert list(Offer.objects.order_by("id").values()) == before
    assert read_log(world.spare) == [("olga", SAID), ("olga", BACK)]
    assert read_log(Swap.objects.get()) == [("olga", BACK)]
    assert list_buttons(olga, SWAPS) == []
    assert "swapped back" in olga.get(SWAPS).content.decode()


def test_the_page_of_a_swap_has_the_way_back_too(olga: Client, world: World) -> None:
    press(olga, checked(world), "Serve qwen-image-max by reseller")
    page = reverse("admin:providers_swap_change", args=[Swap.objects.get().pk])
    assert "qwen-image-max via official: enabled, priority 3, weight 7" in olga.get(page).content.decode()
    assert press(olga, page, "Swap back").redirect_chain == [(page, 302)]
    assert read_routes() == [("official", 3, 7)]


def test_what_was_changed_since_is_left_alone(olga: Client, world: World) -> None:
    press(olga, checked(world), "Serve qwen-image-max by reseller")
    Offer.objects.filter(pk=world.spare.pk).update(priority=8)
    page = reverse("admin:providers_swap_change", args=[Swap.objects.get().pk])
    assert "It cannot be swapped back: qwen-image-max via reseller was changed since" in olga.get(page).content.decode()
    assert list_buttons(olga, page) == []
    (said,) = read_messages(press(olga, SWAPS, "Swap back"))[-1:]
    assert said.startswith("Nothing was changed: qwen-image-max via reseller was changed since: priority is 8")
    assert read_routes() == [("reseller", 8, 7)]
    assert read_log(world.spare) == [("olga", SAID)]


def test_a_refusal_leaves_no_button_and_stops_the_swap(olga: Client, world: World) -> None:
    Channel.objects.filter(pk=world.second.pk).update(enabled=False)
    html = olga.get(checked(world)).content.decode()
    assert "reseller is disabled" in html
    assert "reseller cannot take over as it is" in html
    assert list_buttons(olga, checked(world)) == []
    response = olga.post(swap_page(world.offer), {"to_channel": world.second.pk})
    assert "Nothing was changed: reseller is disabled." in read_errors(response)
    assert (read_routes(), read_log(world.offer), Swap.objects.count()) == ([("official", 3, 7)], [], 0)


def test_it_is_looked_at_once_more_before_the_swap(olga: Client, world: World) -> None:
    """Between the page and its button the key was revoked."""
    assert list_buttons(olga, checked(world)) == ["Serve qwen-image-max by reseller"]
    add_credential(world.second, "not-a-key-0001")
    response = olga.post(swap_page(world.offer), {"to_channel": world.second.pk})
    assert "it does not work now: auth" in read_errors(response)
    assert read_routes() == [("official", 3, 7)]


def test_only_channels_that_offer_the_model_may_take_over(olga: Client, world: World) -> None:
    third = add_channel("third")
    response = olga.post(swap_page(world.offer), {"to_channel": third.pk})
    assert "Select a valid choice" in read_errors(response)
    assert olga.get(swap_page(world.offer), {"to_channel": "x"}).status_code == 200
    assert read_routes() == [("official", 3, 7)]


def test_nothing_moves_by_looking(olga: Client, world: World) -> None:
    swap_offers(world.max, from_channel=world.first, to_channel=world.second)
    back = reverse("admin:providers_swap_back", args=[Swap.objects.get().pk])
    assert olga.get(back).status_code == 405
    assert olga.post(reverse("admin:providers_swap_back", args=[99])).status_code == 404
    assert read_routes() == [("reseller", 3, 7)]


def test_without_a_token_nothing_moves(world: World) -> None:
    swap_offers(world.max, from_channel=world.first, to_channel=world.second)
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.operator)
    assert client.post(reverse("admin:providers_swap_back", args=[Swap.objects.get().pk])).status_code == 403


def test_a_viewer_sees_swaps_and_makes_none(victor: Client, world: World) -> None:
    assert victor.get(swap_page(world.offer)).status_code == 403
    assert victor.post(swap_page(world.offer), {"to_channel": world.second.pk}).status_code == 403
    swap_offers(world.max, from_channel=world.first, to_channel=world.second)
    assert list_buttons(victor, SWAPS) == []
    swap = Swap.objects.get()
    assert list_buttons(victor, reverse("admin:providers_swap_change", args=[swap.pk])) == []
    assert victor.post(reverse("admin:providers_swap_back", args=[swap.pk])).status_code == 403
    assert read_routes() == [("reseller", 3, 7)]
