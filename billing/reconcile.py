"""Invariants of the ledger alone, as set-based queries. Each yields the rows that break it: none is the proof."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement, is_postgresql


@dataclass(frozen=True, slots=True)
class Violation:
    """One row that breaks one rule. `notice` marks what is to be known, not to be repaired."""

    rule: str
    subject: str
    detail: str
    notice: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A query for offenders: its first column names the subject, the others fill the detail.

    `{among:COLUMN}` is a condition that holds for every reference of a generation, or for those under suspicion only:
    such a rule need not be asked again over all rows where one pass over them has shown whom to suspect.
    """

    name: str
    query: str
    detail: str
    notice: bool = False

    @property
    def takes_suspects(self) -> bool:
        return "{among:" in self.query

    def check(
        self, connection: BaseDatabaseWrapper, *params: Any, among: Sequence[str] | None = None
    ) -> Iterator[Violation]:
        query, places = AMONG.subn(render_among(connection, among), self.query)
        params += () if among is None else (render_suspects(connection, among),) * places
        with connection.cursor() as cursor:
            cursor.execute(Statement(query).render(connection.vendor), params)
            for subject, *facts in cursor:
                yield Violation(self.name, str(subject), self.detail.format(*facts), self.notice)


AMONG = re.compile(r"\{among:([\w.]+)\}")


def render_among(connection: BaseDatabaseWrapper, suspects: Sequence[str] | None) -> str:
    if suspects is None:
        return "TRUE"
    return r"\1 = ANY(%s)" if is_postgresql(connection) else r"\1 IN (SELECT value FROM json_each(%s))"


def render_suspects(connection: BaseDatabaseWrapper, suspects: Sequence[str]) -> Any:
    return list(suspects) if is_postgresql(connection) else orjson.dumps(suspects).decode()


@dataclass(frozen=True, slots=True)
class FrozenTexts:
    """Whether each frozen statement is the text whose SHA-256 was written down; hashed where it lies."""

    name: str = "frozen-statement-has-its-hash"

    def check(self, connection: BaseDatabaseWrapper) -> Iterator[Violation]:
        # SHA256 of SQLite is Django's own function.
        found = "encode(sha256(convert_to(csv, 'UTF8')), 'hex')" if is_postgresql(connection) else "SHA256(csv)"
        query = f"""
            SELECT account_id, month, sha256, found
            FROM (SELECT account_id, month, sha256, {found} AS found FROM billing_closedmonth) m WHERE sha256 <> found
        """  # noqa: S608 - a constant of this function
        yield from Rule(self.name, query, "account id; the statement of {0} has SHA-256 {2}, frozen was {1}").check(
            connection
        )


def count_open_holds(rule: str, *, table: str, name: str, column: str) -> Rule:
    """What a row with limits counts as held and in flight."""
    return Rule(
        rule,
        f"""
        SELECT t.{name}, t.held_micros, t.in_flight, COALESCE(h.total, 0), COALESCE(h.n, 0) FROM {table} t
        LEFT JOIN (SELECT {column}, SUM(amount_micros) AS total, COUNT(*) AS n FROM billing_hold
                   WHERE state = 'open' GROUP BY {column}) h ON h.{column} = t.id
        WHERE t.held_micros <> COALESCE(h.total, 0) OR t.in_flight <> COALESCE(h.n, 0)
        """,  # noqa: S608
        "held {0} in {1}, but its open holds add up to {2} in {3} (micro-units, generations)",
    )


def add_up_usage(rule: str, *, table: str, name: str, match: str) -> Rule:
    """What a row with limits counts as spent, in all and in the month of its latest charge; usage is proved apart."""
    return Rule(
        rule,
        f"""
        SELECT name, spent, month, month_spent, total, latest, of_latest FROM (
            SELECT t.{name} AS name, t.spent_micros AS spent, t.month, t.month_spent_micros AS month_spent,
                COALESCE(m.total, 0) AS total, COALESCE(m.month, '') AS latest, COALESCE(m.amount, 0) AS of_latest
            FROM {table} t LEFT JOIN (
                SELECT owner, month, amount, SUM(amount) OVER (PARTITION BY owner) AS total,
                    ROW_NUMBER() OVER (PARTITION BY owner ORDER BY month DESC) AS place
                FROM (SELECT t.id AS owner, substr(CAST(u.day AS text), 1, 7) AS month, SUM(u.amount_micros) AS amount
                      FROM billing_usageday u JOIN {table} t ON {match}
                      GROUP BY t.id, substr(CAST(u.day AS text), 1, 7)) u) m
              ON m.owner = t.id AND m.place = 1) c
        WHERE spent <> total OR month <> latest OR month_spent <> of_latest
        """,  # noqa: S608
        "counts {0} spent, in {1!r} {2}; its days of usage add up to {3}, in {4!r} {5} (micro-units)",
    )


