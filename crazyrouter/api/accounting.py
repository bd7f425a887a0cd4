"""What an account may read of its own money: balance and usage. The account is the key's, and no parameter names one.

Read from the database with each request. Usage counts charges only; see billing/usage.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import timezone

from billing.csvtext import CONTENT_TYPE, Cell, render_lines, write_amount
from billing.models import Account
from billing.money import format_amount
from billing.usage import CURRENCY, Position, Scope, UsagePage, UsageRow, find_account, read_page, read_rows
from crazyrouter.api.errors import render_json
from crazyrouter.api.query import (
    open_cursor,
    read_day,
    read_query,
    read_text,
    read_whole,
    refuse,
    seal_cursor,
)
from crazyrouter.api.requests import authenticate
from crazyrouter.api.views import PublicView
from crazyrouter.generation.ids import new_id
from crazyrouter.generation.runtime import Runtime, get_runtime
from crazyrouter.generation.snapshot import Reader

FILTERS = ("from", "to", "model", "key")
PAGING = ("limit", "cursor")
MOST_DAYS = 366
MOST_ROWS = 1000
USUAL_ROWS = 100
#: As long as the columns are.
LONGEST_MODEL = 64
LONGEST_KEY = 24
#: Rows read and rendered at a time: all that a file of any length holds in memory.
CSV_ROWS = 500
CSV_HEADER = ("date", "model", "key", "images", "amount", "currency")


class BalanceView(PublicView):
    """GET /v1/balance"""

    async def get(self, request: HttpRequest) -> HttpResponse:
        return render_json(describe_balance(await find_payer(request, get_runtime())))


def describe_balance(account: Account) -> dict[str, str]:
    return {
        "balance": format_amount(account.balance_micros),
        "held": format_amount(account.held_micros),
        "credit_limit": format_amount(account.credit_limit_micros),
        "available": format_amount(account.available_micros),
        "currency": CURRENCY,
    }


async def find_payer(request: HttpRequest, runtime: Runtime) -> Account:
    """The account of the request's key, as the database has it now."""
    identity = await authenticate(request, runtime.snapshot, await runtime.snapshot.get())
    return await runtime.reader.read(find_account, identity.account_id)


class UsageView(PublicView):
    """GET /v1/usage"""

    async def get(self, request: HttpRequest) -> HttpResponse:
        runtime = get_runtime()
        account = await find_payer(request, runtime)
        query = read_query(request, FILTERS + PAGING)
        scope = choose_scope(query, account)
        limit = read_whole(query, "limit", least=1, largest=MOST_ROWS, default=USUAL_ROWS)
        page = await runtime.reader.read(read_page, scope, read_cursor(query, scope), limit)
        return render_json(describe_page(page, scope, account))


def choose_scope(query: Mapping[str, str], account: Account) -> Scope:
    """What was asked for; by default the month of the last day, whose default is the account's today."""
    last = read_day(query, "to") or timezone.localdate(timezone=ZoneInfo(account.time_zone))
    first = read_day(query, "from") or last.replace(day=1)
    if first > last:
        refuse("from", f"must not be after 'to', which is {last}")
    if last - first >= timedelta(days=MOST_DAYS):
        refuse("from", f"at most {MOST_DAYS} days before 'to', both included")
    return Scope(
        account_id=account.pk,
        first=first,
        last=last,
        model=read_text(query, "model", longest=LONGEST_MODEL),
        key_prefix=read_text(query, "key", longest=LONGEST_KEY),
    )


def name_list(scope: Scope) -> str:
    """What a cursor is good for. Not the days: their defaults move at midnight, between two pages."""
    return repr(("usage", scope.account_id, scope.model, scope.key_prefix))


def read_cursor(query: Mapping[str, str], scope: Scope) -> Position | None:
    """Where the page before ended."""
    if "cursor" not in query:
        return None
    day, model, key_prefix = open_cursor(query["cursor"], purpose=name_list(scope))
    position = Position(date.fromisoformat(day), model, key_prefix)
    if not scope.first <= position.day <= scope.last:
        refuse("cursor", "it belongs to other days than 'from' and 'to'")
    return position


def describe_page(page: UsagePage, scope: Scope, account: Account) -> dict[str, Any]:
    """The page, and the total of the whole range."""
    return {
        "object": "list",
        "from": scope.first,
        "to": scope.last,
        "time_zone": account.time_zone,
        "currency": CURRENCY,
        "data": [describe_row(row) for row in page.rows],
        "total": {"images": page.images, "amount": format_amount(page.amount_micros)},
        "has_more": page.has_more,
        "next_cursor": seal_cursor([*page.rows[-1].position], purpose=name_list(scope)) if page.has_more else None,
    }


def describe_row(row: UsageRow) -> dict[str, Any]:
    return {
        "date": row.day,
        "model": row.model,
        "key": row.key_prefix,
        "images": row.images,
        "amount": format_amount(row.amount_micros),
    }


class UsageCsvView(PublicView):
    """GET /v1/usage.csv"""

    async def get(self, request: HttpRequest) -> StreamingHttpResponse:
        runtime = get_runtime()
        account = await find_payer(request, runtime)
        scope = choose_scope(read_query(request, FILTERS), account)
        # Read before the answer begins, so that a database that is down is still said with a status.
        rows = await runtime.reader.read(read_rows, scope, None, CSV_ROWS)
        return render_csv(write_usage(rows, scope=scope, reader=runtime.reader))


def render_csv(chunks: AsyncIterator[str]) -> StreamingHttpResponse:
    """A download whose length nobody knows yet; a connection that breaks before its end says that it is not whole."""
    response = StreamingHttpResponse(chunks, content_type=CONTENT_TYPE)
    response["Content-Disposition"] = 'attachment; filename="usage.csv"'
    response["x-request-id"] = new_id("req")
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response


async def write_usage(rows: list[UsageRow], *, scope: Scope, reader: Reader) -> AsyncIterator[str]:
    """The header and these rows, then what follows them, read as fast as the client takes it and no faster."""
    yield "".join(render_lines([CSV_HEADER, *list_cells(rows)]))
    while len(rows) == CSV_ROWS:
        rows = await reader.read(read_rows, scope, rows[-1].position, CSV_ROWS)
        yield "".join(render_lines(list_cells(rows)))


def list_cells(rows: Iterable[UsageRow]) -> list[tuple[Cell, ...]]:
    return [
        (row.day.isoformat(), row.model, row.key_prefix, row.images, write_amount(row.amount_micros), CURRENCY)
        for row in rows
    ]
