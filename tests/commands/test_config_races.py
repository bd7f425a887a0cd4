"""`config apply` beside others: two at once, and traffic that moves the very rows."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.models import F

from crazyrouter.management.configuration import applying
from crazyrouter.management.configuration.applying import Plan, apply
from crazyrouter.management.configuration.edits import Author
from models_registry.models import ImageModel, ImageSize, ModelFamily, Price
from models_registry.seed import seed_models
from providers.models import Capacity, Channel, Credential, Offer, UpstreamAccount
from tests.commands.test_config_apply import EXAMPLE, SECRET
from tests.race import race

AUTHOR = Author("shop.yaml", "test")
LIMIT = "schema: 1\naccounts: {{dash: {{polls_per_s: {0}, capacities: {{max: {{submits: {0} per 60s}}}}}}}}\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHSCOPE_API_KEY", SECRET)


@pytest.fixture
def capacity(database: None) -> Capacity:
    return Capacity.objects.create(account=UpstreamAccount.objects.create(name="dash"), upstream_model="max")


def test_the_same_file_many_times_at_once_is_applied_once(database: None) -> None:
    plans = race(4, lambda _: apply(EXAMPLE.read_bytes(), author=AUTHOR))
    assert all(isinstance(plan, Plan) for plan in plans), plans
    assert sorted(plan.count() for plan in plans if isinstance(plan, Plan)) == [(0, 0, 19)] * 3 + [(19, 0, 0)]
    tables = (ModelFamily, ImageModel, ImageSize, Price, UpstreamAccount, Capacity, Channel, Credential, Offer)
    assert [table.objects.count() for table in tables] == [1, 4, 24, 4, 1, 4, 3, 2, 6]
    assert [model.history.count() for model in (ImageModel, Capacity, Channel, Offer)] == [4, 4, 3, 6]


def test_two_files_take_turns_and_no_price_is_appended_twice(database: None) -> None:
    seed_models()
    texts = [f"schema: 1\nmodels: {{qwen-image-max: {{price: '0.{n}'}}}}\n" for n in (6, 7)]
    plans = race(6, lambda number: apply(texts[number % 2].encode(), author=AUTHOR))
    assert all(isinstance(plan, Plan) for plan in plans), plans
    amounts = list(
        Price.objects.filter(model__name="qwen-image-max").order_by("id").values_list("amount_micros", flat=True)
    )
    assert amounts[0] == 500_000
    assert set(amounts[1:]) == {600_000, 700_000}
    assert all(one != other for one, other in pairwise(amounts))
    changes = sum(plan.count()[1] for plan in plans if isinstance(plan, Plan))
    assert changes == len(amounts) - 1


def test_what_traffic_moves_between_plan_and_write_stays_moved(
    capacity: Capacity, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out = applying.carry_out

    def carry_out_late(plan: Plan, author: Author) -> None:
        Capacity.objects.update(running=7, starts=[1, 2], call_ms=900)
        UpstreamAccount.objects.update(polls_reserved_until_ms=12345, note="written meanwhile")
        carry_out(plan, author)

    monkeypatch.setattr(applying, "carry_out", carry_out_late)
    assert apply(LIMIT.format(3).encode(), author=AUTHOR).count() == (0, 2, 0)
    capacity.refresh_from_db()
    assert (capacity.running, capacity.starts, capacity.call_ms) == (7, [1, 2], 900)
    assert (capacity.submit_interval_ms, capacity.submit_burst) == (20_000, 3)
    account = UpstreamAccount.objects.get()
    assert (account.polls_per_s, account.polls_reserved_until_ms, account.note) == (3, 12345, "written meanwhile")
    assert UpstreamAccount.history.latest().note == "written meanwhile"


def test_limits_change_under_traffic_and_no_call_is_lost_from_the_count(capacity: Capacity) -> None:
    done = threading.Event()
    calls = 0

    def send_traffic() -> int:
        nonlocal calls
        try:
            while not done.is_set() and calls < 20_000:
                calls += Capacity.objects.filter(pk=capacity.pk).update(running=F("running") + 1)
                UpstreamAccount.objects.update(polls_reserved_until_ms=F("polls_reserved_until_ms") + 1)
        finally:
            connection.close()
        return calls

    def change_limits() -> list[tuple[int, int, int]]:
        try:
            return [apply(LIMIT.format(n).encode(), author=AUTHOR).count() for n in range(1, 21)]
        finally:
            done.set()

    _, changes = race(2, lambda number: send_traffic() if number == 0 else change_limits())
    assert changes == [(0, 2, 0)] * 20
    capacity.refresh_from_db()
    account = UpstreamAccount.objects.get()
    assert calls > 0
    assert (capacity.running, account.polls_reserved_until_ms) == (calls, calls)
    assert (capacity.submit_interval_ms, capacity.submit_burst, account.polls_per_s) == (3000, 20, 20)
    assert Capacity.history.count() == 21


@pytest.mark.parametrize("text", [LIMIT.format(3), LIMIT.format("x")])
def test_a_file_that_changes_nothing_waits_for_no_writer(capacity: Capacity, text: str) -> None:
    """Nor does one with faults: both end while somebody else holds every row, and SQLite's one lock."""
    apply(LIMIT.format(3).encode(), author=AUTHOR)

    def look(_: int) -> Plan:
        return apply(text.encode(), author=AUTHOR)

    with transaction.atomic():
        list(Capacity.objects.select_for_update())
        list(UpstreamAccount.objects.select_for_update())
        list(ContentType.objects.select_for_update())
        (plan,) = race(1, look)
    assert isinstance(plan, Plan), plan
    assert (bool(plan.faults), bool(plan.list_writes())) == (text != LIMIT.format(3), False)
