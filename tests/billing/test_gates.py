"""Limits that count: asked and moved by the UPDATEs that hold the money, so exact whoever races for the last place."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from django.utils import timezone

from billing.keys import create_key
from billing.ledger import Charge, Reason, Reservation, Settlement, Verdict, release, reserve, settle
from billing.models import Account, ApiKey, Hold, LedgerEntry, UsageDay
from billing.reconcile import check_ledger
from crazyrouter.sql import Statement
from tests.shop import Customer, open_customer

PRICE = 200_000
COUNTERS = ("held_micros", "in_flight", "spent_micros", "month", "month_spent_micros", "window_requests")
ROWS = pytest.mark.parametrize("row", [Account, ApiKey])


@pytest.fixture
def alice(db: None) -> Customer:
    return open_customer()


def limit(row: type[Account | ApiKey], customer: Customer, **columns: Any) -> None:
    pk = customer.account.pk if row is Account else customer.key_id
    assert row.objects.filter(pk=pk).update(**columns) == 1


def read(row: type[Account | ApiKey], customer: Customer, *columns: str) -> tuple[Any, ...]:
    pk = customer.account.pk if row is Account else customer.key_id
    return tuple(row.objects.values_list(*(columns or COUNTERS)).get(pk=pk))


def order(customer: Customer, *references: str, micros: int = PRICE, key_id: int | None = None) -> list[Reservation]:
    return [Reservation(one, customer.account.pk, key_id or customer.key_id, micros) for one in references]


def ask(items: Sequence[Reservation]) -> dict[str, Verdict]:
    with transaction.atomic():
        return reserve(connection, items)


def ask_for_reasons(items: Sequence[Reservation]) -> list[Reason]:
    verdicts = ask(items)
    return [verdicts[item.reference].reason for item in items]


def deliver(*references: str, images: int = 1, micros: int = PRICE) -> None:
    """Each generation ends with this many images, charged in the name of its key."""
    prefixes = dict(Hold.objects.values_list("reference", "api_key__prefix"))
    charge = Charge(0, micros, 7, "qwen-image-plus", "1024x1024", "")
    with transaction.atomic():
        settle(
            connection,
            [
                Settlement(one, tuple(replace(charge, line=line, key_prefix=prefixes[one]) for line in range(images)))
                for one in references
            ],
        )


def race(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What each thread got, with a connection of its own, all started together."""
    barrier = threading.Barrier(count)
    results: list[Any] = []

    def enter(number: int) -> None:
        try:
            barrier.wait(30)
            results.append(work(number))
        except BaseException as error:
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def name_month(zone: str = "Asia/Shanghai", moment: datetime | None = None) -> str:
    return f"{(moment or datetime.now(UTC)).astimezone(ZoneInfo(zone)):%Y-%m}"


