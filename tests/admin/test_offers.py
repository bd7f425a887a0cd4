"""Offers: their order, their sizes, their trials, and how they have fared."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from models_registry.models import ImageModel
from providers.adapters.dashscope import DashScope
from providers.models import Channel, Offer, OfferHealth
from tests.admin.forms import fill_in, list_buttons, press, read_errors, read_log, read_messages, select
from tests.admin.world import World, add_offer, read_routes

OFFERS = reverse("admin:providers_offer_changelist")


def page_of(offer: Offer) -> str:
    return reverse("admin:providers_offer_change", args=[offer.pk])


def save(client: Client, offer: Offer, **typed: Any) -> Any:
    return client.post(page_of(offer), fill_in(client, page_of(offer), **typed))


# --- the order ---


def test_offers_are_reprioritised_in_the_list(olga: Client, world: World) -> None:
    rows = [world.offer, world.spare]
    sent: dict[str, Any] = {"form-TOTAL_FORMS": "2", "form-INITIAL_FORMS": "2", "_save": "Save"}
    for index, offer in enumerate(rows):
        sent |= {f"form-{index}-id": offer.pk, f"form-{index}-priority": "5", f"form-{index}-weight": index + 2}
        sent[f"form-{index}-enabled"] = "on"
    assert olga.post(OFFERS, sent).status_code == 302
    assert read_routes() == [("official", 5, 2), ("reseller", 5, 3)]
    for offer in rows:
        assert offer.history.first().history_user == world.operator
        assert len(read_log(offer)) == 1


def test_offers_are_disabled_and_enabled(olga: Client, world: World) -> None:
    select(olga, OFFERS, "disable_offers", world.offer, world.spare)
    assert read_routes() == []
    assert (read_log(world.offer), read_log(world.spare)) == ([("olga", "Disabled")], [])
    select(olga, OFFERS, "enable_offers", world.spare)
    assert read_routes() == [("reseller", 9, 1)]
    assert world.spare.history.first().history_user == world.operator


def test_a_cost_stays_when_the_order_is_edited_in_the_list(olga: Client, world: World) -> None:
    sent = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "_save": "Save", "form-0-id": world.offer.pk}
    olga.post(
        f"{OFFERS}?enabled__exact=1", sent | {"form-0-priority": "5", "form-0-weight": "1", "form-0-enabled": "on"}
    )
    world.offer.refresh_from_db()
    assert (world.offer.priority, world.offer.cost_micros) == (5, 300_000)


def test_the_list_says_of_the_row_what_is_wrong_with_it(olga: Client, world: World) -> None:
    """Not a broken page for a column that the list does not have."""
    Offer.objects.filter(pk=world.offer.pk).update(shape="async")
    sent = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "_save": "Save", "form-0-id": world.offer.pk}
    answer = olga.post(
        f"{OFFERS}?enabled__exact=1", sent | {"form-0-priority": "5", "form-0-weight": "1", "form-0-enabled": "on"}
    )
    assert answer.status_code == 200
    assert "dashscope_sync is sync" in answer.content.decode()


# --- what it promises ---


def test_sizes_are_typed_as_people_write_them(olga: Client, world: World) -> None:
    assert save(olga, world.offer, sizes="1664*928 1328X1328,\t1664x928").status_code == 302
    world.offer.refresh_from_db()
    assert world.offer.sizes == ["1664x928", "1328x1328"]
    assert 'value="1664x928, 1328x1328"' in olga.get(page_of(world.offer)).content.decode()
    assert read_log(world.offer) == [("olga", "Changed sizes.")]
    assert save(olga, world.offer).status_code == 302
    assert read_log(world.offer)[1:] == [("olga", "No fields changed.")]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("1024x1024", "1024x1024 is never rendered for qwen-image-max: 1664x928, 1472x1104, 1328x1328"),
        ("square", "&#x27;square&#x27; is not a size: write WIDTHxHEIGHT"),
        ("0x928", "is not a size"),
    ],
)
def test_sizes_that_are_never_rendered(olga: Client, world: World, typed: str, said: str) -> None:
    assert said in read_errors(save(olga, world.offer, sizes=typed))
    world.offer.refresh_from_db()
    assert world.offer.sizes == []


def test_a_size_within_the_range_of_the_model(olga: Client, world: World) -> None:
    offer = add_offer(world.first, ImageModel.objects.get(name="qwen-image-2.0"))
    assert save(olga, offer, sizes="1024x1024, 512x512").status_code == 302
    said = "513x512 is never rendered for qwen-image-2.0: 2048x2048,"
    errors = read_errors(save(olga, offer, sizes="513x512"))
    assert said in errors
    assert "and any size of its range are" in errors


def test_open_weights_are_never_the_closed_model(olga: Client, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DashScope, "open_weights", frozenset({"qwen-image"}))
    errors = read_errors(save(olga, world.offer, upstream_model="Qwen-Image"))
    assert "Qwen-Image has open weights at dashscope_sync: it is another model" in errors
    sent = fill_in(olga, page_of(world.offer), upstream_model="Qwen-Image")
    sent.pop("genuine")
    assert olga.post(page_of(world.offer), sent).status_code == 302
    # In a form without that column, too.
    channel = reverse("admin:providers_channel_change", args=[world.second.pk])
    sent = fill_in(olga, channel, **{"offers-0-upstream_model": "qwen-image"})
    assert "has open weights" in read_errors(olga.post(channel, sent))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"max_n": "0"}, "at least 1"),
        ({"cost_currency": "yua"}, "three capital letters, like CNY"),
        ({"cost_currency": "¥"}, "three capital letters, like CNY"),
    ],
)
def test_what_nothing_can_be_sold_by(olga: Client, world: World, typed: dict[str, str], said: str) -> None:
    answer = save(olga, world.offer, **typed)
    assert said in read_errors(answer)
    assert "is violated" not in answer.content.decode()
    channel = reverse("admin:providers_channel_change", args=[world.offer.channel_id])
    row = olga.post(channel, fill_in(olga, channel, **{"offers-0-max_n": "0"}))
    assert "at least 1" in read_errors(row)
    assert "is violated" not in row.content.decode()


# --- trials ---


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"canary_percent": "101"}, "from 1 to 100; empty for none"),
        ({"canary_percent": "0"}, "from 1 to 100; empty for none"),
        ({"canary_percent": "5", "shadow_percent": "5"}, "either a canary or a shadow"),
        ({"shadow_percent": "5"}, "say how many copies a day we pay for"),
        ({"canary_min_success": "90"}, "this belongs to a canary"),
        ({"canary_percent": "5", "canary_min_success": "101"}, "from 0 to 100"),
        ({"canary_percent": "5", "canary_max_latency_s": "0"}, "at least 1"),
    ],
)
def test_trials_that_make_no_sense(olga: Client, world: World, typed: dict[str, str], said: str) -> None:
    assert said in read_errors(save(olga, world.offer, **typed))
    world.offer.refresh_from_db()
    assert (world.offer.canary_percent, world.offer.shadow_percent) == (None, None)


def test_a_canary(olga: Client, world: World) -> None:
    typed = {"canary_percent": "5", "canary_min_success": "90", "canary_max_latency_s": "30"}
    assert save(olga, world.offer, **typed).status_code == 302
    assert "canary 5 %" in olga.get(page_of(world.offer)).content.decode()
    assert "canary" in olga.get(OFFERS).content.decode()


def fall(offer: Offer) -> None:
    Offer.objects.filter(pk=offer.pk).update(
        canary_percent=5, canary_fallen_at=timezone.now(), canary_fallen_reason="3 of its latest 10 calls succeeded"
    )
    OfferHealth.objects.create(offer=offer, recent=[[1_795_000_000.0, 0, 100, "timeout"]])


def test_a_canary_that_fell_back_is_restarted(olga: Client, world: World) -> None:
    fall(world.offer)
    html = olga.get(page_of(world.offer)).content.decode()
    assert "canary 5 %, fallen back since" in html
    assert "3 of its latest 10 calls succeeded" in html
    assert "canary fell back" in olga.get(OFFERS).content.decode()
    answer = press(olga, page_of(world.offer), "Restart canary")
    assert read_messages(answer) == ["qwen-image-max via official gets its 5 % again, with a clean record."]
    world.offer.refresh_from_db()
    assert (world.offer.canary_fallen_at, world.offer.canary_fallen_reason) == (None, "")
    assert OfferHealth.objects.get(offer=world.offer).recent == []
    assert read_log(world.offer) == [("olga", "Canary restarted")]
    assert "Restart canary" not in list_buttons(olga, page_of(world.offer))


def test_another_share_is_another_trial(olga: Client, world: World) -> None:
    fall(world.offer)
    save(olga, world.offer, canary_percent="")
    world.offer.refresh_from_db()
    assert (world.offer.canary_percent, world.offer.canary_fallen_at) == (None, None)


def test_saving_a_form_takes_no_fall_back(olga: Client, world: World) -> None:
    """The page was open while the canary fell."""
    sent = fill_in(olga, page_of(world.offer), priority="4")
    channel = reverse("admin:providers_channel_change", args=[world.first.pk])
    row = fill_in(olga, channel, **{"offers-0-weight": "9"})
    sent["canary_percent"] = "5"
    fall(world.offer)
    moment = Offer.objects.get(pk=world.offer.pk).canary_fallen_at
    assert olga.post(page_of(world.offer), sent).status_code == 302
    assert olga.post(channel, row).status_code == 302
    world.offer.refresh_from_db()
    assert (world.offer.priority, world.offer.weight) == (3, 9)
    assert world.offer.canary_fallen_at == moment


# --- health ---


def break_down(offer: Offer, **columns: Any) -> None:
    facts = {
        "circuit": "open",
        "reason": "5 calls in a row failed: timeout",
        "changed_at": timezone.now(),
        "retry_at": timezone.now() + timedelta(seconds=30),
        "recent": [
            [1_795_000_000.0, 1, 8_000, ""],
            [1_795_000_010.0, 1, 12_000, ""],
            [1_795_000_020.0, 0, 100, "rate_limited"],
            [1_795_000_030.0, 0, 30_000, "timeout"],
        ],
    }
    OfferHealth.objects.create(offer=offer, **facts | columns)


def test_a_carriers_full_stop_ends_no_sentence_of_ours(olga: Client, world: World) -> None:
    break_down(world.offer, reason="5 calls in a row failed: overloaded: 503 Please try again later.")
    words = " ".join(olga.get(page_of(world.offer)).content.decode().split())
    assert "503 Please try again later; probed next at" in words
    OfferHealth.objects.update(circuit="closed", retry_at=None)
    words = " ".join(olga.get(page_of(world.offer)).content.decode().split())
    assert "503 Please try again later." in words


def test_a_page_tells_how_its_offer_fares(olga: Client, world: World) -> None:
    break_down(world.offer, cooling_until=timezone.now() + timedelta(minutes=1), cooling_reason="throttled")
    html = olga.get(page_of(world.offer)).content.decode()
    panel = html.partition('id="panel"')[2].partition("</form>")[0]
    words = " ".join(panel.split())
    assert "5 calls in a row failed: timeout; probed next at" in words
    assert "cools down until" in words
    assert "67 % of 3 calls succeeded, 10.0 s on average, 1 throttled" in words
    assert [panel.count(f'class="bg-{colour}-500"') for colour in ("green", "orange", "red")] == [2, 1, 1]
    assert "timeout after 30.0 s" in words


def test_the_list_shows_it_in_short(olga: Client, world: World) -> None:
    break_down(world.offer)
    html = olga.get(OFFERS).content.decode()
    assert "circuit open" in html
    assert "67 %, 10.0 s" in html
    assert html.count('class="bg-green-500"') == 2


def test_a_circuit_is_reset(olga: Client, world: World) -> None:
    break_down(world.offer)
    assert read_routes() == []
    answer = press(olga, page_of(world.offer), "Reset circuit")
    assert read_messages(answer) == ["qwen-image-max via official starts anew: nothing is held against it."]
    assert read_routes() == [("official", 3, 7)]
    assert read_log(world.offer) == [("olga", "Circuit reset")]
    assert list_buttons(olga, page_of(world.offer)) == []


def test_enter_in_a_field_saves_the_form(olga: Client, world: World) -> None:
    """The buttons of the panel stand in forms of their own, before that of the offer."""
    break_down(world.offer)
    html = olga.get(page_of(world.offer)).content.decode()
    assert html.index("Reset circuit") < html.index('id="offer_form"')


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"offer": {"enabled": False}}, "disabled"),
        ({"channel": {"enabled": False}}, "channel disabled"),
        ({"channel": {"draining_since": timezone.now()}}, "channel draining"),
        ({"offer": {"genuine": False}}, "not genuine"),
        ({"offer": {"weight": 0}}, "weight 0"),
        ({"offer": {"shadow_percent": 5}}, "shadow"),
        ({"health": {"circuit": "half_open"}}, "circuit half-open"),
        ({"health": {"circuit": "closed", "cooling_until": timezone.now() + timedelta(days=9)}}, "cooling down"),
        ({}, "serving"),
    ],
)
def test_the_list_says_why_an_offer_serves_or_not(
    olga: Client, world: World, columns: dict[str, dict[str, Any]], word: str
) -> None:
    Offer.objects.exclude(pk=world.offer.pk).delete()
    Offer.objects.update(**columns.get("offer", {"weight": 7}))
    Channel.objects.filter(pk=world.first.pk).update(**columns.get("channel", {"note": ""}))
    if "health" in columns:
        break_down(world.offer, **columns["health"])
    cell = olga.get(OFFERS).content.decode().partition("field-service")[2].partition("</td>")[0]
    assert " ".join(cell.rpartition("</span>")[0].rpartition(">")[2].split()) == word


# --- those who may only look ---


def test_a_viewer_changes_nothing(victor: Client, world: World) -> None:
    break_down(world.offer)
    fallen = reverse("admin:providers_offer_restart_canary", args=[world.offer.pk])
    reset = reverse("admin:providers_offer_reset_circuit", args=[world.offer.pk])
    assert list_buttons(victor, page_of(world.offer)) == []
    assert (victor.post(reset).status_code, victor.post(fallen).status_code) == (403, 403)
    victor.post(OFFERS, {"action": "disable_offers", "_selected_action": [world.offer.pk]})
    world.offer.refresh_from_db()
    assert (world.offer.enabled, OfferHealth.objects.get().circuit) == (True, "open")
