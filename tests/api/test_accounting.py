"""GET /v1/balance, /v1/usage and /v1/usage.csv: exact, of the key's account alone, and never an error in HTML."""

from __future__ import annotations

import asyncio
import csv
import http.client
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import time_machine
from asgiref.sync import sync_to_async
from django.db import OperationalError

from billing.ledger import top_up
from billing.models import Account, UsageDay
from billing.money import format_amount
from billing.usage import Scope, UsageRow, read_page
from crazyrouter.api import accounting
from crazyrouter.api.accounting import choose_scope
from crazyrouter.asgi import lean
from crazyrouter.generation.runtime import close_runtime, get_runtime
from crazyrouter.generation.snapshot import Unavailable
from tests.books import read_violations_async
from tests.server import RunningServer
from tests.shop import Customer, open_customer

MAX, PLUS = "qwen-image-max", "qwen-image-plus"
NOVEMBER = {"from": "2026-11-01", "to": "2026-11-30"}
LINE = "2026-11-30,qwen-image-max,sk-cr-a,1,0.000001,CNY\r\n"
HEADER = "date,model,key,images,amount,currency\r\n"

#: day, model, key, images, micros
Row = tuple[int, str, str, int, int]


def book_usage(account: Account, *rows: Row) -> None:
    """Rows of November 2026, as the ledger would have moved them."""
    UsageDay.objects.bulk_create(
        UsageDay(account=account, day=date(2026, 11, day), model=model, key_prefix=key, images=n, amount_micros=micros)
        for day, model, key, n, micros in rows
    )


book = sync_to_async(book_usage)
open_other = sync_to_async(open_customer)


def name_row(day: str, model: str, key: str, images: int, amount: str) -> dict[str, Any]:
    return {"date": day, "model": model, "key": key, "images": images, "amount": amount}


def read_error(response: httpx.Response, status: int = 400) -> tuple[str, str | None]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error["code"], error["param"]


# --- balance -----------------------------------------------------------------------------------------------------


async def test_the_balance_is_the_databases(gateway: httpx.AsyncClient, customer: Customer) -> None:
    first = await gateway.get("/v1/balance")
    assert first.status_code == 200
    assert first.headers["x-request-id"].startswith("req_")
    assert first.json() == {
        "balance": "100.00",
        "held": "0.00",
        "credit_limit": "0.00",
        "available": "100.00",
        "currency": "CNY",
    }
    change = {"balance_micros": -1_234_567, "held_micros": 200_000, "credit_limit_micros": 50_000_000}
    await sync_to_async(Account.objects.filter(pk=customer.account.pk).update)(**change)
    assert (await gateway.get("/v1/balance")).json() == {
        "balance": "-1.234567",
        "held": "0.20",
        "credit_limit": "50.00",
        "available": "48.565433",
        "currency": "CNY",
    }


async def test_a_top_up_shows_at_once_and_to_its_account_only(gateway: httpx.AsyncClient, customer: Customer) -> None:
    other = await open_other("bob", micros=7_000_000)
    await sync_to_async(top_up)(customer.account, amount_micros=1, reference="r", memo="", actor="test")
    assert (await gateway.get("/v1/balance")).json()["balance"] == "100.000001"
    assert (await gateway.get("/v1/balance", headers=other.headers)).json()["balance"] == "7.00"


@pytest.mark.parametrize("path", ["/v1/balance", "/v1/usage", "/v1/usage.csv"])
async def test_a_key_is_needed_and_only_get_is_answered(gateway: httpx.AsyncClient, path: str) -> None:
    for key in ("", "Bearer sk-cr-wrong"):
        response = await gateway.get(path, headers={"Authorization": key})
        assert read_error(response, 401) == ("invalid_api_key", None)
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        response = await gateway.request(method, path)
        assert read_error(response, 405) == ("method_not_allowed", None)
        assert response.headers["allow"] == "GET"


# --- usage -------------------------------------------------------------------------------------------------------


