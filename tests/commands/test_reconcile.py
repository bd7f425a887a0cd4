"""`manage.py reconcile` and the check of every night: what they say, keep and forget."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from kombu.exceptions import OperationalError

from billing.models import Account
from billing.reconcile import Violation
from crazyrouter.celery import app
from crazyrouter.generation import audit
from crazyrouter.generation.audit import Tally, keep_check, record_check, ring_worker
from crazyrouter.generation.models import BooksCheck
from crazyrouter.generation.tasks import check_books
from tests.shop import Customer, open_customer

SEND = "crazyrouter.generation.audit.current_app.send_task"


def run(*arguments: str) -> tuple[str, str, int]:
    out, err, code = StringIO(), StringIO(), 0
    try:
        call_command("reconcile", *arguments, stdout=out, stderr=err)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return out.getvalue(), err.getvalue(), code


@pytest.fixture
def alice(database: None) -> Customer:
    return open_customer(micros=1_000_000)


def spoil(customer: Customer) -> None:
    Account.objects.filter(pk=customer.account.pk).update(balance_micros=5, credit_limit_micros=0)


def test_books_that_are_right(alice: Customer) -> None:
    assert run() == ("the books are right\n", "", 0)
    assert run("--files") == ("the books are right\n", "", 0)
    assert BooksCheck.objects.count() == 0


@pytest.mark.parametrize("arguments", [(), ("--record",)])
def test_books_that_are_wrong(alice: Customer, arguments: tuple[str, ...]) -> None:
    spoil(alice)
    said = "VIOLATION  balance-is-sum-of-entries  alice: balance 5, but its entries add up to 1000000 (micro-units)\n"
    assert run(*arguments) == (said, "1 violation(s)\n", 1)


def test_a_notice_is_no_violation(alice: Customer) -> None:
    Account.objects.filter(pk=alice.account.pk).update(held_micros=0)
    open_customer("bob", micros=0)
    Account.objects.create(name="carol")
    assert run()[2] == 0


def test_of_each_rule_a_hundred_are_named_and_the_others_counted(database: None) -> None:
    Account.objects.bulk_create(Account(name=f"a{n:03}", spent_micros=1, sequence=n == 0) for n in range(103))
    out, err, code = run()
    lines = out.splitlines()
    assert len([line for line in lines if line.startswith("VIOLATION  spent-is-sum-of-usage")]) == 100
    assert len([line for line in lines if line.startswith("VIOLATION  sequence-has-no-gap")]) == 1
    assert lines[-1] == "and 3 more of spent-is-sum-of-usage"
    assert (len(lines), err, code) == (102, "104 violation(s)\n", 1)


def test_a_check_is_recorded(alice: Customer) -> None:
    spoil(alice)
    before = timezone.now()
    check_books()
    check = BooksCheck.objects.get()
    assert before <= check.started_at <= check.finished_at <= timezone.now()
    assert (check.entries, check.violations, check.notices) == (1, 1, 0)
    said = "balance 5, but its entries add up to 1000000 (micro-units)"
    assert check.findings == [["balance-is-sum-of-entries", "alice", said, False]]


def test_a_recorded_check_keeps_a_few_of_each_rule(database: None) -> None:
    Account.objects.bulk_create(Account(name=f"a{n:03}", spent_micros=1, sequence=1) for n in range(15))
    check = record_check()
    assert (check.violations, check.notices) == (30, 0)
    assert [rule for rule, *_ in check.findings] == ["sequence-has-no-gap"] * 10 + ["spent-is-sum-of-usage"] * 10
    out, _, code = run("--record")
    assert (out.splitlines()[-1], code) == ("and 10 more", 1)


def test_violations_are_kept_before_notices(db: None) -> None:
    tally = Tally(10)
    for number in range(30):
        tally.add(Violation(f"rule-{number % 12}", str(number), "", notice=number % 2 == 0))
    for number in range(900):
        tally.add(Violation(f"other-{number}", str(number), "", notice=False))
    check = keep_check(timezone.now(), 0, tally)
    assert (len(check.findings), check.violations, check.notices) == (100, 915, 15)
    assert not any(notice for *_, notice in check.findings)


def test_the_last_ninety_checks_are_kept(alice: Customer) -> None:
    long_ago = timezone.now() - timedelta(days=200)
    facts = {"started_at": long_ago, "finished_at": long_ago, "entries": 0, "violations": 0, "notices": 0}
    old = BooksCheck.objects.bulk_create(BooksCheck(**facts) for _ in range(95))
    check = record_check()
    kept = list(BooksCheck.objects.order_by("id").values_list("id", flat=True))
    assert kept == [row.pk for row in old[6:]] + [check.pk]
    assert len(kept) == audit.CHECKS_KEPT == 90


def test_the_clock_rings_at_night() -> None:
    line = app.conf.beat_schedule["generation.check_books"]
    assert (line["task"], line["schedule"].hour, line["schedule"].minute) == ("generation.check_books", {4}, {17})
    assert "generation.check_books" in app.tasks


def test_a_broker_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(SEND, lambda name, **_: sent.append(name))
    assert ring_worker() is True
    assert sent == ["generation.check_books"]

    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("no broker")

    monkeypatch.setattr(SEND, refuse)
    assert ring_worker() is False
