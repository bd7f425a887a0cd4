"""Checks of the books in the admin: read by whoever may, asked for again, and seen on every page when they fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from crazyrouter.generation import admin_checks
from crazyrouter.generation.models import BooksCheck

LIST = "admin:generation_bookscheck_changelist"
ADD = "admin:generation_bookscheck_add"
MOMENT = datetime(2026, 11, 22, 20, 17, tzinfo=UTC)


def add_check(**facts: Any) -> BooksCheck:
    defaults = {"entries": 1_234_567, "violations": 0, "notices": 0, "findings": []}
    return BooksCheck.objects.create(
        started_at=MOMENT, finished_at=MOMENT + timedelta(seconds=12.34), **(defaults | facts)
    )


def add_wrong_check() -> BooksCheck:
    findings = [
        ["image-is-charged", "gen_x", "slot 1 is stored <b>and</b> not charged", False],
        ["driver-is-gone", "gen_y", "its process stopped", True],
    ]
    return add_check(violations=12, notices=1, findings=findings)


def read(client: Client, check: BooksCheck) -> str:
    return client.get(reverse("admin:generation_bookscheck_change", args=[check.pk])).content.decode()


def test_a_check_that_found_nothing(olga: Client) -> None:
    check = add_check()
    listed = olga.get(reverse(LIST)).content.decode()
    assert "1,234,567" in listed
    assert "12.3 s" in listed
    assert "right" in listed
    assert "Nothing: every balance" in read(olga, check)


def test_what_was_found_is_readable(olga: Client) -> None:
    page = read(olga, add_wrong_check())
    assert "12 violations" in page
    assert "Check of 2026-11-23 04:17" in page
    assert "(&#x27;wrong&#x27;" not in page
    assert page.index("image-is-charged") < page.index("driver-is-gone")
    assert "slot 1 is stored &lt;b&gt;and&lt;/b&gt; not charged" in page
    assert "11 more were counted" in page


def test_every_page_says_that_the_last_check_failed(olga: Client) -> None:
    add_wrong_check()
    for name in ("admin:index", "admin:billing_account_changelist", LIST):
        assert "Books: 12 violations" in olga.get(reverse(name)).content.decode()
    add_check()
    assert "Books:" not in olga.get(reverse("admin:index")).content.decode()


def test_who_may_not_see_checks_is_told_nothing(victor: Client) -> None:
    add_wrong_check()
    assert "Books: 12 violations" in victor.get(reverse("admin:index")).content.decode()
    User.objects.get(username="victor").user_permissions.set(Permission.objects.filter(codename="view_account"))
    assert "Books:" not in victor.get(reverse("admin:index")).content.decode()
    assert victor.get(reverse(LIST)).status_code == 403
    assert victor.get(reverse(ADD)).status_code == victor.post(reverse(ADD)).status_code == 403
    assert "Books:" not in Client().get(reverse("admin:login")).content.decode()


@pytest.mark.parametrize(("answers", "said"), [(True, "The worker checks the books"), (False, "cannot be reached")])
def test_a_check_is_asked_for(victor: Client, monkeypatch: pytest.MonkeyPatch, answers: bool, said: str) -> None:
    """The worker does it: the request itself writes and reads nothing of the books."""
    rung: list[bool] = []

    def ring() -> bool:
        rung.append(answers)
        return answers

    monkeypatch.setattr(admin_checks, "ring_worker", ring)
    assert "Check now" in victor.get(reverse(ADD)).content.decode()
    assert rung == []
    answer = victor.post(reverse(ADD), follow=True)
    assert answer.redirect_chain == [(reverse(LIST), 302)]
    assert said in answer.content.decode()
    assert (rung, BooksCheck.objects.count()) == ([answers], 0)


def test_a_check_is_neither_changed_nor_deleted(olga: Client) -> None:
    check = add_check()
    page = reverse("admin:generation_bookscheck_change", args=[check.pk])
    assert olga.post(page, {"violations": 0}).status_code == 403
    assert olga.post(reverse("admin:generation_bookscheck_delete", args=[check.pk])).status_code == 403
