"""Reads both sides of the comparison: the bill over HTTP, our attempts from the database.

Our side is read first: each attempt is in the database before its order goes out, so that an order which came before
that moment has its attempt among them.

    BillUnreadable      the upstream did not answer, or not with a bill
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection
from django.db.models import F, Q

from crazyrouter.generation.models import Attempt
from crazyrouter.generation.upstream_bill.rows import BilledOrder, SentCall, UpstreamBill
from crazyrouter.sql import read_clock
from providers.transport import NotSent, ReplyLost, Transport

T = TypeVar("T")

PAGE = 2_000
#: More than the most that is kept.
MOST_PAGES = 200
READ_TIMEOUT_S = 60.0
#: An attempt is written before its order goes out, by far less than this.
AHEAD = timedelta(hours=1)


class BillUnreadable(Exception):
    """Says what was in the way."""


@dataclass(frozen=True, slots=True)
class BothSides:
    """`calls` are those of channels below `url`, read at `read_at`; `older` ones are too old to be on the bill."""

    url: str
    bill: UpstreamBill
    calls: tuple[SentCall, ...]
    older: int
    read_at: datetime


@dataclass(frozen=True, slots=True)
class BillAddress:
    """Where an upstream tells its bill: below `url`, to whoever has the control key."""

    url: str
    key: str

    async def ask(self, transport: Transport, query: str) -> Mapping[str, Any]:
        """Raises BillUnreadable."""
        target = f"{self.url}/_sim/bill?{query}"
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            reply = await transport.get(target, headers=headers, read_timeout=READ_TIMEOUT_S)
        except (NotSent, ReplyLost) as error:
            raise BillUnreadable(f"{self.url} does not answer: {error} (EGRESS_ALLOW must name it)") from error
        try:
            body = reply.json()
        except ValueError:
            body = None
        if reply.status != 200 or not isinstance(body, dict):
            raise BillUnreadable(f"{target} answered {reply.status} {reply.body[:200].decode('utf-8', 'replace')}")
        return body


def read_both(url: str, *, key: str) -> BothSides:
    """Raises BillUnreadable."""
    address = BillAddress(url.rstrip("/"), key)
    try:
        since = asyncio.run(run_with_transport(partial(read_since, address)))
        calls, older, read_at = load_calls(address.url, since)
        bill = asyncio.run(run_with_transport(partial(read_bill, address, since)))
    except (KeyError, TypeError, ValueError) as error:
        raise BillUnreadable(f"{address.url} answered something else than a bill: {error!r}") from error
    return BothSides(address.url, bill, calls, older, read_at)


async def run_with_transport(read: Callable[[Transport], Awaitable[T]]) -> T:
    transport = Transport(allow=settings.EGRESS_ALLOW)
    try:
        return await read(transport)
    finally:
        await transport.aclose()


async def read_since(address: BillAddress, transport: Transport) -> datetime:
    return read_moment(await address.ask(transport, "entries=0"), "since")


def load_calls(url: str, since: datetime) -> tuple[tuple[SentCall, ...], int, datetime]:
    """Attempts of channels at this address from about `since` on, how many are older, and the moment of reading."""
    read_at = read_clock(connection)
    below = Attempt.objects.filter(Q(base_url=url) | Q(base_url__startswith=f"{url}/"))
    rows = (
        below.filter(created_at__gte=since - AHEAD)
        .order_by("id")
        .values(
            *("generation_id", "number", "created_at", "state", "billed", "task_id", "upstream_id", "credential_id"),
            *("slots", "images"),
            model=F("upstream_model"),
            key_last4=F("credential__last4"),
            account=F("channel__account__name"),
            prompt=F("generation__prompt"),
        )
    )
    calls = tuple(make_call(**row) for row in rows.iterator(chunk_size=2000))
    return calls, below.filter(created_at__lt=since - AHEAD).count(), read_at


def make_call(*, account: str | None, slots: list[int], **facts: Any) -> SentCall:
    return SentCall(account=account or "", slots=len(slots), **facts)


async def read_bill(address: BillAddress, since: datetime, transport: Transport) -> UpstreamBill:
    """All that is kept of it, page by page. Raises BillUnreadable where it was opened anew meanwhile."""
    orders: list[Mapping[str, Any]] = []
    charged: Counter[int] = Counter()
    after = 0
    for _ in range(MOST_PAGES):
        page = await address.ask(transport, f"after={after}&limit={PAGE}")
        if read_moment(page, "since") != since:
            raise BillUnreadable(f"{address.url} has begun a new bill while the old one was read")
        for entry in page["entries"]:
            if entry["kind"] == "image":
                charged[entry["submission"]] += 1
            else:
                orders.append(entry)
        if len(page["entries"]) < PAGE:
            break
        after = page["entries"][-1]["number"]
    return UpstreamBill(
        since=since,
        orders=tuple(make_order(entry, charged[entry["id"]]) for entry in orders),
        forgotten=page["kept"]["forgotten"],
        charged=page["totals"]["images"],
        ordered=page["totals"]["submissions"],
    )


def make_order(entry: Mapping[str, Any], charged: int) -> BilledOrder:
    return BilledOrder(
        id=entry["id"],
        request_id=entry["request_id"],
        task_id=entry["task_id"] or "",
        received_at=read_moment(entry, "received_at"),
        key_last4=entry["key_last4"],
        account=entry["account"],
        model=entry["model"],
        prompt=entry["prompt"],
        n=entry["n"],
        accepted=entry["accepted"],
        code=entry["code"] or "",
        charged=charged,
    )


def read_moment(body: Mapping[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(body[name])
