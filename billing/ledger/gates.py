"""The gates before money is held: the row of the account, then that of the key.

Each asks everything that stands on its row and counts the request there in one conditional UPDATE, so that a limit is
exact whichever processes race for its last place. Columns decide, never what somebody read before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement, read_moment

WINDOW_S = 60


class Reason(StrEnum):
    """Why a reservation was made or refused."""

    RESERVED = "reserved"
    ACCOUNT_SUSPENDED = "account_suspended"
    KEY_UNUSABLE = "key_unusable"  # revoked, disabled or expired since the caller looked
    INSUFFICIENT_QUOTA = "insufficient_quota"
    SPEND_LIMIT_REACHED = "spend_limit_reached"
    RATE_LIMITED = "rate_limited"
    CONCURRENCY_LIMITED = "concurrency_limited"


#: These do not depend on the amount: who is refused for one of them is refused with all that wait behind.
REFUSES_ALL = {Reason.ACCOUNT_SUSPENDED, Reason.KEY_UNUSABLE, Reason.RATE_LIMITED, Reason.CONCURRENCY_LIMITED}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one reservation, and the tightest window of requests that it met: its limit, how many requests
    remain in it, and the seconds until it begins anew. None where neither account nor key has such a limit."""

    reason: Reason
    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None

    @property
    def granted(self) -> bool:
        return self.reason is Reason.RESERVED


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money to hold for one generation. Amounts in micro-units."""

    reference: str
    account_id: int
    api_key_id: int | None
    amount_micros: int


# A window that lies ahead is one that the clock has jumped back from: it does not count.
_OPEN = f"window_started_at > {{later:-{WINDOW_S}}} AND window_started_at < {{later:{WINDOW_S}}}"

_COUNT = f"""
    held_micros = held_micros + r.amount, in_flight = in_flight + r.requests,
    window_started_at = CASE WHEN requests_per_minute IS NULL OR {_OPEN} THEN window_started_at ELSE {{now}} END,
    window_requests = CASE WHEN requests_per_minute IS NULL THEN window_requests
        WHEN {_OPEN} THEN window_requests + r.requests ELSE r.requests END