def listen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first two words of each statement that is sent from now on."""
    said: list[str] = []
    for verb in ("run", "send"):
        original = getattr(Statement, verb)

        def note(self: Statement, *args: Any, original: Any = original) -> Any:
            said.append(" ".join(self.text.split()[:2]))
            return original(self, *args)

        monkeypatch.setattr(Statement, verb, note)
    return said


# --- one at a time ---


@ROWS
def test_a_spend_limit_counts_what_is_spent_and_held(alice: Customer, row: type[Account | ApiKey]) -> None:
    limit(row, alice, spend_limit_micros=3 * PRICE)
    assert ask_for_reasons(order(alice, "a", "b")) == [Reason.RESERVED] * 2
    deliver("a")
    assert ask_for_reasons(order(alice, "c", micros=PRICE + 1)) == [Reason.SPEND_LIMIT_REACHED]
    assert ask_for_reasons(order(alice, "d")) == [Reason.RESERVED]
    assert ask_for_reasons(order(alice, "e", micros=1)) == [Reason.SPEND_LIMIT_REACHED]
    assert read(row, alice, "spent_micros", "held_micros", "in_flight") == (PRICE, 2 * PRICE, 2)


@ROWS
def test_what_is_released_may_be_spent_again(alice: Customer, row: type[Account | ApiKey]) -> None:
    limit(row, alice, spend_limit_micros=PRICE, max_in_flight=1)
    ask(order(alice, "a"))
    assert ask_for_reasons(order(alice, "b")) == [Reason.SPEND_LIMIT_REACHED]
    with transaction.atomic():
        release(connection, ["a"])
    assert read(row, alice, "spent_micros", "held_micros", "in_flight") == (0, 0, 0)
    assert ask_for_reasons(order(alice, "b")) == [Reason.RESERVED]


@ROWS
def test_a_limit_of_nothing_refuses_everything(alice: Customer, row: type[Account | ApiKey]) -> None:
    limit(row, alice, spend_limit_micros=0)
    assert ask_for_reasons(order(alice, "a", micros=1)) == [Reason.SPEND_LIMIT_REACHED]


@ROWS
def test_a_month_that_is_over_does_not_count(alice: Customer, row: type[Account | ApiKey]) -> None:
    limit(row, alice, monthly_spend_limit_micros=PRICE, month="2020-01", month_spent_micros=PRICE)
    assert ask_for_reasons(order(alice, "a")) == [Reason.RESERVED]
    assert ask_for_reasons(order(alice, "b")) == [Reason.SPEND_LIMIT_REACHED]
    deliver("a")
    booked_at = LedgerEntry.objects.get(reference="a").booked_at
    assert read(row, alice, "month", "month_spent_micros") == (name_month(moment=booked_at), PRICE)
    assert ask_for_reasons(order(alice, "c", micros=1)) == [Reason.SPEND_LIMIT_REACHED]
    limit(row, alice, month="2020-01")
    assert ask_for_reasons(order(alice, "c")) == [Reason.RESERVED]


@ROWS
def test_a_month_only_moves_forward(alice: Customer, row: type[Account | ApiKey]) -> None:
    """As after a clock that jumped back: what was counted stays, and what is charged now belongs to another month."""
    limit(row, alice, monthly_spend_limit_micros=2 * PRICE, month="9999-11", month_spent_micros=PRICE)
    assert ask_for_reasons(order(alice, "a")) == [Reason.RESERVED]
    assert ask_for_reasons(order(alice, "b", micros=1)) == [Reason.SPEND_LIMIT_REACHED]
    deliver("a")
    assert read(row, alice, "month", "month_spent_micros", "spent_micros") == ("9999-11", PRICE, PRICE)


@ROWS
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Etc/GMT+10"])
def test_days_and_months_are_cut_in_the_zone_of_the_account(
    alice: Customer, row: type[Account | ApiKey], zone: str
) -> None:
    Account.objects.update(time_zone=zone)
    this_month = name_month(zone)
    limit(row, alice, monthly_spend_limit_micros=PRICE, month=this_month, month_spent_micros=1)
    assert (ask_for_reasons(order(alice, "a")), name_month(zone)) == ([Reason.SPEND_LIMIT_REACHED], this_month)
    limit(row, alice, month_spent_micros=0)
    ask(order(alice, "a"))
    deliver("a")
    booked_at = LedgerEntry.objects.get(reference="a").booked_at
    day = booked_at.astimezone(ZoneInfo(zone)).date()
    assert UsageDay.objects.values_list("day", "images", "amount_micros").get() == (day, 1, PRICE)
    assert read(row, alice, "month", "month_spent_micros") == (f"{day:%Y-%m}", PRICE)


@ROWS
def test_a_window_begins_with_its_first_request(alice: Customer, row: type[Account | ApiKey]) -> None:
    limit(row, alice, requests_per_minute=2)
    verdicts = ask(order(alice, "a", "b", "c"))
    assert [verdict.reason for verdict in verdicts.values()] == [Reason.RESERVED, Reason.RESERVED, Reason.RATE_LIMITED]
    assert [(verdict.limit, verdict.remaining) for verdict in verdicts.values()] == [(2, 1), (2, 0), (2, 0)]
    assert all(59 < (verdict.reset_s or 0) <= 60 for verdict in verdicts.values())
    deliver("a", "b")
    assert ask_for_reasons(order(alice, "d")) == [Reason.RATE_LIMITED]
    limit(row, alice, window_started_at=timezone.now() - timedelta(seconds=58))
    (verdict,) = ask(order(alice, "e")).values()
    assert (verdict.reason, verdict.remaining) == (Reason.RATE_LIMITED, 0)
    assert (verdict.reset_s or 0) == pytest.approx(2, abs=0.9)
    limit(row, alice, window_started_at=timezone.now() - timedelta(seconds=60.01))
    (verdict,) = ask(order(alice, "e")).values()
    assert (verdict.reason, verdict.limit, verdict.remaining) == (Reason.RESERVED, 2, 1)
    assert read(row, alice, "window_requests") == (1,)


@ROWS
def test_a_window_that_lies_ahead_does_not_count(alice: Customer, row: type[Account | ApiKey]) -> None:
    """The clock jumped back by an hour: nobody waits for an hour."""
    limit(row, alice, requests_per_minute=1, window_requests=1, window_started_at=timezone.now() + timedelta(hours=1))
    assert ask_for_reasons(order(alice, "a", "b")) == [Reason.RESERVED, Reason.RATE_LIMITED]
    (started,) = read(row, alice, "window_started_at")
    assert abs(started - timezone.now()) < timedelta(seconds=30)


@ROWS
def test_a_lowered_limit_refuses_without_a_negative_rest(alice: Customer, row: type[Account | ApiKey]) -> None:
    limit(row, alice, requests_per_minute=3, max_in_flight=3)
    ask(order(alice, "a", "b", "c"))
    limit(row, alice, requests_per_minute=1)
    (verdict,) = ask(order(alice, "d")).values()
    assert (verdict.reason, verdict.limit, verdict.remaining) == (Reason.RATE_LIMITED, 1, 0)
    limit(row, alice, requests_per_minute=None)
    assert ask(order(alice, "d")) == {"d": Verdict(Reason.CONCURRENCY_LIMITED)}
    deliver("a")
    assert ask(order(alice, "d")) == {"d": Verdict(Reason.RESERVED)}


def test_the_tighter_window_is_told(alice: Customer) -> None:
    limit(Account, alice, requests_per_minute=10)
    limit(ApiKey, alice, requests_per_minute=3)
    (verdict,) = ask(order(alice, "a")).values()
    assert (verdict.limit, verdict.remaining) == (3, 2)
    limit(Account, alice, requests_per_minute=2)
    (verdict,) = ask(order(alice, "b")).values()
    assert (verdict.limit, verdict.remaining) == (2, 0)


@pytest.mark.parametrize(
    ("columns", "usable"),
    [
        ({"enabled": False}, False),
        ({"revoked_at": datetime(2026, 1, 1, tzinfo=UTC)}, False),
        ({"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}, False),
        ({"expires_at": datetime(2999, 1, 1, tzinfo=UTC)}, True),
    ],
)
def test_a_key_is_asked_itself(alice: Customer, columns: dict[str, Any], *, usable: bool) -> None:
    limit(ApiKey, alice, **columns)
    assert ask_for_reasons(order(alice, "a")) == [Reason.RESERVED if usable else Reason.KEY_UNUSABLE]
    assert read(Account, alice, "held_micros") == (PRICE if usable else 0,)


def test_a_key_orders_for_its_own_account_alone(alice: Customer) -> None:
    bob = open_customer("bob")
    assert ask_for_reasons(order(alice, "a", key_id=bob.key_id)) == [Reason.KEY_UNUSABLE]
    assert (read(Account, alice), read(ApiKey, bob)) == ((0, 0, 0, "", 0, 0),) * 2


def test_a_reservation_without_a_key_asks_the_account_alone(alice: Customer) -> None:
    assert ask([Reservation("a", alice.account.pk, None, PRICE)]) == {"a": Verdict(Reason.RESERVED)}
    with transaction.atomic():
        settle(connection, [Settlement("a", (Charge(0, PRICE, 7, "m", "1x1", ""),))])
    assert read(Account, alice, "held_micros", "spent_micros") == (0, PRICE)


def test_permanent_reasons_are_told_first(alice: Customer) -> None:
    limit(Account, alice, requests_per_minute=0, max_in_flight=0, spend_limit_micros=0, balance_micros=0)
    limit(ApiKey, alice, enabled=False)
    said = []
    for columns in (
        {"state": "suspended"},
        {"state": "active"},
        {"balance_micros": PRICE},
        {"spend_limit_micros": None},
        {"requests_per_minute": None},
        {"max_in_flight": None},
    ):
        limit(Account, alice, **columns)
        said += ask_for_reasons(order(alice, "a"))
    assert said == [
        Reason.ACCOUNT_SUSPENDED,
        Reason.INSUFFICIENT_QUOTA,
        Reason.SPEND_LIMIT_REACHED,
        Reason.RATE_LIMITED,
        Reason.CONCURRENCY_LIMITED,
        Reason.KEY_UNUSABLE,
    ]
    assert Hold.objects.count() == 0


# --- many at a time ---


def test_a_key_that_refuses_gives_its_account_everything_back(alice: Customer) -> None:
    limit(Account, alice, requests_per_minute=5, max_in_flight=5, spend_limit_micros=10 * PRICE)
    limit(ApiKey, alice, max_in_flight=2)
    assert ask_for_reasons(order(alice, "a", "b", "c")) == [
        Reason.RESERVED,
        Reason.RESERVED,
        Reason.CONCURRENCY_LIMITED,
    ]
    assert read(Account, alice) == (2 * PRICE, 2, 0, "", 0, 2)
    assert read(ApiKey, alice) == (2 * PRICE, 2, 0, "", 0, 0)
    assert Hold.objects.count() == 2


def test_a_window_opened_by_refused_requests_alone_is_closed_again(alice: Customer) -> None:
    limit(Account, alice, requests_per_minute=5)
    limit(ApiKey, alice, spend_limit_micros=0)
    assert ask_for_reasons(order(alice, "a", "b")) == [Reason.SPEND_LIMIT_REACHED] * 2
    assert read(Account, alice, *COUNTERS, "window_started_at") == (0, 0, 0, "", 0, 0, None)


def test_what_a_key_gives_back_goes_to_whom_the_account_refused(alice: Customer) -> None:
    """One place is left: the first asks with a key that may not, the second gets it all the same."""
    other, _ = create_key(alice.account)
    limit(Account, alice, max_in_flight=1)
    limit(ApiKey, alice, spend_limit_micros=0)
    items = order(alice, "a") + order(alice, "b", "c", key_id=other.pk)
    assert ask_for_reasons(items) == [Reason.SPEND_LIMIT_REACHED, Reason.RESERVED, Reason.CONCURRENCY_LIMITED]
    assert read(Account, alice, "held_micros", "in_flight") == (PRICE, 1)


def test_two_keys_of_an_account_are_told_apart(alice: Customer) -> None:
    other, _ = create_key(alice.account, limits={"requests_per_minute": 1})
    items = order(alice, "a") + order(alice, "b", "c", key_id=other.pk) + order(alice, "d")
    verdicts = ask(items)
    assert [verdicts[reference].reason for reference in "abcd"] == [
        Reason.RESERVED,
        Reason.RESERVED,
        Reason.RATE_LIMITED,
        Reason.RESERVED,
    ]
    assert [verdicts[reference].remaining for reference in "abcd"] == [None, 0, 0, None]


def test_two_accounts_in_one_batch_of_which_one_refuses(alice: Customer) -> None:
    bob = open_customer("bob", micros=PRICE)
    items = [*order(alice, "a1"), *order(bob, "b1", "b2"), *order(alice, "a2")]
    assert ask_for_reasons(items) == [Reason.RESERVED, Reason.RESERVED, Reason.INSUFFICIENT_QUOTA, Reason.RESERVED]
    limit(Account, bob, state="suspended")
    deliver("b1", images=0)
    items = [*order(bob, "b3"), *order(alice, "a3")]
    assert ask_for_reasons(items) == [Reason.ACCOUNT_SUSPENDED, Reason.RESERVED]
    assert (read(Account, alice, "in_flight"), read(Account, bob, "in_flight")) == ((3,), (0,))


def test_a_large_hold_that_does_not_fit_its_limit_does_not_refuse_a_small_one(alice: Customer) -> None:
    limit(ApiKey, alice, spend_limit_micros=3 * PRICE)
    items = order(alice, "large", micros=4 * PRICE) + order(alice, "b", "c", "d", "e")
    assert ask_for_reasons(items) == [
        Reason.SPEND_LIMIT_REACHED,
        *[Reason.RESERVED] * 3,
        Reason.SPEND_LIMIT_REACHED,
    ]


@pytest.mark.parametrize("count", [1, 20])
def test_without_limits_a_batch_costs_one_update_more_for_its_keys(
    alice: Customer, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    said = listen(monkeypatch)
    ask(order(alice, *[f"gen_{number}" for number in range(count)]))
    assert said == ["UPDATE billing_account", "UPDATE billing_apikey", "INSERT INTO"]
    assert Hold.objects.count() == count


def test_a_flood_behind_a_full_window_is_not_asked_one_by_one(alice: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(ApiKey, alice, requests_per_minute=1)
    ask(order(alice, "first"))
    said = listen(monkeypatch)
    assert ask_for_reasons(order(alice, *[f"gen_{number}" for number in range(100)])) == [Reason.RATE_LIMITED] * 100
    assert said == [
        *("UPDATE billing_account", "UPDATE billing_apikey", "UPDATE billing_apikey"),
        *("SELECT CASE", "UPDATE billing_account"),
    ]
    assert Hold.objects.count() == 1


# --- with real threads ---


@ROWS
def test_fifty_requests_against_ten_a_minute(database: None, row: type[Account | ApiKey]) -> None:
    customer = open_customer()
    limit(row, customer, requests_per_minute=10)
    # Two by each of 25 threads: PostgreSQL takes a hundred connections, and other tests run beside this one.
    pairs = race(25, lambda number: [ask(order(customer, f"g{number}_{turn}"))[f"g{number}_{turn}"] for turn in "ab"])
    verdicts = [verdict for pair in pairs for verdict in pair]
    assert Counter(verdict.reason for verdict in verdicts) == {Reason.RESERVED: 10, Reason.RATE_LIMITED: 40}
    assert sorted(verdict.remaining for verdict in verdicts if verdict.granted) == list(range(10))
    assert read(Account, customer, "held_micros", "in_flight") == (10 * PRICE, 10)
    assert list(check_ledger(connection)) == []


@ROWS
def test_a_spend_limit_of_exactly_seven_images(database: None, row: type[Account | ApiKey]) -> None:
    """Each delivers at once, so that holds and charges move under the racers' feet."""
    customer = open_customer()
    limit(row, customer, spend_limit_micros=7 * PRICE + PRICE - 1)

    def buy(number: int) -> Reason:
        (reason,) = ask_for_reasons(order(customer, f"gen_{number}"))
        if reason is Reason.RESERVED:
            deliver(f"gen_{number}")
        return reason

    assert Counter(race(16, buy)) == {Reason.RESERVED: 7, Reason.SPEND_LIMIT_REACHED: 9}
    assert read(row, customer, "spent_micros", "held_micros", "in_flight") == (7 * PRICE, 0, 0)
    assert UsageDay.objects.values_list("images", "amount_micros").get() == (7, 7 * PRICE)
    assert list(check_ledger(connection)) == []


