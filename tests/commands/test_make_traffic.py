"""Made-up traffic: its books are right, the same seed makes the same, and no real shop gets any by mistake."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum

from billing.ledger import top_up
from billing.models import Account, ApiKey, Booking, Hold, LedgerEntry, RefundedCharge, UsageDay
from crazyrouter.files.models import StoredImage
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.management.commands.make_traffic import Command
from crazyrouter.management.traffic import story
from crazyrouter.management.traffic.cast import hire_cast
from crazyrouter.management.traffic.plan import Plan
from crazyrouter.management.traffic.story import write_traffic
from tests.books import read_violations
from tests.reset import reset_database

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments: str) -> str:
    out = StringIO()
    call_command("make_traffic", "--yes", *arguments, stdout=out)
    return out.getvalue()


def read_story() -> list[tuple[Any, ...]]:
    entries = LedgerEntry.objects.order_by("id")
    generations = Generation.objects.order_by("id")
    return [
        *entries.values_list("sequence", "kind", "amount_micros", "balance_after_micros", "reference", "booked_at"),
        *generations.values_list("id", "state", "failure", "n", "delivered", "created_at", "finished_at"),
        *StoredImage.objects.order_by("id").values_list("name", "generation_id", "slot", "sha256"),
    ]


def test_its_books_are_right(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "REFUNDS_ONE_IN", 20)
    assert make("--generations", "400", "--accounts", "5", "--days", "40").startswith("400 generations in ")
    assert read_violations() == []
    assert (Generation.objects.count(), Hold.objects.count()) == (400, 400)
    assert Hold.objects.filter(state="open").count() == 0
    images = StoredImage.objects.count()
    assert (
        LedgerEntry.objects.filter(kind="charge").count() == images == UsageDay.objects.aggregate(n=Sum("images"))["n"]
    )
    assert Attempt.objects.aggregate(n=Sum("images"))["n"] == images
    refunds = LedgerEntry.objects.filter(kind="refund")
    assert 0 < refunds.count() == RefundedCharge.objects.count() == Booking.objects.filter(kind="refund").count()
    assert Account.objects.count() == 5
    assert ApiKey.objects.count() == 10


def test_one_account_has_most_of_it(database: None) -> None:
    make("--generations", "400", "--accounts", "5")
    counts = [Generation.objects.filter(account=account).count() for account in Account.objects.order_by("id")]
    assert 0.5 < counts[0] / 400 < 0.7
    assert all(counts)


def test_the_counters_are_of_the_latest_month(database: None) -> None:
    make("--generations", "300", "--accounts", "2", "--days", "40")
    for account in Account.objects.all():
        days = UsageDay.objects.filter(account=account)
        latest = f"{days.latest('day').day:%Y-%m}"
        of_month = days.filter(day__gte=f"{latest}-01").aggregate(n=Sum("amount_micros"))["n"]
        assert (account.month, account.month_spent_micros) == (latest, of_month)
        assert account.spent_micros == days.aggregate(n=Sum("amount_micros"))["n"]
        assert account.spent_micros == sum(account.keys.values_list("spent_micros", flat=True))


def test_the_same_seed_is_the_same_story(database: None) -> None:
    stories = []
    for seed in ("3", "3", "4"):
        make("--generations", "60", "--seed", seed, "--until", "2026-03-01")
        stories.append(read_story())
        reset_database()
    assert stories[0] == stories[1]
    assert stories[0] != stories[2]


def test_batches_go_on_where_the_last_ended(database: None) -> None:
    plan = Plan(generations=250, accounts=3, days=10, seed=1, until=datetime(2026, 3, 1, tzinfo=UTC), batch=100)
    assert list(write_traffic(plan, hire_cast(plan))) == [100, 200, 250]
    assert read_violations() == []


def test_more_of_it_is_added_only_when_asked_for(database: None) -> None:
    make("--generations", "50", "--accounts", "2")
    with pytest.raises(CommandError, match="this database has generations already"):
        make("--generations", "50")
    make("--generations", "50", "--accounts", "2", "--append")
    assert (Generation.objects.count(), Account.objects.count()) == (100, 4)
    assert read_violations() == []


def test_the_ledger_goes_on_after_it(database: None) -> None:
    make("--generations", "20", "--accounts", "1")
    last = LedgerEntry.objects.latest("id")
    account = Account.objects.get()
    entry = top_up(account, amount_micros=5, reference="afterwards", memo="", actor="")
    assert (entry.pk > last.pk, entry.sequence) == (True, last.sequence + 1)
    assert read_violations() == []


def test_a_real_shop_is_refused(database: None) -> None:
    with pytest.raises(CommandError, match="DEBUG is off"):
        call_command("make_traffic", "--generations", "5")
    assert Account.objects.count() == 0


def test_pictures_that_should_have_files_are_refused(database: None) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with pytest.raises(CommandError, match="would not have expired"):
        make("--generations", "5", "--until", f"{tomorrow:%Y-%m-%d}")
    assert Account.objects.count() == 0


def test_progress_is_for_terminals() -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in ((Terminal(), "\r     500,000 of 1,000,000   50 %"), (StringIO(), "")):
        Command(stderr=stream, no_color=True).show_progress(500_000, 1_000_000)
        assert stream.getvalue() == shown


#: Statements that move money, in the words in which they are written here.
MONEY = re.compile(r"INSERT INTO billing_(ledgerentry|hold)\b|(?:LedgerEntry|Hold)\.objects\.(?:bulk_)?create\(")


def test_money_is_written_in_two_places_only() -> None:
    sources = [
        path
        for app in ("billing", "crazyrouter", "providers", "models_registry")
        for path in (ROOT / app).rglob("*.py")
    ]
    writers = {str(path.parent.relative_to(ROOT)) for path in sources if MONEY.search(path.read_text())}
    assert writers == {"billing/ledger"}
    users = {
        str(path.relative_to(ROOT))
        for path in sources
        if "management.traffic" in path.read_text() and "management/traffic/" not in str(path)
    }
    assert users == {"crazyrouter/management/commands/make_traffic.py"}