async def test_usage_by_day_model_and_key(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await book(
        customer.account,
        (2, MAX, "sk-cr-b", 3, 1_500_000),
        (3, PLUS, "sk-cr-a", 1, 200_000),
        (3, MAX, "sk-cr-b", 1, 500_001),
        (3, MAX, "sk-cr-a", 2, 1_000_000),
    )
    response = await gateway.get("/v1/usage", params=NOVEMBER)
    assert response.status_code == 200
    assert response.json() == {
        "object": "list",
        "from": "2026-11-01",
        "to": "2026-11-30",
        "time_zone": "Asia/Shanghai",
        "currency": "CNY",
        "data": [
            name_row("2026-11-03", MAX, "sk-cr-a", 2, "1.00"),
            name_row("2026-11-03", MAX, "sk-cr-b", 1, "0.500001"),
            name_row("2026-11-03", PLUS, "sk-cr-a", 1, "0.20"),
            name_row("2026-11-02", MAX, "sk-cr-b", 3, "1.50"),
        ],
        "total": {"images": 7, "amount": "3.200001"},
        "has_more": False,
        "next_cursor": None,
    }


@pytest.mark.parametrize(
    ("change", "days"),
    [
        ({}, [30, 15, 1]),
        ({"from": "2026-11-15"}, [30, 15]),
        ({"to": "2026-11-15"}, [15, 1]),
        ({"from": "2026-11-15", "to": "2026-11-15"}, [15]),
        ({"from": "2026-11-16", "to": "2026-11-29"}, []),
        ({"model": MAX}, [30, 15]),
        ({"model": "nothing-like-it"}, []),
        ({"key": "sk-cr-a"}, [30, 1]),
        ({"key": "sk-cr"}, []),
        ({"model": MAX, "key": "sk-cr-a"}, [30]),
    ],
)
async def test_what_is_asked_for_is_what_is_shown_and_added(
    gateway: httpx.AsyncClient, customer: Customer, change: dict[str, str], days: list[int]
) -> None:
    await book(customer.account, (1, PLUS, "sk-cr-a", 1, 1), (15, MAX, "sk-cr-b", 1, 15), (30, MAX, "sk-cr-a", 1, 30))
    body = (await gateway.get("/v1/usage", params=NOVEMBER | change)).json()
    assert [row["date"] for row in body["data"]] == [f"2026-11-{day:02d}" for day in days]
    assert body["total"] == {"images": len(days), "amount": format_amount(sum(days))}
    text = (await gateway.get("/v1/usage.csv", params=NOVEMBER | change)).text
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == [f"2026-11-{day:02d}" for day in days]


async def walk(gateway: httpx.AsyncClient, between: Callable[[], Awaitable[None]], **params: Any) -> list[Any]:
    """All pages, with something that happens after each."""
    pages: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await gateway.get("/v1/usage", params=params | cursor)).json()
        pages.append(page)
        assert page["has_more"] is (page["next_cursor"] is not None)
        if not page["has_more"]:
            return pages
        cursor = {"cursor": page["next_cursor"]}
        await between()


async def do_nothing() -> None:
    pass


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7])
async def test_pages_are_the_list_cut_in_pieces(gateway: httpx.AsyncClient, customer: Customer, limit: int) -> None:
    rows = [(day, model, key, 1, 10) for day in (1, 2) for model in (MAX, PLUS) for key in ("sk-cr-a", "sk-cr-b")][:6]
    await book(customer.account, *rows)
    whole = (await gateway.get("/v1/usage", params=NOVEMBER)).json()["data"]
    assert len(whole) == 6
    pages = await walk(gateway, do_nothing, **NOVEMBER, limit=limit)
    assert [len(page["data"]) for page in pages] == {1: [1] * 6, 2: [2, 2, 2], 5: [5, 1], 6: [6], 7: [6]}[limit]
    assert [row for page in pages for row in page["data"]] == whole
    assert {str(page["total"]) for page in pages} == {str({"images": 6, "amount": "0.00006"})}


