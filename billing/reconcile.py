"""Invariants of the ledger alone, as set-based queries. Each yields the rows that break it: none is the proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


@dataclass(frozen=True, slots=True)
class Violation:
    """One row that breaks one rule. `notice` marks what is to be known, not to be repaired."""

    rule: str
    subject: str
    detail: str
    notice: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A query for offenders: its first column names the subject, the others fill the detail."""

    name: str
    query: str
    detail: str
    notice: bool = False

    def check(self, connection: BaseDatabaseWrapper, *params: Any) -> Iterator[Violation]:
        with connection.cursor() as cursor:
            cursor.execute(self.query, params)
            for subject, *facts in cursor:
                yield Violation(self.name, str(subject), self.detail.format(*facts), self.notice)


RULES = (
    Rule(
        "balance-is-sum-of-entries",
        """
        SELECT a.name, a.balance_micros, COALESCE(e.total, 0)
        FROM billing_account a
        LEFT JOIN (SELECT account_id, SUM(amount_micros) AS total FROM billing_ledgerentry GROUP BY account_id) e
          ON e.account_id = a.id
        WHERE a.balance_micros <> COALESCE(e.total, 0)
        """,
        "balance {0}, but its entries add up to {1} (micro-units)",
    ),
    Rule(
        "sequence-has-no-gap",
        """
        SELECT a.name, a.sequence, COALESCE(e.n, 0), COALESCE(e.last, 0)
        FROM billing_account a
        LEFT JOIN (SELECT account_id, COUNT(*) AS n, MAX(sequence) AS last FROM billing_ledgerentry
                   GROUP BY account_id) e ON e.account_id = a.id
        WHERE a.sequence <> COALESCE(e.n, 0) OR a.sequence <> COALESCE(e.last, 0)
        """,
        "the account counts {0} entries, there are {1}, the last is number {2}",
    ),
    Rule(
        "running-balance-adds-up",
        """
        SELECT account_id, sequence, balance_after_micros, running FROM (
            SELECT account_id, sequence, balance_after_micros,
                   SUM(amount_micros) OVER (PARTITION BY account_id ORDER BY sequence) AS running
            FROM billing_ledgerentry) e
        WHERE balance_after_micros <> running
        """,
        "account id; entry {0} says balance {1}, the entries up to it add up to {2}",
    ),
    Rule(
        "held-is-sum-of-open-holds",
        """
        SELECT a.name, a.held_micros, COALESCE(h.total, 0)
        FROM billing_account a
        LEFT JOIN (SELECT account_id, SUM(amount_micros) AS total FROM billing_hold
                   WHERE state = 'open' GROUP BY account_id) h ON h.account_id = a.id
        WHERE a.held_micros <> COALESCE(h.total, 0)
        """,
        "held {0}, but its open holds add up to {1} (micro-units)",
    ),
    Rule(
        "captured-is-sum-of-charges",
        """
        SELECT h.reference, h.captured_micros, COALESCE(c.total, 0)
        FROM billing_hold h
        LEFT JOIN (SELECT reference, -SUM(amount_micros) AS total FROM billing_ledgerentry
                   WHERE kind = 'charge' GROUP BY reference) c ON c.reference = h.reference
        WHERE h.captured_micros <> COALESCE(c.total, 0)
        """,
        "captured {0}, but its charges add up to {1} (micro-units)",
    ),
    Rule(
        "charge-has-a-hold",
        """
        SELECT e.reference, e.line FROM billing_ledgerentry e
        LEFT JOIN billing_hold h ON h.reference = e.reference AND h.account_id = e.account_id
        WHERE e.kind = 'charge' AND h.id IS NULL
        """,
        "charge of line {0} without a hold of the same account",
    ),
    Rule(
        "spent-is-sum-of-captured",
        """
        SELECT k.prefix, k.spent_micros, COALESCE(h.total, 0)
        FROM billing_apikey k
        LEFT JOIN (SELECT api_key_id, SUM(captured_micros) AS total FROM billing_hold GROUP BY api_key_id) h
          ON h.api_key_id = k.id
        WHERE k.spent_micros <> COALESCE(h.total, 0)
        """,
        "the key counts {0} spent, its holds captured {1} (micro-units)",
    ),
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
