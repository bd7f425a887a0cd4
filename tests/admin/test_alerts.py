"""Alerts: seen on every page while they are open, resolved by one click."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crazyrouter.generation.models import BooksCheck
from providers.models import Alert
from tests.admin.forms import list_buttons, press, read_log, read_messages
from tests.admin.world import World

ALERTS = reverse("admin:providers_alert_changelist")


def add_alert(world: World, number: int = 1, **columns: Any) -> Alert:
    facts = {"kind": "credential", "subject": f"channel {number}", "text": f"Disabled: 401 number {number}"}
    return Alert.objects.create(channel=world.first, **facts | columns)


def page_of(alert: Alert) -> str:
    return reverse("admin:providers_alert_change", args=[alert.pk])


def read_badge(client: Client) -> str:
    """What stands behind Alerts in the navigation."""
    link = client.get(reverse("admin:index")).content.decode().partition(f'href="{ALERTS}"')[2].partition("</a>")[0]
    return " ".join(link.rpartition("<span>Alerts</span>")[2].rpartition("</span>")[0].rpartition(">")[2].split())


def read_label(client: Client, name: str) -> str:
    """What the corner of the page says, if anything."""
    answer = client.get(reverse(name))
    label = answer.context["environment"]
    assert label is None or label[0] in answer.content.decode()
    return label[0] if label else ""


def test_every_page_says_how_many_are_open(olga: Client, world: World) -> None:
    assert (read_label(olga, "admin:index"), read_badge(olga)) == ("", "")
    add_alert(world)
    for name in ("admin:index", "admin:billing_account_changelist", "admin:providers_offer_changelist"):
        assert read_label(olga, name) == "1 alert"
    add_alert(world, 2)
    assert (read_label(olga, "admin:index"), read_badge(olga)) == ("2 alerts", "2")
    Alert.objects.update(resolved_at=timezone.now())
    assert (read_label(olga, "admin:index"), read_badge(olga)) == ("", "")


def test_wrong_books_go_first(olga: Client, world: World) -> None:
    add_alert(world)
    now = timezone.now()
    BooksCheck.objects.create(started_at=now, finished_at=now, entries=1, violations=3, notices=0)
    assert read_label(olga, "admin:index") == "Books: 3 violations · 1 alert"


def test_who_may_not_see_alerts_is_told_nothing(victor: Client, world: World) -> None:
    add_alert(world)
    assert read_label(victor, "admin:index") == "1 alert"
    User.objects.get(username="victor").user_permissions.set(Permission.objects.filter(codename="view_account"))
    assert read_label(victor, "admin:index") == ""
    assert ALERTS not in victor.get(reverse("admin:index")).content.decode()


def test_an_alert_names_the_model_that_it_is_about(olga: Client, world: World) -> None:
    """A channel has several offers; the words of a fallen canary are the same for each."""
    fallen = add_alert(world, kind="canary_fallen", subject=f"offer {world.offer.pk}", text="The canary fell back")
    gone = add_alert(world, kind="canary_fallen", subject="offer 999", text="The canary fell back")
    whole = add_alert(world, world.first.pk)
    offer = f'<a href="{reverse("admin:providers_offer_change", args=[world.offer.pk])}"'
    channel = f'<a href="{reverse("admin:providers_channel_change", args=[world.first.pk])}"'
    html = olga.get(ALERTS).content.decode()
    assert (html.count(offer), html.count(channel)) == (1, 2)
    assert "qwen-image-max via official</a>" in html
    for alert, link in ((fallen, offer), (gone, channel), (whole, channel)):
        assert link in olga.get(page_of(alert)).content.decode()


def test_a_list_asks_once_for_all_its_offers(olga: Client, world: World, django_assert_num_queries: Any) -> None:
    add_alert(world, kind="canary_fallen", subject=f"offer {world.offer.pk}")
    with CaptureQueriesContext(connection) as one:
        olga.get(ALERTS)
    add_alert(world, kind="canary_fallen", subject=f"offer {world.spare.pk}")
    with django_assert_num_queries(len(one)):
        olga.get(ALERTS)


def test_open_ones_stand_first(olga: Client, world: World) -> None:
    now = timezone.now()
    old = add_alert(world, 1, last_at=now - timedelta(days=2))
    resolved = add_alert(world, 2, last_at=now, resolved_at=now, resolved_by="finn")
    new = add_alert(world, 3, last_at=now - timedelta(days=1))
    shown = olga.get(ALERTS).context["cl"].result_list
    assert [alert.pk for alert in shown] == [new.pk, old.pk, resolved.pk]
    assert list_buttons(olga, ALERTS) == ["Resolve", "Resolve"]


@pytest.mark.parametrize("page", ["list", "own"])
def test_one_click_resolves(olga: Client, world: World, page: str) -> None:
    alert = add_alert(world, times=7)
    address = ALERTS if page == "list" else page_of(alert)
    answer = press(olga, address, "Resolve")
    assert answer.redirect_chain == [(address, 302)]
    assert read_messages(answer) == ["Resolved. The same trouble would open a new alert."]
    alert.refresh_from_db()
    assert (alert.resolved_by, alert.resolved_at is not None) == ("olga", True)
    assert read_log(alert) == [("olga", "Resolved")]
    assert list_buttons(olga, page_of(alert)) == []


def test_resolving_twice_keeps_the_first(olga: Client, world: World) -> None:
    alert = add_alert(world, resolved_at=timezone.now(), resolved_by="finn")
    answer = olga.post(reverse("admin:providers_alert_resolve", args=[alert.pk]), follow=True)
    assert read_messages(answer) == ["It was resolved already."]
    alert.refresh_from_db()
    assert alert.resolved_by == "finn"


def test_a_viewer_resolves_nothing(victor: Client, world: World) -> None:
    alert = add_alert(world)
    assert (list_buttons(victor, ALERTS), list_buttons(victor, page_of(alert))) == ([], [])
    assert victor.post(reverse("admin:providers_alert_resolve", args=[alert.pk])).status_code == 403
    alert.refresh_from_db()
    assert alert.resolved_at is None
