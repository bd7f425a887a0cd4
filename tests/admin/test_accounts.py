"""Upstream accounts and their limits: people set the limits, and never take back what routing has counted."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from providers.models import Capacity, Channel, UpstreamAccount
from tests.admin.forms import fill_in, read_errors, read_log
from tests.admin.world import World

ACCOUNTS = reverse("admin:providers_upstreamaccount_changelist")
STARTS = [1_795_000_000_000, 1_795_000_021_500]


@pytest.fixture
def account(world: World) -> UpstreamAccount:
    account = UpstreamAccount.objects.create(name="dashscope-cn", polls_per_s=20)
    Channel.objects.filter(pk=world.first.pk).update(account=account)
    Capacity.objects.create(
        account=account, upstream_model="qwen-image-max", submit_interval_ms=30_000, submit_burst=2, max_running=2
    )
    return account


def page_of(account: UpstreamAccount) -> str:
    return reverse("admin:providers_upstreamaccount_change", args=[account.pk])


def save(client: Client, account: UpstreamAccount, **typed: Any) -> Any:
    return client.post(page_of(account), fill_in(client, page_of(account), **typed))


def test_limits_are_told_in_words(olga: Client, account: UpstreamAccount) -> None:
    Capacity.objects.update(running=1, starts=STARTS, call_ms=21_340)
    Capacity.objects.create(account=account, submit_interval_ms=500)
    for html in (olga.get(page_of(account)).content.decode(), olga.get(ACCOUNTS).content.decode()):
        assert "2 submits per 60 s, 2 at a time" in html
        assert "1 of 2 running, a call takes 21.3 s" in html
        assert "1 submit per 0.5 s" in html
    page = olga.get(page_of(account)).content.decode()
    assert "official" in page
    # Shanghai's time, the newest first.
    assert "2026-11-18 19:07, 2026-11-18 19:06" in page
    assert "20 a second" in olga.get(ACCOUNTS).content.decode()


def test_a_save_writes_what_was_typed_and_nothing_else(olga: Client, account: UpstreamAccount) -> None:
    """Calls began and polls were made while the page was open."""
    sent = fill_in(olga, page_of(account), **{"capacities-0-max_running": "5", "note": "raised"})
    Capacity.objects.update(running=2, starts=STARTS, call_ms=9_000)
    UpstreamAccount.objects.update(polls_reserved_until_ms=77)
    assert olga.post(page_of(account), sent).status_code == 302
    capacity = Capacity.objects.get()
    assert (capacity.max_running, capacity.running, capacity.starts, capacity.call_ms) == (5, 2, STARTS, 9_000)
    account.refresh_from_db()
    assert (account.note, account.polls_reserved_until_ms) == ("raised", 77)
    assert capacity.history.first().max_running == 5
    assert capacity.history.first().history_user.username == "olga"
    assert len(read_log(account)) == 1


def test_state_cannot_be_typed(olga: Client, account: UpstreamAccount) -> None:
    typed = {"capacities-0-running": "9", "capacities-0-starts": "[1]", "capacities-0-max_running": "3"}
    assert save(olga, account, **typed).status_code == 302
    capacity = Capacity.objects.get()
    assert (capacity.max_running, capacity.running, capacity.starts) == (3, 0, [])


def test_a_line_is_added_and_one_taken_away(olga: Client, account: UpstreamAccount) -> None:
    line = {
        "capacities-TOTAL_FORMS": "2",
        "capacities-0-DELETE": "on",
        "capacities-1-account": account.pk,
        "capacities-1-submit_burst": "1",
        "capacities-1-max_running": "4",
    }
    answer = save(olga, account, **line)
    assert answer.status_code == 302, read_errors(answer)
    assert list(Capacity.objects.values_list("upstream_model", "max_running")) == [("", 4)]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"capacities-0-submit_burst": "0"}, "from 1 to 100"),
        ({"capacities-0-submit_burst": "101"}, "from 1 to 100"),
        ({"capacities-0-submit_interval_ms": "0"}, "at least 1; empty for no limit"),
        ({"capacities-0-max_running": "0"}, "at least 1; empty for no limit"),
        ({"polls_per_s": "0"}, "at least 1; empty for no limit"),
    ],
)
def test_limits_that_would_stop_everything_are_refused(
    olga: Client, account: UpstreamAccount, typed: dict[str, str], said: str
) -> None:
    """Said at the field, in words, and not by the name of a constraint."""
    answer = save(olga, account, **typed)
    assert answer.status_code == 200
    assert said in read_errors(answer)
    assert "is violated" not in answer.content.decode()
    assert Capacity.objects.get().submit_burst == 2


def test_an_account_in_use_stays(olga: Client, account: UpstreamAccount) -> None:
    page = reverse("admin:providers_upstreamaccount_delete", args=[account.pk])
    assert "official" in olga.get(page).content.decode()
    olga.post(page, {"post": "yes"})
    assert UpstreamAccount.objects.count() == 1


def test_a_channel_is_put_on_an_account(olga: Client, world: World, account: UpstreamAccount) -> None:
    page = reverse("admin:providers_channel_change", args=[world.second.pk])
    assert olga.post(page, fill_in(olga, page, account=account.pk)).status_code == 302
    world.second.refresh_from_db()
    assert world.second.account == account


def test_a_history_says_where_nothing_was(olga: Client, world: World, account: UpstreamAccount) -> None:
    """And not that it was deleted."""
    page = reverse("admin:providers_channel_change", args=[world.second.pk])
    olga.post(page, fill_in(olga, page, account=account.pk))
    olga.post(page, fill_in(olga, page, account=""))
    html = olga.get(reverse("admin:providers_channel_history", args=[world.second.pk])).content.decode()
    assert "Deleted upstream account" not in html
    shown = " ".join(re.sub(r"<[^>]+>|arrow_right_alt", " ", html).split())
    assert "Upstream account: – dashscope-cn" in shown
    assert "Upstream account: dashscope-cn –" in shown


def test_a_version_that_came_back_is_called_so(olga: Client, account: UpstreamAccount) -> None:
    """And takes nothing back that routing has counted."""
    first = account.history.create(
        history_date=datetime(2026, 11, 22, 4, 30, tzinfo=UTC),
        history_type="~",
        id=account.pk,
        name=account.name,
        polls_per_s=15,
        note="",
    )
    address = reverse("admin:providers_upstreamaccount_simple_history", args=[account.pk, first.pk])
    Capacity.objects.update(running=2, starts=STARTS)
    UpstreamAccount.objects.update(polls_reserved_until_ms=77)
    assert olga.post(address, {"name": account.name, "polls_per_s": "15", "note": ""}).status_code == 302
    account.refresh_from_db()
    assert (account.polls_per_s, account.polls_reserved_until_ms) == (15, 77)
    assert Capacity.objects.values_list("running", "starts").get() == (2, STARTS)
    assert read_log(account) == [("olga", "Back to the version of 2026-11-22 12:30:00")]


def test_a_viewer_changes_no_limit(victor: Client, account: UpstreamAccount) -> None:
    assert victor.get(page_of(account)).status_code == 200
    assert victor.post(page_of(account), {"polls_per_s": "1"}).status_code == 403
