"""A channel that drains takes nothing new, and is disabled when its calls have ended, not before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crazyrouter.generation.drains import count_running_calls, end_drains
from crazyrouter.generation.models import Attempt, Generation
from providers.models import Channel
from tests.admin.forms import fill_in, list_buttons, press, read_log, read_messages, select
from tests.admin.world import World, read_routes

CHANNELS = reverse("admin:providers_channel_changelist")


def page_of(channel: Channel) -> str:
    return reverse("admin:providers_channel_change", args=[channel.pk])


def add_call(world: World, number: int, **columns: Any) -> Attempt:
    """One more call of the world's generation, at its first channel."""
    attempt = world.generation.attempts.get(number=1)
    attempt.pk, attempt.number = None, number
    for name, value in {"state": "accepted", "ended_at": None, **columns}.items():
        setattr(attempt, name, value)
    attempt.save()
    return attempt


def run_generation(world: World, state: str = "running") -> None:
    Generation.objects.filter(pk=world.generation.pk).update(state=state, delivered=0)


def begin_drain(channel: Channel, *, ago_s: float = 60) -> None:
    Channel.objects.filter(pk=channel.pk).update(draining_since=timezone.now() - timedelta(seconds=ago_s))


def read_state(channel: Channel) -> tuple[bool, str, bool]:
    """Enabled, why not, draining."""
    channel.refresh_from_db()
    return channel.enabled, channel.disabled_reason, channel.draining_since is not None


# --- by hand ---


def test_one_click_drains(olga: Client, world: World) -> None:
    answer = press(olga, page_of(world.first), "Drain")
    assert read_messages(answer) == [
        "official takes nothing new from now on, and is disabled when its calls have ended."
    ]
    assert read_state(world.first) == (True, "", True)
    assert read_routes() == []
    version = world.first.history.first()
    assert (version.history_user, version.history_change_reason) == (world.operator, "drain")
    assert version.draining_since == world.first.draining_since
    assert read_log(world.first) == [("olga", "Drain begun")]
    assert list_buttons(olga, page_of(world.first)) == ["Stop draining"]


def test_one_click_ends_it(olga: Client, world: World) -> None:
    begin_drain(world.first)
    answer = press(olga, page_of(world.first), "Stop draining")
    assert read_messages(answer) == ["official is in service again."]
    assert read_state(world.first) == (True, "", False)
    assert read_routes() == [("official", 3, 7)]
    assert read_log(world.first) == [("olga", "Drain stopped")]


def test_the_list_drains_several(olga: Client, world: World) -> None:
    Channel.objects.filter(pk=world.second.pk).update(enabled=False)
    select(olga, CHANNELS, "drain_channels", world.first, world.second)
    assert (read_state(world.first), read_state(world.second)) == ((True, "", True), (False, "", False))
    since = world.first.draining_since
    select(olga, CHANNELS, "drain_channels", world.first)
    world.first.refresh_from_db()
    assert world.first.draining_since == since
    select(olga, CHANNELS, "stop_draining_channels", world.first, world.second)
    assert (read_state(world.first), read_state(world.second)) == ((True, "", False), (False, "", False))


@pytest.mark.parametrize(("action", "left"), [("enable_channels", True), ("disable_channels", False)])
def test_switching_it_by_hand_ends_the_drain(olga: Client, world: World, action: str, left: bool) -> None:
    begin_drain(world.first)
    select(olga, CHANNELS, action, world.first)
    assert read_state(world.first) == (left, "" if left else "disabled by olga", False)


def test_switching_it_in_the_form_ends_the_drain(olga: Client, world: World) -> None:
    begin_drain(world.first)
    sent = fill_in(olga, page_of(world.first))
    sent.pop("enabled")
    olga.post(page_of(world.first), sent)
    assert read_state(world.first) == (False, "disabled by olga", False)
    assert world.first.history.first().draining_since is None


def test_saving_the_form_keeps_the_drain(olga: Client, world: World) -> None:
    sent = fill_in(olga, page_of(world.first), note="moved")
    begin_drain(world.first)
    assert olga.post(page_of(world.first), sent).status_code == 302
    assert read_state(world.first) == (True, "", True)


