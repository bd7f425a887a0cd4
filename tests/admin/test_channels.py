"""Channels, their credentials and how they are taken out of service."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from providers.models import Channel, Credential
from tests.admin.forms import fill_in, read_errors, read_log, read_messages, select
from tests.admin.world import SECRET, World, read_routes

CHANNELS = reverse("admin:providers_channel_changelist")


def page_of(channel: Channel) -> str:
    return reverse("admin:providers_channel_change", args=[channel.pk])


# --- credentials ---


def test_a_secret_goes_in_and_never_comes_out(olga: Client, world: World) -> None:
    secret = "sk-another-secret-77b1"
    response = olga.post(page_of(world.first), fill_in(olga, page_of(world.first), secret=secret))
    assert response.status_code == 302
    newest, oldest = world.first.credentials.all()
    assert (newest.reveal(), oldest.reveal()) == (secret, SECRET)
    shown = olga.get(page_of(world.first)).content.decode()
    assert "…77b1" in shown
    history = olga.get(reverse("admin:providers_channel_history", args=[world.first.pk])).content.decode()
    for text in (secret, SECRET, newest.ciphertext, oldest.ciphertext):
        assert text not in shown
        assert text not in history
    assert ("olga", "Credential …77b1 appended") in read_log(world.first)
    assert all(secret not in said for _, said in read_log(world.first))


def test_a_form_with_an_error_does_not_give_the_secret_back(olga: Client, world: World) -> None:
    sent = fill_in(olga, page_of(world.first), secret="sk-typed-once-1234", base_url="nonsense")
    response = olga.post(page_of(world.first), sent)
    assert response.status_code == 200
    assert "sk-typed-once-1234" not in response.content.decode()
    assert Credential.objects.count() == 2


def test_an_empty_secret_keeps_the_credential(olga: Client, world: World) -> None:
    assert olga.post(page_of(world.first), fill_in(olga, page_of(world.first))).status_code == 302
    assert Credential.objects.count() == 2


@pytest.mark.parametrize("secret", ["short", "with space inside", "with\nline-break", "ключ-на-русском"])
def test_what_is_no_key_is_refused(olga: Client, world: World, secret: str) -> None:
    response = olga.post(page_of(world.first), fill_in(olga, page_of(world.first), secret=secret))
    assert "secret" in read_errors(response)
    assert Credential.objects.count() == 2


def test_a_credential_is_not_changed_through_its_channel(olga: Client, world: World) -> None:
    crafted = {
        "credentials-TOTAL_FORMS": "1",
        "credentials-INITIAL_FORMS": "1",
        "credentials-0-id": world.first.credentials.get().pk,
        "credentials-0-channel": world.first.pk,
        "credentials-0-last4": "evil",
        "credentials-0-DELETE": "on",
    }
    olga.post(page_of(world.first), fill_in(olga, page_of(world.first), **crafted))
    assert world.first.credentials.get().last4 == SECRET[-4:]


# --- channels ---


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("http://carrier.example/v1", "only https on port 443"),
        ("https://carrier.example:8443/v1", "only https on port 443"),
        ("https://169.254.169.254/v1", "the address is not public"),
        ("https://carrier.example/v1", ""),
        ("https://203.0.112.7/v1", ""),
        ("http://127.0.0.1:8001/v1", ""),
    ],
)
def test_an_address_that_is_not_reached_is_saved_with_a_warning(
    olga: Client, world: World, settings: Any, typed: str, said: str
) -> None:
    """It may be allowed later; until then every call would be refused without a word here."""
    settings.EGRESS_ALLOW = ["127.0.0.1:8001"]
    answer = olga.post(page_of(world.first), fill_in(olga, page_of(world.first), base_url=typed), follow=True)
    warning = f"Nothing will reach it: egress refused: {said}. EGRESS_ALLOW opens more."
    assert read_messages(answer)[:-1] == ([warning] if said else [])
    world.first.refresh_from_db()
    assert world.first.base_url == typed


def test_a_channel_with_its_credential_and_offer_in_one_form(olga: Client, world: World) -> None:
    address = reverse("admin:providers_channel_add")
    sent = fill_in(
        olga,
        address,
        name="beijing",
        kind="dashscope_sync",
        base_url="http://127.0.0.1:8766/api/v1",
        secret="sk-brand-new-0001",
        options="",
        enabled="on",
    )
    offer = {
        "offers-TOTAL_FORMS": "1",
        "offers-0-model": world.max.pk,
        "offers-0-upstream_model": "qwen-image-max",
        "offers-0-shape": "sync",
        "offers-0-priority": "-1",
        "offers-0-weight": "1",
        "offers-0-max_n": "1",
        "offers-0-cost_micros": "0.31",
        "offers-0-cost_currency": "CNY",
        "offers-0-genuine": "on",
        "offers-0-enabled": "on",
    }
    response = olga.post(address, sent | offer)
    assert response.status_code == 302, read_errors(response)
    channel = Channel.objects.get(name="beijing")
    assert (channel.options, channel.offers.get().cost_micros, channel.credentials.get().reveal()) == (
        {},
        310_000,
        "sk-brand-new-0001",
    )
    assert read_routes() == [("beijing", -1, 1), ("official", 3, 7)]


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ({"options": "[1]"}, "must be a JSON object"),
        ({"options": "{"}, "Enter a valid JSON"),
        ({"options": '{"colour": 1}'}, "colour: not an option of dashscope_sync"),
        ({"base_url": "ftp://carrier.example"}, "the address begins with https://"),
        ({"base_url": "https://user:pass@carrier.example"}, "a key belongs in the credential"),
        ({"base_url": "https://carrier.example/?key=1"}, "a key belongs in the credential"),
        ({"name": ""}, "required"),
    ],
)
def test_what_no_adapter_could_use_is_refused(olga: Client, world: World, typed: Any, complaint: str) -> None:
    response = olga.post(page_of(world.first), fill_in(olga, page_of(world.first), **typed))
    assert complaint in read_errors(response)
    world.first.refresh_from_db()
    assert (world.first.options, world.first.base_url) == ({}, "http://127.0.0.1:8001/api/v1")


def test_an_address_without_a_scheme_is_https(olga: Client, world: World) -> None:
    olga.post(page_of(world.first), fill_in(olga, page_of(world.first), base_url="carrier.example/v1"))
    world.first.refresh_from_db()
    assert world.first.base_url == "https://carrier.example/v1"


def test_a_new_channel_without_a_kind_is_an_error_on_the_page(olga: Client, world: World) -> None:
    offer = {"offers-TOTAL_FORMS": "1", "offers-0-model": world.max.pk, "offers-0-shape": "sync"}
    address = reverse("admin:providers_channel_add")
    response = olga.post(address, fill_in(olga, address, name="x", kind="", **offer))
    assert "kind" in read_errors(response)
    assert Channel.objects.count() == 2


def test_an_offer_of_the_wrong_shape_is_refused(olga: Client, world: World) -> None:
    sent = fill_in(olga, page_of(world.first), **{"offers-0-shape": "async"})
    assert "dashscope_sync is sync" in read_errors(olga.post(page_of(world.first), sent))


def test_the_kind_stays(olga: Client, world: World) -> None:
    olga.post(page_of(world.first), fill_in(olga, page_of(world.first), kind="openai_images"))
    world.first.refresh_from_db()
    assert world.first.kind == "dashscope_sync"


def test_channels_are_disabled_and_enabled_by_name(olga: Client, world: World) -> None:
    select(olga, CHANNELS, "disable_channels", world.first, world.second)
    world.first.refresh_from_db()
    assert (world.first.enabled, world.first.disabled_reason) == (False, "disabled by olga")
    assert read_routes() == []
    assert world.first.history.first().history_user == world.operator
    assert read_log(world.first) == [("olga", "Disabled")]
    select(olga, CHANNELS, "enable_channels", world.first)
    world.first.refresh_from_db()
    assert (world.first.enabled, world.first.disabled_reason) == (True, "")
    assert read_routes() == [("official", 3, 7)]


def test_disabling_again_keeps_the_first_reason(olga: Client, world: World) -> None:
    Channel.objects.filter(pk=world.first.pk).update(enabled=False, disabled_reason="arrears")
    select(olga, CHANNELS, "disable_channels", world.first)
    world.first.refresh_from_db()
    assert world.first.disabled_reason == "arrears"
    assert read_log(world.first) == []


def test_the_form_names_who_disabled(olga: Client, world: World) -> None:
    sent = fill_in(olga, page_of(world.first))
    sent.pop("enabled")
    olga.post(page_of(world.first), sent)
    world.first.refresh_from_db()
    assert (world.first.enabled, world.first.disabled_reason) == (False, "disabled by olga")


# --- those who may only look ---


def test_a_viewer_changes_nothing(victor: Client, world: World) -> None:
    assert victor.post(page_of(world.first), {"secret": "sk-evil-secret-1"}).status_code == 403
    victor.post(CHANNELS, {"action": "disable_channels", "_selected_action": [world.first.pk]})
    assert read_routes() == [("official", 3, 7)]
    assert Credential.objects.count() == 2
