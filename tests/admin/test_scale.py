"""Lists of large tables: what each page asks of the database stays small, however many rows there are.

Measured on a million generations by hand; here the shape of every query is held: none counts to the end, none walks a
table for rows that an index does not know, and every filter still finds what it should.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.models import Account, ApiKey, Hold, LedgerEntry
from crazyrouter.files.models import StoredImage
from crazyrouter.generation.models import Generation
from crazyrouter.management.traffic import story
from crazyrouter.management.traffic.cast import hire_cast
from crazyrouter.management.traffic.plan import Plan
from crazyrouter.management.traffic.story import write_traffic
from models_registry import long_lists
from tests.reset import reset_database

pytestmark = pytest.mark.database

LARGE = ("generation_generation", "generation_attempt", "files_storedimage", "billing_hold", "billing_ledgerentry")
GENERATIONS = 240
REACH, NEWEST = 120, 150


@pytest.fixture(scope="module")
def traffic(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(story, "REFUNDS_ONE_IN", 10)
        plan = Plan(generations=GENERATIONS, accounts=3, days=60, seed=2, until=datetime(2026, 11, 1, tzinfo=UTC))
        list(write_traffic(plan, hire_cast(plan)))
        User.objects.create_superuser("olga", password="correct horse battery")
        yield
        reset_database()


@pytest.fixture
def olga(traffic: None, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(long_lists, "REACH", REACH)
    monkeypatch.setattr(long_lists, "NEWEST", NEWEST)
    client = Client()
    client.force_login(User.objects.get(username="olga"))
    return client


def name_values() -> dict[str, Any]:
    first = Account.objects.order_by("id")[0]
    charge = LedgerEntry.objects.filter(kind="charge", account=first).order_by("id")[3]
    return {
        "first": first.pk,
        "key": charge.key_prefix,
        "generation": charge.reference,
        "image": StoredImage.objects.order_by("id")[3].name,
        "model": Generation.objects.order_by("id")[0].model_id,
    }


#: What people may ask of each list: its filters, its search, and any order, which it keeps to itself.
ASKED = {
    "generation_generation": [
        "",
        "p=2",
        "o=-6",
        "state__exact=succeeded",
        "state__exact=failed",
        "state__exact=running",
        "model__id__exact={model}",
        "account__id__exact={first}",
        "account__id__exact={first}&p=2",
        "account__id__exact={first}&state__exact=failed",
        "account__id__exact={first}&state__exact=running",
        "account__id__exact={first}&state__exact=succeeded&model__id__exact={model}",
        "q={generation}",
        "q={key}",
        "q=nothing",
    ],
    "billing_ledgerentry": [
        "",
        "p=2",
        "o=-4",
        "kind__exact=charge",
        "kind__exact=refund",
        "kind__exact=adjustment",
        "account__id__exact={first}",
        "account__id__exact={first}&kind__exact=charge",
        "account__id__exact={first}&kind__exact=refund",
        "account__id__exact={first}&month=2026-10",
        "account__id__exact={first}&month=2026-10&kind__exact=charge",
        "q={generation}",
        "q={key}",
        "q=nothing",
    ],
    "billing_hold": [
        "",
        "p=2",
        "o=-4",
        "state__exact=open",
        "state__exact=released",
        "account__id__exact={first}",
        "account__id__exact={first}&state__exact=open",
        "account__id__exact={first}&state__exact=settled",
        "q={generation}",
        "q=nothing",
    ],
    "files_storedimage": ["", "p=2", "o=-6", "q={image}", "q={generation}", "q=nothing"],
}
EVERYTHING = [(page, asked) for page, several in ASKED.items() for asked in several]


def ask(client: Client, page: str, asked: str) -> tuple[Any, list[str]]:
    """The list and the queries it made of the large tables."""
    address = f"{reverse(f'admin:{page}_changelist')}?{asked.format(**name_values())}"
    with CaptureQueriesContext(connection) as queries:
        response = client.get(address)
    assert response.status_code == 200, address
    said = [query["sql"] for query in queries]
    return response.context["cl"], [sql for sql in said if any(f'FROM "{table}"' in sql for table in LARGE)]


@pytest.mark.parametrize(("page", "asked"), EVERYTHING)
def test_nothing_is_counted_to_the_end(olga: Client, page: str, asked: str) -> None:
    changelist, queries = ask(olga, page, asked)
    counts = [sql for sql in queries if "COUNT(" in sql]
    assert len(counts) == 1
    assert f"LIMIT {REACH + 1}) subquery" in counts[0]
    assert changelist.result_count <= REACH


#: Charges are nearly all entries: the first rows that are looked at are those that are shown.
NEARLY_ALL = 'NOT ("billing_ledgerentry"."kind" IN'


@pytest.mark.parametrize(("page", "asked"), EVERYTHING)
def test_no_table_is_walked(olga: Client, page: str, asked: str) -> None:
    """SQLite's plans, which it makes without knowing how many rows there are: no scan but one that a LIMIT ends."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's plans go by the number of rows")
    _, queries = ask(olga, page, asked)
    assert queries
    for sql in queries:
        plan = explain(sql)
        walked = [line for line in plan if re.search(rf"SCAN ({'|'.join(LARGE)})\b", line) and " WHERE " in sql]
        few = [line for line in walked if re.search("INDEX (generation_running|hold_open|entries_that_are_no)", line)]
        bounded = " LIMIT " in sql and NEARLY_ALL in sql
        assert walked == few or bounded, (sql, plan)
        if "ORDER BY" in sql and any("TEMP B-TREE FOR ORDER BY" in line for line in plan):
            assert re.search("running|open|refund|adjustment|nothing|gen_|qwen_image_", sql), (sql, plan)