def test_a_viewer_drains_nothing(victor: Client, world: World) -> None:
    assert list_buttons(victor, page_of(world.first)) == []
    for name in ("drain", "stop_draining"):
        page = reverse(f"admin:providers_channel_{name}", args=[world.first.pk])
        assert victor.post(page).status_code == 403
    assert read_state(world.first) == (True, "", False)


# --- what still runs ---


def test_calls_that_run_are_counted_by_channel(world: World) -> None:
    run_generation(world)
    assert count_running_calls([world.first.pk]) == {}
    add_call(world, 3)
    add_call(world, 4, state="created")
    add_call(world, 5, channel=world.second)
    for number, ended in enumerate(("rejected", "succeeded", "failed", "unknown"), start=6):
        add_call(world, number, state=ended)
    assert count_running_calls([world.first.pk, world.second.pk]) == {world.first.pk: 2, world.second.pk: 1}
    assert count_running_calls([world.second.pk]) == {world.second.pk: 1}
    assert count_running_calls([]) == {}


def test_shadows_outlive_their_generation(world: World) -> None:
    add_call(world, 3, purpose="shadow", created_at=timezone.now())
    add_call(world, 4, purpose="shadow", created_at=timezone.now() - timedelta(days=2))
    add_call(world, 5)
    assert count_running_calls([world.first.pk]) == {world.first.pk: 1}


def test_the_count_goes_by_what_runs(world: World) -> None:
    """SQLite's plan, made without knowing how many rows there are: neither table is walked."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's plans go by the number of rows")
    with CaptureQueriesContext(connection) as queries:
        count_running_calls([world.first.pk])
    plans = []
    for query in queries.captured_queries:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
            plans.append(" / ".join(line for *_, line in cursor.fetchall()))
    assert len(plans) == 2
    assert "generation_running" in plans[0]
    assert "attempt_shadow" in plans[1]
    assert "SCAN generation_attempt" not in "".join(plans)


def test_the_page_and_the_list_tell_how_many(olga: Client, world: World) -> None:
    run_generation(world)
    add_call(world, 3)
    add_call(world, 4)
    assert "draining," not in olga.get(CHANNELS).content.decode()
    begin_drain(world.first)
    assert "draining, 2 calls running" in olga.get(CHANNELS).content.decode()
    words = " ".join(olga.get(page_of(world.first)).content.decode().split())
    assert "draining since" in words
    assert ", 2 calls running" in words


# --- the end ---


def test_a_drain_ends_with_the_last_call(world: World) -> None:
    run_generation(world)
    call = add_call(world, 3)
    begin_drain(world.first)
    assert (end_drains(), read_state(world.first)) == (0, (True, "", True))
    Attempt.objects.filter(pk=call.pk).update(state="succeeded")
    assert (end_drains(), read_state(world.first)) == (1, (False, "drained", False))
    version = world.first.history.first()
    assert (version.enabled, version.history_change_reason, version.history_user) == (False, "drained", None)
    assert end_drains() == 0


def test_a_drain_does_not_end_before_every_process_knows_of_it(world: World) -> None:
    begin_drain(world.first, ago_s=1)
    assert (end_drains(), read_state(world.first)) == (0, (True, "", True))


def test_a_drain_that_was_stopped_meanwhile_is_not_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_drain(world.first)

    def stop(channel_ids: list[int]) -> dict[int, int]:
        Channel.objects.filter(pk__in=channel_ids).update(draining_since=None)
        return {}

    monkeypatch.setattr("crazyrouter.generation.drains.count_running_calls", stop)
    assert (end_drains(), read_state(world.first)) == (0, (True, "", False))


def test_what_was_drained_is_enabled_as_ever(olga: Client, world: World) -> None:
    begin_drain(world.first)
    end_drains()
    assert "drained" in olga.get(CHANNELS).content.decode()
    select(olga, CHANNELS, "enable_channels", world.first)
    assert read_state(world.first) == (True, "", False)
    assert read_routes() == [("official", 3, 7)]