async def test_what_is_charged_meanwhile_moves_no_row_to_another_page(
    gateway: httpx.AsyncClient, customer: Customer
) -> None:
    await book(customer.account, *[(day, MAX, "sk-cr-m", 1, 1) for day in (10, 11, 12)])
    new = iter([(12, MAX, "sk-cr-a", 1, 1), (13, MAX, "sk-cr-m", 1, 1)])

    async def charge() -> None:
        await book(customer.account, next(new))

    pages = await walk(gateway, charge, **NOVEMBER, limit=1)
    assert [row["date"] for page in pages for row in page["data"]] == ["2026-11-12", "2026-11-11", "2026-11-10"]
    assert [page["total"]["images"] for page in pages] == [3, 4, 5]


async def test_nobody_sees_anothers_usage(gateway: httpx.AsyncClient, customer: Customer) -> None:
    other = await open_other("bob")
    await book(customer.account, (5, MAX, "sk-cr-a", 1, 1), (6, MAX, "sk-cr-a", 1, 1))
    await book(other.account, (5, MAX, "sk-cr-x", 9, 9), (6, MAX, "sk-cr-x", 9, 9), (7, MAX, "sk-cr-x", 9, 9))
    for path in ("/v1/usage", "/v1/usage.csv"):
        for params in (NOVEMBER, NOVEMBER | {"key": "sk-cr-x"}):
            assert "sk-cr-x" not in (await gateway.get(path, params=params)).text
    theirs = await gateway.get("/v1/usage", params=NOVEMBER | {"limit": "1"}, headers=other.headers)
    assert theirs.json()["total"]["images"] == 27
    borrowed = await gateway.get("/v1/usage", params=NOVEMBER | {"cursor": theirs.json()["next_cursor"]})
    assert read_error(borrowed) == ("invalid_value", "cursor")


WRONG: list[tuple[str, str, str | None]] = [
    ("from=2026-11-31", "invalid_value", "from"),
    ("from=2026-02-29", "invalid_value", "from"),
    ("from=20261101", "invalid_value", "from"),
    ("from=2026-W44-1", "invalid_value", "from"),
    ("from=2026-11-01T00:00:00", "invalid_value", "from"),
    ("from=0000-01-01", "invalid_value", "from"),
    ("from=%EF%BC%92026-11-01", "invalid_value", "from"),
    ("from=", "invalid_value", "from"),
    ("to=tomorrow", "invalid_value", "to"),
    ("to=%FF", "invalid_value", "to"),
    ("from=2026-11-02&to=2026-11-01", "invalid_value", "from"),
    ("from=9999-12-31", "invalid_value", "from"),
    ("from=2025-11-29&to=2026-11-30", "invalid_value", "from"),
    ("from=0001-01-01&to=9999-12-31", "invalid_value", "from"),
    ("model=a%00b", "invalid_value", "model"),
    ("model=", "invalid_value", "model"),
    (f"model={'m' * 65}", "string_above_max_length", "model"),
    ("key=%00", "invalid_value", "key"),
    (f"key=sk-cr-12345678-{'s' * 43}", "string_above_max_length", "key"),
    ("account=2", "unknown_parameter", "account"),
    ("From=2026-11-01", "unknown_parameter", "From"),
    (f"{'x' * 99}=1", "unknown_parameter", "x" * 64),
    ("to=2026-11-30&to=2026-11-30", "invalid_value", "to"),
    ("&".join(f"p{n}=1" for n in range(2000)), "invalid_value", None),
]
WRONG_PAGING: list[tuple[str, str, str | None]] = [
    ("limit=0", "integer_below_min_value", "limit"),
    ("limit=-1", "integer_below_min_value", "limit"),
    ("limit=1001", "integer_above_max_value", "limit"),
    (f"limit={'9' * 5000}", "integer_above_max_value", "limit"),
    ("limit=1.0", "invalid_type", "limit"),
    ("limit=ten", "invalid_type", "limit"),
    ("limit=%D9%A3", "invalid_type", "limit"),
    ("limit=", "invalid_value", "limit"),
    ("limit=1&limit=2", "invalid_value", "limit"),
    ("cursor=", "invalid_value", "cursor"),
    ("cursor=A", "invalid_value", "cursor"),
    ("cursor=%C3%A4", "invalid_value", "cursor"),
    ("cursor=WyIyMDI2LTExLTAzIiwiYSIsImIiXQ", "invalid_value", "cursor"),
]


