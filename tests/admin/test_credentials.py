"""Old keys on the page of their channel: what still needs them, and how they go."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from crazyrouter.generation.models import Attempt, Generation
from providers.models import Channel, Credential, add_credential
from tests.admin.forms import list_buttons, press, read_log, read_messages, select
from tests.admin.world import SECRET, World

CHANNELS = reverse("admin:providers_channel_changelist")
DELETE = "Delete old keys"


def page_of(channel: Channel) -> str:
    return reverse("admin:providers_channel_change", args=[channel.pk])


@pytest.fixture
def old(world: World) -> Credential:
    """The first channel's key, replaced ten minutes ago."""
    Credential.objects.update(created_at=timezone.now() - timedelta(days=90))
    replaced: Credential = world.first.credentials.get()
    newest = add_credential(world.first, "sk-of-this-year-0003")
    Credential.objects.filter(pk=newest.pk).update(created_at=timezone.now() - timedelta(minutes=10))
    return replaced


def read_panel(client: Client, channel: Channel) -> list[str]:
    panel = client.get(page_of(channel)).context["panel"]
    return [line.text for line in panel.lines if line.subject == "Old key"]


def test_without_an_old_key_there_is_nothing_to_delete(olga: Client, world: World) -> None:
    assert read_panel(olga, world.first) == []
    assert DELETE not in list_buttons(olga, page_of(world.first))


def test_a_key_that_nothing_needs_goes(olga: Client, world: World, old: Credential) -> None:
    assert read_panel(olga, world.first) == ["…9f3a is needed by nothing"]
    answer = press(olga, page_of(world.first), DELETE)
    assert read_messages(answer) == ["official: …9f3a deleted. Attempts still say which key they were sent with."]
    assert ("olga", "Old key …9f3a deleted") in read_log(world.first)
    old.refresh_from_db()
    assert (old.last4, old.ciphertext) == ("9f3a", "")
    shown = olga.get(page_of(world.first)).content.decode()
    assert (shown.count("kept, encrypted"), shown.count(">deleted<")) == (1, 1)
    assert (DELETE not in list_buttons(olga, page_of(world.first)), SECRET not in shown) == (True, True)
    attempts = olga.get(reverse("admin:generation_generation_change", args=[world.generation.pk])).content.decode()
    assert "…9f3a" in attempts


def test_a_key_that_is_needed_stays(olga: Client, world: World, old: Credential) -> None:
    """The page says so, and so does a page that was opened before."""
    Generation.objects.filter(pk=world.generation.pk).update(state="running", delivered=0)
    Attempt.objects.filter(generation=world.generation, number=2).update(state="accepted")
    why = "…9f3a stays: attempts that were sent with it and have not ended: 1"
    assert read_panel(olga, world.first) == [why]
    assert DELETE not in list_buttons(olga, page_of(world.first))
    answer = olga.post(reverse("admin:providers_channel_delete_old_keys", args=[world.first.pk]), follow=True)
    assert read_messages(answer) == [f"official: {why}"]
    old.refresh_from_db()
    assert old.reveal() == SECRET


def test_keys_of_many_channels_go_at_once(olga: Client, world: World, old: Credential) -> None:
    select(olga, CHANNELS, "delete_keys_of_channels", world.first, world.second)
    assert read_messages(olga.get(CHANNELS)) == [
        "official: …9f3a deleted. Attempts still say which key they were sent with.",
        "reseller has no old key.",
    ]
    assert Credential.objects.exclude(ciphertext="").count() == 2


def test_a_viewer_deletes_nothing(victor: Client, world: World, old: Credential) -> None:
    assert read_panel(victor, world.first) == ["…9f3a is needed by nothing"]
    assert DELETE not in list_buttons(victor, page_of(world.first))
    assert victor.post(reverse("admin:providers_channel_delete_old_keys", args=[world.first.pk])).status_code == 403
    old.refresh_from_db()
    assert old.reveal() == SECRET