# `+` and `NOT … <>` keep SQLite from walking an index and fetching each row of a whole table on its own; days come
# first where it sorts, since the rows nearly are in their order.
RULES = (
    Rule(
        "balance-is-sum-of-entries",
        """
        SELECT a.name, a.balance_micros, COALESCE(e.total, 0)
        FROM billing_account a
        LEFT JOIN (SELECT +account_id AS account_id, SUM(amount_micros) AS total FROM billing_ledgerentry
                   GROUP BY +account_id) e ON e.account_id = a.id
        WHERE a.balance_micros <> COALESCE(e.total, 0)
        """,
        "balance {0}, but its entries add up to {1} (micro-units)",
    ),
    Rule(
        "sequence-has-no-gap",
        """
        SELECT a.name, a.sequence, COALESCE(e.n, 0), COALESCE(e.last, 0)
        FROM billing_account a
        LEFT JOIN (SELECT account_id, COUNT(*) AS n, MIN(sequence) AS first, MAX(sequence) AS last
                   FROM billing_ledgerentry GROUP BY account_id) e ON e.account_id = a.id
        WHERE a.sequence <> COALESCE(e.n, 0) OR a.sequence <> COALESCE(e.last, 0) OR e.first <> 1
        """,
        "the account counts {0} entries, there are {1}, the last is number {2}",
    ),
    Rule(
        "running-balance-adds-up",
        """
        SELECT e.account_id, e.sequence, e.balance_after_micros, COALESCE(b.balance_after_micros, 0), e.amount_micros
        FROM billing_ledgerentry e
        LEFT JOIN billing_ledgerentry b ON b.account_id = e.account_id AND b.sequence = e.sequence - 1
        WHERE e.balance_after_micros <> COALESCE(b.balance_after_micros, 0) + e.amount_micros
        """,
        "account id; entry {0} says balance {1}, the one before it says {2}, its own amount is {3}",
    ),
    count_open_holds("held-is-sum-of-open-holds", table="billing_account", name="name", column="account_id"),
    count_open_holds("key-held-is-sum-of-open-holds", table="billing_apikey", name="prefix", column="api_key_id"),
    Rule(
        "captured-is-sum-of-charges",
        """
        SELECT h.reference, h.captured_micros, COALESCE(c.total, 0)
        FROM billing_hold h
        LEFT JOIN (SELECT reference, -SUM(amount_micros) AS total FROM billing_ledgerentry
                   WHERE kind = 'charge' AND {among:reference} GROUP BY reference) c ON c.reference = h.reference
        WHERE h.captured_micros <> COALESCE(c.total, 0) AND {among:h.reference}
        """,
        "captured {0}, but its charges add up to {1} (micro-units)",
    ),
    Rule(
        "charge-has-a-hold",
        """
        SELECT e.reference, e.line FROM billing_ledgerentry e
        LEFT JOIN billing_hold h ON h.reference = e.reference AND h.account_id = e.account_id
        WHERE e.kind = 'charge' AND h.id IS NULL AND {among:e.reference}
        """,
        "charge of line {0} without a hold of the same account",
    ),
    # The days are proved against the ledger, the counters against the days: one pass over the charges for all of them.
    Rule(
        "usage-is-sum-of-charges",
        """
        SELECT account_id, day, key_prefix, model, SUM(counted), SUM(counted_micros), SUM(charged), SUM(charged_micros)
        FROM (
            SELECT account_id, CAST(day AS text) AS day, key_prefix, model,
                   images AS counted, amount_micros AS counted_micros, 0 AS charged, 0 AS charged_micros
            FROM billing_usageday
            UNION ALL
            SELECT e.account_id, {day:e.booked_at@a.time_zone}, e.key_prefix, e.model, 0, 0, COUNT(*),
                   -SUM(e.amount_micros)
            FROM billing_ledgerentry e JOIN billing_account a ON a.id = e.account_id
            WHERE NOT e.kind <> 'charge' GROUP BY 2, 4, 3, 1) u
        GROUP BY account_id, day, key_prefix, model
        HAVING SUM(counted) <> SUM(charged) OR SUM(counted_micros) <> SUM(charged_micros)
        """,
        "account id; {0}, key {1}, {2}: counts {3} images for {4}, charged are {5} for {6} (micro-units)",
    ),
    add_up_usage("spent-is-sum-of-usage", table="billing_account", name="name", match="u.account_id = t.id"),
    add_up_usage("key-spent-is-sum-of-usage", table="billing_apikey", name="prefix", match="u.key_prefix = t.prefix"),
    Rule(
        "refunds-stay-within-their-charge",
        """
        SELECT c.reference, c.line, -c.amount_micros, r.total
        FROM billing_refundedcharge f
        JOIN billing_ledgerentry c ON c.id = f.charge_id
        JOIN (SELECT reference, SUM(amount_micros) AS total FROM billing_ledgerentry
              WHERE kind = 'refund' GROUP BY reference) r ON r.reference = CAST(f.charge_id AS text)
        WHERE r.total > -c.amount_micros
        """,
        "line {0} was charged {1}, but {2} was refunded (micro-units)",
    ),
    Rule(
        "refunded-is-sum-of-refunds",
        """
        SELECT f.charge_id, f.refunded_micros, f.refunds, f.charged_micros, COALESCE(r.total, 0), COALESCE(r.n, 0),
               c.kind, -c.amount_micros
        FROM billing_refundedcharge f
        JOIN billing_ledgerentry c ON c.id = f.charge_id
        LEFT JOIN (SELECT reference, SUM(amount_micros) AS total, COUNT(*) AS n, MAX(line) AS last
                   FROM billing_ledgerentry WHERE kind = 'refund' GROUP BY reference) r
          ON r.reference = CAST(f.charge_id AS text)
        WHERE f.refunded_micros <> COALESCE(r.total, 0) OR f.refunds <> COALESCE(r.n, 0)
           OR f.refunds <> COALESCE(r.last + 1, 0) OR c.kind <> 'charge' OR f.charged_micros <> -c.amount_micros
        """,
        "entry id; says {0} refunded in {1} parts of {2}; the ledger says {3} in {4}, of a {5} of {6} (micro-units)",
    ),
    Rule(
        "refund-has-its-charge",
        """
        SELECT e.account_id, e.sequence, e.reference
        FROM billing_ledgerentry e
        LEFT JOIN (SELECT CAST(f.charge_id AS text) AS reference, c.account_id FROM billing_refundedcharge f
                   JOIN billing_ledgerentry c ON c.id = f.charge_id) c
          ON c.reference = e.reference AND c.account_id = e.account_id
        WHERE e.kind = 'refund' AND c.reference IS NULL
        """,
        "account id; entry {0} refunds entry id {1}, but no charge of this account counts a refund there",
    ),
    Rule(
        "booking-has-its-entry",
        """
        SELECT b.id, b.kind, b.amount_micros, b.reference, e.kind, e.amount_micros, e.reference
        FROM billing_booking b
        LEFT JOIN billing_ledgerentry e ON e.id = b.entry_id
        WHERE b.state = 'booked' AND (e.id IS NULL OR e.amount_micros <> b.amount_micros OR e.kind <> b.kind
              OR e.account_id <> b.account_id OR e.reference <> b.reference)
        """,
        "booked as {0} of {1} (micro-units) for {2!r}, but its entry is {3} of {4} for {5!r}",
    ),
    # From the end of the closed month before, or from the account's first entry: each entry is looked at once.
    Rule(
        "closed-month-is-what-was-booked",
        """
        SELECT m.account_id, m.month, m.entries, m.opening_balance_micros, m.closing_balance_micros,
               SUM(CASE WHEN e.booked_at >= m.starts_at THEN 1 ELSE 0 END),
               m.carried + SUM(CASE WHEN e.booked_at < m.starts_at THEN e.amount_micros ELSE 0 END),
               m.carried + COALESCE(SUM(e.amount_micros), 0)
        FROM (
            SELECT c.account_id, month, starts_at, ends_at, entries, opening_balance_micros, closing_balance_micros,
                   COALESCE(LAG(closing_balance_micros) OVER w, 0) AS carried,
                   COALESCE(LAG(ends_at) OVER w, (SELECT MIN(booked_at) FROM billing_ledgerentry f
                                                  WHERE f.account_id = c.account_id)) AS since
            FROM billing_closedmonth c WINDOW w AS (PARTITION BY c.account_id ORDER BY ends_at)) m
        LEFT JOIN billing_ledgerentry e
          ON e.account_id = m.account_id AND e.booked_at >= m.since AND e.booked_at < m.ends_at
        GROUP BY m.account_id, m.month, m.entries, m.opening_balance_micros, m.closing_balance_micros, m.carried
        HAVING m.entries <> SUM(CASE WHEN e.booked_at >= m.starts_at THEN 1 ELSE 0 END)
            OR m.opening_balance_micros
               <> m.carried + SUM(CASE WHEN e.booked_at < m.starts_at THEN e.amount_micros ELSE 0 END)
            OR m.closing_balance_micros <> m.carried + COALESCE(SUM(e.amount_micros), 0)
        """,
        "account id; {0} was closed with {1} entries from {2} to {3}, booked are {4} from {5} to {6} (micro-units)",
    ),
    Rule(
        "closed-books-end-with-their-last-month",
        """
        SELECT a.name, a.closed_until, a.time_zone, m.ends_at, m.time_zone
        FROM billing_account a
        LEFT JOIN billing_closedmonth m ON m.account_id = a.id AND NOT EXISTS (
            SELECT 1 FROM billing_closedmonth l WHERE l.account_id = m.account_id AND l.ends_at > m.ends_at)
        WHERE a.closed_until <> m.ends_at OR (a.closed_until IS NULL) <> (m.ends_at IS NULL)
           OR a.time_zone <> m.time_zone
        """,
        "closed until {0} in {1}, but its last closed month ends at {2} in {3}",
    ),
    FrozenTexts(),
    Rule(
        "account-is-overdrawn",
        """
        SELECT name, balance_micros + credit_limit_micros - held_micros FROM billing_account
        WHERE balance_micros + credit_limit_micros - held_micros < 0
        """,
        "available {0} micro-units: new requests are refused, open holds settle normally",
        notice=True,
    ),
)


def check_ledger(connection: BaseDatabaseWrapper) -> Iterator[Violation]:
    """Every violation of the ledger's own rules, within the caller's snapshot."""
    for rule in RULES:
        yield from rule.check(connection)