def explain(sql: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}".replace("%", "%%"), ())
        return [line for *_, line in cursor.fetchall()]


def list_ids(changelist: Any) -> list[Any]:
    return [row.pk for row in changelist.result_list]


def test_the_last_page_that_is_reached_opens(olga: Client) -> None:
    changelist, _ = ask(olga, "generation_generation", "p=3")
    assert (changelist.result_count, changelist.paginator.num_pages) == (REACH, 3)
    assert list_ids(changelist) == list(Generation.objects.order_by("-id").values_list("id", flat=True)[100:REACH])
    page = olga.get(reverse("admin:generation_generation_changelist")).content.decode()
    assert f"the first {REACH} generations; filter or search for the others" in page
    assert f"{REACH} results" not in page


def test_a_short_list_is_counted_as_ever(olga: Client) -> None:
    failed = Generation.objects.order_by("-id")[:NEWEST]
    ids = [row.pk for row in failed if row.state == "failed"]
    changelist, _ = ask(olga, "generation_generation", "state__exact=failed")
    assert 0 < len(ids) < REACH
    assert list_ids(changelist) == ids
    page = olga.get(reverse("admin:generation_generation_changelist"), {"state__exact": "failed"}).content.decode()
    assert f"{len(ids)}\n" in page
    assert "filter or search for the others" not in page


def test_filters_without_an_index_look_at_the_newest(olga: Client) -> None:
    values = name_values()
    newest = Generation.objects.filter(account=values["first"]).order_by("-id")[:NEWEST]
    expected = [row.pk for row in newest if row.model_id == values["model"]][:50]
    changelist, _ = ask(olga, "generation_generation", "account__id__exact={first}&model__id__exact={model}")
    assert list_ids(changelist) == expected
    assert f"(newest {NEWEST})" in olga.get(reverse("admin:generation_generation_changelist")).content.decode()


def test_refunds_of_an_account_are_all_found(olga: Client) -> None:
    """However old they are: the few that are no charge have an index of their own."""
    first = name_values()["first"]
    expected = list(
        LedgerEntry.objects.filter(account=first, kind="refund").order_by("-id").values_list("id", flat=True)
    )
    changelist, _ = ask(olga, "billing_ledgerentry", "account__id__exact={first}&kind__exact=refund")
    assert sorted(list_ids(changelist)) == sorted(expected)
    assert min(expected) < LedgerEntry.objects.order_by("-id")[NEWEST].pk


@pytest.mark.parametrize("kind", ["charge", "top_up", "refund", "adjustment"])
def test_kinds_are_told_apart(olga: Client, kind: str) -> None:
    changelist, _ = ask(olga, "billing_ledgerentry", f"kind__exact={kind}")
    ids = list(LedgerEntry.objects.filter(kind=kind).order_by("-id").values_list("id", flat=True)[:50])
    assert list_ids(changelist) == ids