@ROWS
def test_never_more_than_three_in_flight(database: None, row: type[Account | ApiKey]) -> None:
    customer = open_customer()
    limit(row, customer, max_in_flight=3)

    def work(number: int) -> list[int]:
        """What the row said each time that one was let in."""
        seen = []
        for turn in range(6):
            reference = f"gen_{number}_{turn}"
            with transaction.atomic():
                granted = reserve(connection, order(customer, reference))[reference].granted
                (in_flight,) = read(row, customer, "in_flight")
            if granted:
                seen.append(in_flight)
                deliver(reference)
        return seen

    seen = [in_flight for one in race(8, work) for in_flight in one]
    assert 1 <= min(seen) <= max(seen) <= 3
    assert len(seen) == LedgerEntry.objects.filter(kind="charge").count()
    assert read(row, customer, "in_flight", "held_micros") == (0, 0)
    assert list(check_ledger(connection)) == []
    assert Counter(race(12, lambda number: ask_for_reasons(order(customer, f"last_{number}"))[0])) == {
        Reason.RESERVED: 3,
        Reason.CONCURRENCY_LIMITED: 9,
    }


@pytest.mark.parametrize(("spare", "granted"), [(0, 1), (-1, 0)])
def test_a_balance_of_exactly_the_price_buys_once(database: None, spare: int, granted: int) -> None:
    customer = open_customer(micros=PRICE + spare)
    reasons = Counter(race(8, lambda number: ask_for_reasons(order(customer, f"gen_{number}"))[0]))
    assert reasons == Counter({Reason.RESERVED: granted, Reason.INSUFFICIENT_QUOTA: 8 - granted})
    assert read(Account, customer, "held_micros", "in_flight") == (granted * PRICE, granted)
    assert read(ApiKey, customer, "held_micros", "in_flight") == (granted * PRICE, granted)


def test_two_keys_race_for_the_limit_of_their_account(database: None) -> None:
    customer = open_customer()
    keys = [customer.key_id, create_key(customer.account, limits={"max_in_flight": 4})[0].pk]
    limit(Account, customer, monthly_spend_limit_micros=9 * PRICE)
    race(20, lambda number: ask(order(customer, f"gen_{number}", key_id=keys[number % 2])))
    assert read(Account, customer, "held_micros", "in_flight") == (9 * PRICE, 9)
    held = list(ApiKey.objects.order_by("id").values_list("in_flight", flat=True))
    assert (sum(held), held[1] <= 4, Hold.objects.count()) == (9, True, 9)
    assert list(check_ledger(connection)) == []