"""


def limit_by(zone: str) -> dict[Reason, str]:
    """The conditions of a row with limits. A month that was moved on by a charge after it is the current one, too."""
    return {
        Reason.SPEND_LIMIT_REACHED: f"""
            (spend_limit_micros IS NULL OR spent_micros + held_micros + r.amount <= spend_limit_micros)
            AND (monthly_spend_limit_micros IS NULL OR
                CASE WHEN month >= substr({{day:{{now}}@{zone}}}, 1, 7) THEN month_spent_micros ELSE 0 END
                + held_micros + r.amount <= monthly_spend_limit_micros)
        """,
        Reason.RATE_LIMITED: f"""
            (requests_per_minute IS NULL OR
                CASE WHEN {_OPEN} THEN window_requests ELSE 0 END + r.requests <= requests_per_minute)
        """,
        Reason.CONCURRENCY_LIMITED: "(max_in_flight IS NULL OR in_flight + r.requests <= max_in_flight)",
    }


class Gate:
    """One table of rows with limits. `conditions`: what must hold, in the order in which refusals are explained."""

    def __init__(self, table: str, conditions: Mapping[Reason, str]) -> None:
        columns = {"id": "bigint", "account_id": "bigint", "amount": "bigint", "requests": "integer"}
        answer = f"{table}.id, requests_per_minute, window_requests, window_started_at, {{now}}"
        every = " AND ".join(f"({condition})" for condition in conditions.values())
        self._count = Statement(
            f"UPDATE {table} SET {_COUNT} FROM {{rows}} WHERE {table}.id = r.id AND {every} RETURNING {answer}",  # noqa: S608
            **columns,
        )
        why = " ".join(f"WHEN NOT ({condition}) THEN '{reason}'" for reason, condition in conditions.items())
        self._explain = Statement(
            f"SELECT CASE {why} ELSE '' END, {answer} FROM {table}, {{rows}} WHERE {table}.id = r.id {{lock:{table}}}",  # noqa: S608
            **columns,
        )

    def admit(self, connection: BaseDatabaseWrapper, groups: Mapping[int, Sequence[Reservation]]) -> dict[str, Verdict]:
        """A verdict for each reservation, grouped by the id of the row that is asked.

        Each row is asked once for the sum of its items; only if that does not fit, once per item in order of arrival,
        so that a large refused hold does not refuse a small one behind it.
        """
        answers = self._ask(connection, groups)
        verdicts: dict[str, Verdict] = {}
        for row_id, items in groups.items():
            if row_id in answers:
                verdicts |= grant(items, answers[row_id])
            else:
                verdicts |= self._admit_each(connection, row_id, items)
        return verdicts

    def _ask(
        self, connection: BaseDatabaseWrapper, groups: Mapping[int, Sequence[Reservation]]
    ) -> dict[int, tuple[Any, ...]]:
        rows = [make_row(row_id, items) for row_id, items in groups.items()]
        return {answer[0]: answer[1:] for answer in self._count.run(connection, rows)}

    def _admit_each(
        self, connection: BaseDatabaseWrapper, row_id: int, items: Sequence[Reservation]
    ) -> dict[str, Verdict]:
        verdicts: dict[str, Verdict] = {}
        # The sum of one is the one: it was asked already.
        asked = len(items) == 1
        for place, item in enumerate(items):
            verdict = (self._explain_refusal(connection, row_id, item) if asked else None) or self._admit_one(
                connection, row_id, item
            )
            verdicts[item.reference] = verdict
            if verdict.reason in REFUSES_ALL:
                return verdicts | {later.reference: verdict for later in items[place + 1 :]}
        return verdicts

    def _admit_one(self, connection: BaseDatabaseWrapper, row_id: int, item: Reservation) -> Verdict:
        """Ask until it is granted or the row says why not: between both, somebody else may have made room.

        Reading takes the row, so the second turn is the last, unless a clock has passed a limit meanwhile.
        """
        for _ in range(3):
            if answers := self._ask(connection, {row_id: [item]}):
                return grant([item], answers[row_id])[item.reference]
            if refusal := self._explain_refusal(connection, row_id, item):
                return refusal
        return Verdict(Reason.CONCURRENCY_LIMITED)

    def _explain_refusal(self, connection: BaseDatabaseWrapper, row_id: int, item: Reservation) -> Verdict | None:
        for reason, _, *answer in self._explain.run(connection, [make_row(row_id, [item])]):
            if reason:
                return Verdict(Reason(reason), *read_window(*answer))
            return None
        raise LookupError(f"there is no row {row_id} for {item.reference}")


ACCOUNTS = Gate(
    "billing_account",
    {
        Reason.ACCOUNT_SUSPENDED: "state = 'active'",
        Reason.INSUFFICIENT_QUOTA: "balance_micros + credit_limit_micros - held_micros >= r.amount",
        **limit_by("time_zone"),
    },
)

KEYS = Gate(
    "billing_apikey",
    {
        Reason.KEY_UNUSABLE: """
            billing_apikey.account_id = r.account_id AND enabled AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > {now})
        """,
        **limit_by("(SELECT a.time_zone FROM billing_account a WHERE a.id = billing_apikey.account_id)"),
    },
)

# What this transaction counted can be taken back: the row is ours since then. A window without a request is none.
GIVE_BACK = Statement(
    """
    UPDATE billing_account SET held_micros = held_micros - r.amount, in_flight = in_flight - r.requests,
        window_started_at = CASE WHEN requests_per_minute IS NOT NULL AND window_requests <= r.requests THEN NULL
            ELSE window_started_at END,
        window_requests = CASE WHEN requests_per_minute IS NULL THEN window_requests
            ELSE window_requests - r.requests END
    FROM {rows} WHERE billing_account.id = r.id
    """,
    id="bigint",
    amount="bigint",
    requests="integer",
)


def pass_gates(connection: BaseDatabaseWrapper, items: Sequence[Reservation]) -> dict[str, Verdict]:
    """Ask the accounts, then the keys. What a key refuses, its account gets back, and may give to whom it refused."""
    verdicts = ACCOUNTS.admit(connection, group_by(items, "account_id"))
    admitted = [item for item in items if verdicts[item.reference].granted and item.api_key_id is not None]
    if not admitted:
        return verdicts
    answers = KEYS.admit(connection, group_by(admitted, "api_key_id"))
    verdicts |= {reference: combine(verdicts[reference], answer) for reference, answer in answers.items()}
    turned_away = group_by([item for item in admitted if not answers[item.reference].granted], "account_id")
    if not turned_away:
        return verdicts
    GIVE_BACK.send(connection, [make_row(account_id, own) for account_id, own in turned_away.items()])
    again = [
        item
        for item in items
        if item.account_id in turned_away and item.reference not in answers and not verdicts[item.reference].granted
    ]
    return verdicts | pass_gates(connection, again) if again else verdicts


def group_by(items: Iterable[Reservation], column: str) -> dict[int, list[Reservation]]:
    groups: dict[int, list[Reservation]] = defaultdict(list)
    for item in items:
        groups[getattr(item, column)].append(item)
    return groups


def make_row(row_id: int, items: Sequence[Reservation]) -> dict[str, Any]:
    return {
        "id": row_id,
        "account_id": items[0].account_id,
        "amount": sum(item.amount_micros for item in items),
        "requests": len(items),
    }


def grant(items: Sequence[Reservation], answer: Sequence[Any]) -> dict[str, Verdict]:
    """The row counted all of them; each is told what remained after it."""
    limit, remaining, reset_s = read_window(*answer)
    if remaining is None:
        return dict.fromkeys((item.reference for item in items), Verdict(Reason.RESERVED))
    return {
        item.reference: Verdict(Reason.RESERVED, limit, remaining + behind, reset_s)
        for behind, item in enumerate(reversed(items))
    }


def read_window(
    limit: int | None, requests: int, started: datetime | str | None, now: datetime | str
) -> tuple[int | None, int | None, float | None]:
    """The limit, what remains of it, and the seconds until the window begins anew."""
    if limit is None:
        return None, None, None
    passed = (read_moment(now) - read_moment(started)).total_seconds() if started is not None else 0.0
    if abs(passed) >= WINDOW_S:
        return limit, limit, 0.0
    return limit, max(0, limit - requests), min(WINDOW_S, WINDOW_S - passed)


def combine(account: Verdict, key: Verdict) -> Verdict:
    """The key's answer, with the tighter of both windows where both granted."""
    windows = [one for one in (account, key) if one.remaining is not None and one.reset_s is not None]
    if not key.granted or not windows:
        return key
    return min(windows, key=lambda one: (one.remaining, -(one.reset_s or 0)))