def test_entries_of_an_account_come_in_its_own_order(olga: Client) -> None:
    changelist, _ = ask(olga, "billing_ledgerentry", "account__id__exact={first}")
    last = Account.objects.get(pk=name_values()["first"]).sequence
    assert [row.sequence for row in changelist.result_list] == list(range(last, last - 50, -1))


def test_a_month_is_that_of_the_account(olga: Client) -> None:
    """October in Shanghai begins eight hours before it does in UTC."""
    first = Account.objects.get(pk=name_values()["first"])
    inside = LedgerEntry.objects.filter(
        account=first, booked_at__gte="2026-09-30T16:00:00Z", booked_at__lt="2026-10-31T16:00:00Z"
    )
    changelist, _ = ask(olga, "billing_ledgerentry", "account__id__exact={first}&month=2026-10")
    assert list_ids(changelist) == list(inside.order_by("-booked_at", "-id").values_list("id", flat=True)[:50])
    assert inside.count() > 50


@pytest.mark.parametrize("asked", ["month=2026-10", "account__id__exact={first}&month=nonsense"])
def test_a_month_of_nobody_is_no_filter(olga: Client, asked: str) -> None:
    changelist, _ = ask(olga, "billing_ledgerentry", asked)
    assert changelist.result_count == REACH


def test_a_key_prefix_finds_what_was_bought_with_it(olga: Client) -> None:
    key = ApiKey.objects.get(prefix=name_values()["key"])
    newest = Generation.objects.filter(account=key.account).order_by("-id")[:NEWEST]
    changelist, _ = ask(olga, "generation_generation", "q={key}")
    assert list_ids(changelist) == [row.pk for row in newest if row.api_key_id == key.pk][:50]
    entries = LedgerEntry.objects.filter(account=key.account).order_by("-sequence")[:NEWEST]
    changelist, _ = ask(olga, "billing_ledgerentry", "q={key}")
    assert list_ids(changelist) == [row.pk for row in entries if row.key_prefix == key.prefix][:50]


def test_a_reference_finds_its_entries_and_its_hold(olga: Client) -> None:
    generation = name_values()["generation"]
    changelist, _ = ask(olga, "billing_ledgerentry", "q={generation}")
    assert sorted(list_ids(changelist)) == sorted(
        LedgerEntry.objects.filter(reference=generation).values_list("id", flat=True)
    )
    changelist, _ = ask(olga, "billing_hold", "q={generation}")
    assert list_ids(changelist) == [Hold.objects.get(reference=generation).pk]


@pytest.mark.parametrize("page", ASKED)
def test_a_number_that_is_none_is_refused(olga: Client, page: str) -> None:
    if page != "files_storedimage":
        for state in ("state__exact=running", "kind__exact=refund", "state__exact=open"):
            answer = olga.get(f"{reverse(f'admin:{page}_changelist')}?account__id__exact=x&{state}")
            assert (answer.status_code, answer.headers["Location"].endswith("?e=1")) == (302, True)


def test_no_insert_pays_for_an_index_that_nobody_asks(traffic: None) -> None:
    """Beside those of primary keys: each has a page, a rule or a look-up that needs it."""
    with connection.cursor() as cursor:
        indexes = {
            (table, name)
            for table in LARGE
            for name, facts in connection.introspection.get_constraints(cursor, table).items()
            if facts["index"] or (facts["unique"] and not facts["primary_key"])
        }
    named = {(table, name) for table, name in indexes if not name.startswith(("__unnamed", "sqlite_autoindex"))}
    assert {name for _, name in named} - {f"{table}_pkey" for table in LARGE} == {
        "attempt_shadow",
        "entries_of_account_by_time",
        "entries_that_are_no_charge",
        "generation_of_account",
        "generation_running",
        "generation_undelivered",
        "hold_open_of_account",
        "one_attempt_per_number",
        "one_entry_per_reference_line",
        "one_entry_per_sequence",
        "one_hold_per_reference",
        "stored_image_live_by_expiry",
        "stored_image_name_once",
        "stored_image_slot_once",
    }
