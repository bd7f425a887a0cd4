"""Who waits for room, for which model, since when, and where."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from billing.models import Account
from crazyrouter.generation import admin_waiting
from crazyrouter.generation.models import WaitingCall
from models_registry.models import ImageModel
from providers.models import Capacity, UpstreamAccount
from tests.admin.world import World

WAITING = reverse("admin:generation_waitingcall_changelist")


def wait(world: World, number: int, *, since_s: float = 0, account: Account | None = None, wants: str = "") -> None:
    WaitingCall.objects.create(
        generation=world.generation,
        number=number,
        account=account or world.account,
        model=world.max,
        wants=wants,
        since=timezone.now() - timedelta(seconds=since_s),
    )


def read_counts(client: Client) -> list[list[str]]:
    return client.get(WAITING).context["queue"]["table"]["rows"]


def test_each_call_names_what_it_waits_for(olga: Client, world: World) -> None:
    upstream = UpstreamAccount.objects.create(name="dashscope-cn")
    first = Capacity.objects.create(account=upstream, upstream_model="qwen-image-max", max_running=2)
    second = Capacity.objects.create(account=upstream, max_running=2)
    wait(world, 1, wants=f"{second.pk},{first.pk}")
    wait(world, 2, wants="999")
    wait(world, 3)
    html = olga.get(WAITING).content.decode()
    assert "dashscope-cn: all other models or dashscope-cn: qwen-image-max" in html
    assert "capacity 999" in html
    assert "an upstream that cools down" in html
    assert reverse("admin:generation_generation_change", args=[world.generation.pk]) in html


def test_accounts_are_counted_by_model(olga: Client, world: World) -> None:
    other = Account.objects.create(name="Bolt")
    wait(world, 1, since_s=31)
    wait(world, 2, since_s=7, account=other)
    wait(world, 3, since_s=5, account=other)
    rows = read_counts(olga)
    assert [row[:3] for row in rows] == [["qwen-image-max", "Bolt", "2"], ["qwen-image-max", "Acme", "1"]]
    assert [float(row[3].removesuffix(" s")) >= least for row, least in zip(rows, (7, 31), strict=True)] == [True] * 2


def test_an_empty_queue_is_an_empty_list(olga: Client, world: World) -> None:
    assert read_counts(olga) == []
    assert 'id="queue"' not in olga.get(WAITING).content.decode()


def test_a_model_is_chosen(olga: Client, world: World) -> None:
    wait(world, 1)
    other = ImageModel.objects.get(name="qwen-image-2.0")
    assert list(olga.get(WAITING, {"model__id__exact": other.pk}).context["cl"].result_list) == []
    assert len(olga.get(WAITING, {"model__id__exact": world.max.pk}).context["cl"].result_list) == 1


def test_many_accounts_are_not_all_listed(olga: Client, world: World) -> None:
    for number in range(admin_waiting.SHOWN + 2):
        wait(world, number, account=Account.objects.create(name=f"Account {number}"))
    assert len(read_counts(olga)) == admin_waiting.SHOWN
    assert "And 2 more accounts" in olga.get(WAITING).content.decode()


def test_a_long_queue_costs_as_many_queries_as_a_short_one(olga: Client, world: World) -> None:
    upstream = UpstreamAccount.objects.create(name="dashscope-cn")
    capacity = Capacity.objects.create(account=upstream, max_running=2)
    wait(world, 1, wants=str(capacity.pk))
    olga.get(WAITING)
    with CaptureQueriesContext(connection) as few:
        olga.get(WAITING)
    for number in range(2, 40):
        wait(world, number, wants=str(capacity.pk))
    with CaptureQueriesContext(connection) as many:
        olga.get(WAITING)
    assert len(many) == len(few)


def test_the_page_of_a_generation_says_what_waits(olga: Client, world: World) -> None:
    wait(world, 3)
    html = olga.get(reverse("admin:generation_generation_change", args=[world.generation.pk])).content.decode()
    assert "#3 waits for room since" in html


def test_nobody_changes_the_queue(olga: Client, world: World) -> None:
    wait(world, 1)
    row = WaitingCall.objects.get()
    assert olga.post(reverse("admin:generation_waitingcall_delete", args=[row.pk])).status_code == 403
    assert olga.get(reverse("admin:generation_waitingcall_add")).status_code == 403