@pytest.mark.parametrize(("query", "code", "param"), WRONG + WRONG_PAGING, ids=lambda value: str(value)[:40])
async def test_a_wrong_parameter_is_named(gateway: httpx.AsyncClient, query: str, code: str, param: str | None) -> None:
    response = await gateway.get(f"/v1/usage?{query}")
    assert read_error(response) == (code, param)
    assert "sk-cr-12345678" not in response.text


@pytest.mark.parametrize(("query", "code", "param"), WRONG, ids=lambda value: str(value)[:40])
async def test_the_file_refuses_the_same(gateway: httpx.AsyncClient, query: str, code: str, param: str | None) -> None:
    assert read_error(await gateway.get(f"/v1/usage.csv?{query}")) == (code, param)


@pytest.mark.parametrize("name", ["limit", "cursor"])
async def test_the_file_has_no_pages(gateway: httpx.AsyncClient, name: str) -> None:
    assert read_error(await gateway.get(f"/v1/usage.csv?{name}=1")) == ("unknown_parameter", name)


async def test_a_year_and_a_day_is_the_longest_range(gateway: httpx.AsyncClient) -> None:
    assert (await gateway.get("/v1/usage?from=2025-11-30&to=2026-11-30")).status_code == 200


async def test_only_our_own_cursor_is_taken_back(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await book(customer.account, (5, MAX, "sk-cr-a", 1, 1), (20, MAX, "sk-cr-a", 1, 1))
    cursor = (await gateway.get("/v1/usage", params=NOVEMBER | {"limit": "1"})).json()["next_cursor"]
    good = await gateway.get("/v1/usage", params=NOVEMBER | {"cursor": cursor})
    assert [row["date"] for row in good.json()["data"]] == ["2026-11-05"]
    changed = [f"{cursor[:at]}{'B' if letter == 'A' else 'A'}{cursor[at + 1 :]}" for at, letter in enumerate(cursor)]
    for text in [*changed, cursor[:-1], cursor + "=", cursor + "A", cursor + "\n", cursor + cursor]:
        response = await gateway.get("/v1/usage", params=NOVEMBER | {"cursor": text})
        assert read_error(response) == ("invalid_value", "cursor"), text
    for change in ({"model": MAX}, {"key": "sk-cr-a"}, {"to": "2026-11-19"}, {"from": "2026-11-21"}):
        response = await gateway.get("/v1/usage", params=NOVEMBER | change | {"cursor": cursor})
        assert read_error(response) == ("invalid_value", "cursor"), change


@pytest.mark.parametrize(
    ("zone", "moment", "query", "first", "last"),
    [
        ("Asia/Shanghai", "2026-11-30T15:59:59", {}, "2026-11-01", "2026-11-30"),
        ("Asia/Shanghai", "2026-11-30T16:00:00", {}, "2026-12-01", "2026-12-01"),
        ("America/New_York", "2026-12-01T04:59:59", {}, "2026-11-01", "2026-11-30"),
        ("UTC", "2026-11-22T00:00:00", {"from": "2026-10-05"}, "2026-10-05", "2026-11-22"),
        ("UTC", "2026-11-22T00:00:00", {"to": "2026-02-28"}, "2026-02-01", "2026-02-28"),
    ],
)
def test_the_month_to_date_is_the_accounts(
    zone: str, moment: str, query: dict[str, str], first: str, last: str
) -> None:
    with time_machine.travel(datetime.fromisoformat(moment).replace(tzinfo=UTC), tick=False):
        scope = choose_scope(query, Account(pk=1, time_zone=zone))
    assert scope == Scope(account_id=1, first=date.fromisoformat(first), last=date.fromisoformat(last))


async def test_the_zone_is_said(gateway: httpx.AsyncClient, customer: Customer) -> None:
    zone = "Pacific/Kiritimati"
    await sync_to_async(Account.objects.filter(pk=customer.account.pk).update)(time_zone=zone)
    before = datetime.now(ZoneInfo(zone)).date()
    body = (await gateway.get("/v1/usage")).json()
    assert body["time_zone"] == zone
    assert before.isoformat() <= body["to"] <= datetime.now(ZoneInfo(zone)).date().isoformat()
    assert body["from"] == body["to"][:8] + "01"


def test_a_page_and_its_total_are_of_one_moment(customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A charge between the two statements is in neither."""
    from concurrent.futures import ThreadPoolExecutor

    from django.db import connections

    from billing import usage

    book_usage(customer.account, (1, MAX, "sk-cr-a", 1, 1))
    add_up = usage.add_up

    def charge() -> None:
        book_usage(customer.account, (2, MAX, "sk-cr-a", 1, 1))
        connections.close_all()

    def charge_then_add_up(scope: Scope) -> tuple[int, int]:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(charge).result()
        return add_up(scope)

    monkeypatch.setattr(usage, "add_up", charge_then_add_up)
    scope = Scope(account_id=customer.account.pk, first=date(2026, 11, 1), last=date(2026, 11, 30))
    page = read_page(scope, None, 10)
    assert (len(page.rows), page.images, page.amount_micros) == (1, 1, 1)
    assert add_up(scope) == (2, 2)


async def test_a_delivered_image_is_used_and_paid(gateway: httpx.AsyncClient, customer: Customer) -> None:
    order = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512x512", "n": 2}
    assert (await gateway.post("/v1/images/generations", json=order)).status_code == 200
    body = (await gateway.get("/v1/usage")).json()
    assert body["data"] == [name_row(body["to"], "qwen-image-2.0", customer.prefix, 2, "0.40")]
    assert body["total"] == {"images": 2, "amount": "0.40"}
    assert (await gateway.get("/v1/balance")).json()["balance"] == "99.60"
    assert customer.secret not in str(body)
    assert await read_violations_async() == []


# --- the file ----------------------------------------------------------------------------------------------------


async def test_the_file(gateway: httpx.AsyncClient, customer: Customer) -> None:
    await book(
        customer.account,
        (2, '=HYPERLINK("http://x")', "+1", 3, 1_500_000),
        (3, MAX, "sk-cr-a", 2, 1_000_001),
        (3, "a,b", "@x", 1, -5),
    )
    response = await gateway.get("/v1/usage.csv", params=NOVEMBER)
    assert response.status_code == 200
    assert response.content.decode() == (
        HEADER
        + '2026-11-03,"a,b",\'@x,1,-0.000005,CNY\r\n'
        + "2026-11-03,qwen-image-max,sk-cr-a,2,1.000001,CNY\r\n"
        + '2026-11-02,"\'=HYPERLINK(""http://x"")",\'+1,3,1.500000,CNY\r\n'
    )
    headers = dict(response.headers)
    assert headers.pop("x-request-id").startswith("req_")
    assert headers == {
        "content-type": "text/csv; charset=utf-8",
        "content-disposition": 'attachment; filename="usage.csv"',
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }


async def test_no_usage_is_a_header(gateway: httpx.AsyncClient) -> None:
    assert (await gateway.get("/v1/usage.csv")).text == HEADER


@pytest.mark.parametrize("rows_at_a_time", [1, 2, 3, 4])
async def test_the_file_is_read_in_pieces(
    gateway: httpx.AsyncClient, customer: Customer, monkeypatch: pytest.MonkeyPatch, rows_at_a_time: int
) -> None:
    monkeypatch.setattr(accounting, "CSV_ROWS", rows_at_a_time)
    await book(customer.account, *[(day, MAX, "sk-cr-a", 1, day) for day in (1, 2, 3)])
    lines = (await gateway.get("/v1/usage.csv", params=NOVEMBER)).text.splitlines()
    assert [line[:10] for line in lines[1:]] == ["2026-11-03", "2026-11-02", "2026-11-01"]


async def test_a_database_that_is_down_is_said_before_the_file_begins(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(accounting, "read_rows", fail)
    assert read_error(await gateway.get("/v1/usage.csv"), 503) == ("service_unavailable", None)


@pytest.fixture
async def closing_runtime(database: None) -> AsyncIterator[None]:
    yield
    await close_runtime()


async def test_a_file_that_cannot_be_finished_does_not_end_well(
    closing_runtime: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(accounting, "CSV_ROWS", 1)
    monkeypatch.setattr(accounting, "read_rows", fail)
    row = UsageRow(date(2026, 11, 1), MAX, "sk-cr-a", 1, 500_000)
    scope = Scope(account_id=1, first=row.day, last=row.day)
    chunks = accounting.write_usage([row], scope=scope, reader=get_runtime().reader)
    assert await anext(chunks) == f"{HEADER}2026-11-01,{MAX},sk-cr-a,1,0.500000,CNY\r\n"
    with pytest.raises(Unavailable):
        await anext(chunks)


async def test_a_file_nobody_waits_for_is_not_read_to_its_end(
    closing_runtime: None, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "CSV_ROWS", 1)
    await book(customer.account, *[(day, MAX, "sk-cr-a", 1, 1) for day in range(1, 31)])
    sent: list[Any] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request"}
        if len(sent) < 3:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/usage.csv",
        "query_string": b"from=2026-11-01&to=2026-11-30",
        "headers": [(b"authorization", customer.headers["Authorization"].encode())],
    }
    await lean(scope, receive, send)
    days = [message["body"][-len(LINE) :][:10] for message in sent[1:]]
    assert (sent[0]["status"], days) == (200, [b"2026-11-30", b"2026-11-29"])


def make_year(account: Account, *, keys: int) -> list[UsageDay]:
    start = date(2026, 1, 1)
    return [
        UsageDay(
            account=account,
            day=start + timedelta(days=day),
            model=MAX,
            key_prefix=f"sk-cr-{key:08x}",
            images=1,
            amount_micros=500_000 + key,
        )
        for day in range(365)
        for key in range(keys)
    ]


@pytest.mark.live
def test_a_year_streams_through_a_real_server(customer: Customer) -> None:
    rows = UsageDay.objects.bulk_create(make_year(customer.account, keys=10), batch_size=1000)
    path = "/v1/usage.csv?from=2026-01-01&to=2026-12-31"
    with RunningServer() as server:
        # Whoever leaves after the first bytes harms nobody.
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as link:
            link.request("GET", path, headers=customer.headers)
            assert link.getresponse().read(6) == b"date,m"
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as link:
            link.request("GET", path, headers=customer.headers)
            response = link.getresponse()
            assert (response.status, response.headers["transfer-encoding"]) == (200, "chunked")
            lines = list(csv.reader(io.StringIO(response.read().decode(), newline="")))
            # The same connection serves the next request: the stream ended as a stream does.
            link.request("GET", path.replace("usage.csv", "usage") + "&limit=1", headers=customer.headers)
            total = link.getresponse().read()
    assert lines[1:] == [
        [row.day.isoformat(), MAX, row.key_prefix, "1", f"0.5{int(row.key_prefix[6:], 16):05d}", "CNY"]
        for row in sorted(rows, key=lambda row: (-row.day.toordinal(), row.key_prefix))
    ]
    assert b'"total":{"images":3650,"amount":"1825.016425"}' in total
