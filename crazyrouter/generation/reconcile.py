"""Invariants between the ledger, the generations and the stored images: what was promised to customers, proved.

An image is charged if and only if it was generated, stored and can be collected by its customer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from billing.prices import UNIT_PRICE_SQL
from billing.reconcile import RULES as LEDGER_RULES
from billing.reconcile import Rule, Violation
from crazyrouter.files.errors import StorageError
from crazyrouter.files.models import StoredImage
from crazyrouter.files.storage import get_storage
from crazyrouter.generation.suspects import find_suspects
from crazyrouter.sql import open_read_only_snapshot

RULES = (
    Rule(
        "charge-has-an-image",
        """
        SELECT e.reference, e.line FROM billing_ledgerentry e
        LEFT JOIN files_storedimage i ON i.generation_id = e.reference AND i.slot = e.line
        WHERE e.kind = 'charge' AND i.id IS NULL AND {among:e.reference}
        """,
        "slot {0} is charged, but no image of it was ever stored",
    ),
    Rule(
        "image-is-charged",
        """
        SELECT i.generation_id, i.slot, g.state FROM files_storedimage i
        JOIN generation_generation g ON g.id = i.generation_id
        LEFT JOIN billing_ledgerentry e ON e.kind = 'charge' AND e.reference = i.generation_id AND e.line = i.slot
        WHERE e.id IS NULL AND g.state <> 'running' AND {among:i.generation_id}
        """,
        "slot {0} is stored and the generation {1}, but it is not charged",
    ),
    Rule(
        "image-has-a-generation",
        """
        SELECT i.name, i.generation_id FROM files_storedimage i
        LEFT JOIN generation_generation g ON g.id = i.generation_id
        WHERE g.id IS NULL AND {among:i.generation_id}
        """,
        "stored for the generation {0}, which does not exist",
    ),
    Rule(
        "delivered-is-count-of-images",
        """
        SELECT g.id, g.delivered, COUNT(i.id) FROM generation_generation g
        LEFT JOIN files_storedimage i ON i.generation_id = g.id
        WHERE g.state <> 'running' AND {among:g.id}
        GROUP BY g.id, g.delivered HAVING g.delivered <> COUNT(i.id)
        """,
        "says {0} delivered, {1} are stored",
    ),
    Rule(
        "finished-generation-holds-nothing",
        """
        SELECT g.id, g.state, h.amount_micros FROM generation_generation g
        JOIN billing_hold h ON h.reference = g.id AND h.state = 'open' WHERE g.state <> 'running'
        """,
        "is {0}, but still holds {1} micro-units",
    ),
    Rule(
        "running-generation-has-a-hold",
        """
        SELECT g.id FROM generation_generation g
        LEFT JOIN billing_hold h ON h.reference = g.id AND h.state = 'open'
        WHERE g.state = 'running' AND h.id IS NULL
        """,
        "is running without money held for it",
    ),
    Rule(
        "hold-has-a-generation",
        """
        SELECT h.reference FROM billing_hold h
        LEFT JOIN generation_generation g ON g.id = h.reference AND g.account_id = h.account_id
        WHERE g.id IS NULL AND {among:h.reference}
        """,
        "holds money for a generation of this account that does not exist",
    ),
    Rule(
        "charge-is-its-price-version",
        f"""
        SELECT reference, line, charged, unit, due,
            CASE WHEN fit THEN 'they are its own' ELSE 'they are not those of its generation' END
        FROM (
            SELECT e.reference, e.line, -e.amount_micros AS charged, e.unit_price_micros AS unit,
                {UNIT_PRICE_SQL} AS due,
                p.id = g.price_id AND p.model_id = g.model_id
                AND COALESCE(g.account_price_id, 0) = COALESCE(e.account_price_version, 0)
                AND (e.account_price_version IS NULL OR a.account_id = e.account_id AND a.model_id = g.model_id)
                AS fit
            FROM billing_ledgerentry e
            LEFT JOIN generation_generation g ON g.id = e.reference
            LEFT JOIN models_registry_price p ON p.id = e.price_version
            LEFT JOIN billing_accountprice a ON a.id = e.account_price_version
            WHERE e.kind = 'charge' AND {{among:e.reference}}) c
        WHERE due IS NULL OR unit IS NULL OR charged <> unit OR unit <> due OR fit IS NOT TRUE
        """,  # noqa: S608
        "slot {0} is charged {1} micro-units at a unit price of {2}, its price versions say {3}; {4}",
    ),
    Rule(
        "delivered-picture-has-an-attempt",
        """
        SELECT g.id, g.delivered, COALESCE(a.images, 0) FROM generation_generation g
        LEFT JOIN (SELECT generation_id, SUM(images) AS images FROM generation_attempt
                   WHERE purpose = 'customer' AND {among:generation_id} GROUP BY generation_id) a
          ON a.generation_id = g.id
        WHERE g.state <> 'running' AND g.delivered <> COALESCE(a.images, 0) AND {among:g.id}
        """,
        "delivered {0}, its attempts brought {1}",
    ),
    Rule(
        "capacity-counts-what-runs",
        """
        SELECT u.name || ': ' || c.upstream_model, c.running, COUNT(a.id) FROM providers_capacity c
        JOIN providers_upstreamaccount u ON u.id = c.account_id
        LEFT JOIN (
            SELECT a.id, a.capacity_id FROM generation_generation g JOIN generation_attempt a ON a.generation_id = g.id
            WHERE g.state = 'running' AND a.purpose = 'customer' AND a.state IN ('created', 'accepted')
            UNION ALL
            SELECT id, capacity_id FROM generation_attempt
            WHERE purpose = 'shadow' AND state IN ('created', 'accepted')) a ON a.capacity_id = c.id
        GROUP BY u.name, c.upstream_model, c.id, c.running HAVING c.running <> COUNT(a.id)
        """,
        "says that {0} calls run, {1} attempts that have not ended hold room there",
    ),
    Rule(
        "waiting-call-is-of-a-running-generation",
        """
        SELECT w.generation_id, g.state FROM generation_waitingcall w
        LEFT JOIN generation_generation g ON g.id = w.generation_id
        WHERE g.id IS NULL OR g.state <> 'running'
        """,
        "a call of it waits for room, but it is {0}",
    ),
)


#: Their one value is the horizon in seconds, below zero.
RULES_BY_THE_CLOCK = (
    Rule(
        "generation-ends-within-its-horizon",
        """
        SELECT g.id, g.created_at FROM generation_generation g
        WHERE g.state = 'running' AND g.created_at < {later:%s}
        """,
        "is running since {0}",
    ),
    Rule(
        "driver-is-gone",
        """
        SELECT g.id, g.lease_expires_at, h.amount_micros FROM generation_generation g
        JOIN billing_hold h ON h.reference = g.id
        WHERE g.state = 'running' AND g.lease_expires_at < {now} AND g.created_at >= {later:%s}
        """,
        "its process stopped (lease ended {0}); {1} micro-units stay held until it is taken over",
        notice=True,
    ),
)

#: The rule that needs the disk.
BYTES = "stored-image-has-its-bytes"


def check_books(*, files: bool = False) -> Iterator[Violation]:
    """Every violation and notice, from one read-only snapshot of the database. `files` also looks at the bytes."""
    with open_books():
        yield from check_tables()
        if files:
            yield from check_files()


@contextmanager
def open_books() -> Iterator[None]:
    """One moment of the database for everything that is read in here; no writer waits for it."""
    with give_memory(connection), open_read_only_snapshot(connection):
        yield


def check_tables() -> Iterator[Violation]:
    """What every rule says, within `open_books`. Rules that take suspects are asked about those alone."""
    suspects = find_suspects(connection)
    for rule in (*LEDGER_RULES, *RULES):
        if not isinstance(rule, Rule) or not rule.takes_suspects:
            yield from rule.check(connection)
        elif suspects != []:
            yield from rule.check(connection, among=suspects)
    yield from check_running()


@contextmanager
def give_memory(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """For hashes and sorts of millions of rows, on this connection and until the end of the check."""
    more, less = WORK_MEMORY[connection.vendor]
    with connection.cursor() as cursor:
        for setting in more:
            cursor.execute(setting)
        try:
            yield
        finally:
            for setting in less:
                cursor.execute(setting)


#: To have more, and as it was. PostgreSQL's helpers stay at the customers' work, and away from a small /dev/shm.
WORK_MEMORY = {
    "sqlite": (["PRAGMA cache_size = -65536"], ["PRAGMA cache_size = -2000"]),
    "postgresql": (
        ["SET work_mem = '128MB'", "SET jit = off", "SET max_parallel_workers_per_gather = 0"],
        ["RESET work_mem", "RESET jit", "RESET max_parallel_workers_per_gather"],
    ),
}


def check_running() -> Iterator[Violation]:
    """Generations past their horizon, and, as a notice, those whose process is gone."""
    # The clock goes forward by a negative number of seconds; a picture may still be fetched after the horizon.
    horizon = settings.ASYNC_HORIZON_S + settings.GENERATION_DEADLINE_S
    for rule in RULES_BY_THE_CLOCK:
        yield from rule.check(connection, -horizon)


def check_files() -> Iterator[Violation]:
    """Whether the bytes of every unexpired image are there, as long as the row says."""
    storage = get_storage()
    rows = StoredImage.objects.filter(deleted_at=None, expires_at__gt=timezone.now())
    for row in rows.only("name", "bytes").iterator(chunk_size=2000):
        try:
            size = storage.size(row.name)
        except StorageError as error:
            yield Violation(BYTES, row.name, f"not on disk: {error}")
        else:
            if size != row.bytes:
                yield Violation(BYTES, row.name, f"{size} bytes on disk, {row.bytes} stored")
