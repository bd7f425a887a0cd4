"""The few places where SQLite and PostgreSQL spell the same statement differently. A leaf: imports nothing of ours.

Group commits write many rows by one statement. The rows travel as one JSON parameter, which both databases turn into
a table (`jsonb_to_recordset`, `json_each`): constant statement text, one parameter, no per-value binding in Python.

    INSERT INTO hold (reference, amount_micros) SELECT reference, amount_micros FROM {rows}
    UPDATE account SET … FROM {rows} WHERE account.id = r.id AND … RETURNING account.id
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast
from zoneinfo import ZoneInfo

import orjson
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import RunPython

#: Column types that a JSON row may carry; SQLite needs no cast for any of them.
TYPES = {"text", "bigint", "integer", "boolean", "jsonb", "float8", "timestamptz", "date"}


def is_postgresql(connection: BaseDatabaseWrapper) -> bool:
    return connection.vendor == "postgresql"


@lru_cache(maxsize=256)
def render_rows(vendor: str, columns: tuple[tuple[str, str], ...]) -> str:
    """The `FROM` item, aliased `r`, that reads one `%s` JSON array of objects with these (name, type) columns."""
    if unknown := {kind for _, kind in columns} - TYPES:
        raise ValueError(f"no JSON column can be of type {unknown}")
    if vendor == "postgresql":
        return "jsonb_to_recordset(%s::jsonb) AS r(" + ", ".join(f'"{name}" {kind}' for name, kind in columns) + ")"
    # `->>` gives JSON text for objects, which is how SQLite stores JSON anyway.
    fields = ", ".join(f"value->>'{name}' AS \"{name}\"" for name, _ in columns)
    return f"(SELECT {fields} FROM json_each(%s)) AS r"  # noqa: S608 - names are constants of this code base


def render_now(vendor: str, *, plus: str = "") -> str:
    """The database's own clock, optionally plus an SQL expression of seconds."""
    if vendor == "postgresql":
        return f"(clock_timestamp() + ({plus}) * interval '1 second')" if plus else "clock_timestamp()"
    if plus:
        return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', ({plus}) || ' seconds')"
    return "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"


def render_locks(vendor: str, sql: str) -> str:
    """`{lock:NAME}` and `{claim:NAME}`."""
    strong = "FOR NO KEY UPDATE OF" if vendor == "postgresql" else None
    sql = re.sub(r"\{lock:(\w+)\}", rf"{strong} \1" if strong else "", sql)
    return re.sub(r"\{claim:(\w+)\}", rf"{strong} \1 SKIP LOCKED" if strong else "", sql)


def render_began(vendor: str) -> str:
    """The clock when the statement began: the same moment wherever the statement says it."""
    # SQLite's clock stands still within a step, and an UPDATE is one.
    return "statement_timestamp()" if vendor == "postgresql" else render_now(vendor)


def render_day(vendor: str, moment: str, zone: str) -> str:
    """An SQL expression for the day of a moment in a time zone, as text like `2026-11-30`."""
    if vendor == "postgresql":
        return f"to_char(({moment}) AT TIME ZONE ({zone}), 'YYYY-MM-DD')"
    return f"crazyrouter_day({moment}, {zone})"


def cut_day(moment: str, zone: str) -> str:
    """`render_day` for SQLite, which stores moments as UTC without saying so, and knows no time zones."""
    return cut_minute(moment[:16], zone)


@lru_cache(maxsize=65_536)
def cut_minute(moment: str, zone: str) -> str:
    """Days begin with a minute everywhere, and many entries share one."""
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date().isoformat()


def teach_sqlite(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """To be called for each new connection."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("crazyrouter_day", 2, cut_day, deterministic=True)


def read_moment(value: datetime | str) -> datetime:
    """A moment as RETURNING or SELECT gives it: PostgreSQL's driver with its zone, SQLite in UTC without one: a column
    as an object, an expression as text."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Statement:
    """One statement for both databases.

    `{rows}` in the text is the JSON table, `{now}` the database's clock, `{later:EXPR}` is the clock plus EXPR seconds.
    `{began}` is the clock when the statement began, `{day:MOMENT@ZONE}` the day of a moment in a time zone, as text.
    `{lock:NAME}` at the end of a SELECT locks the rows of that table until the transaction ends, `{claim:NAME}` skips
    those that somebody else has locked; SQLite's one writer holds everything already.
    """

    def __init__(self, text: str, /, **columns: str) -> None:
        self.text = text
        self.columns = tuple(columns.items())
        self._rendered: dict[str, str] = {}
        self._for_sqlite: str | None = None

    def render(self, vendor: str) -> str:
        sql = self._rendered.get(vendor)
        if sql is None:
            sql = self.text.replace("{now}", render_now(vendor)).replace("{began}", render_began(vendor))
            sql = re.sub(r"\{day:([^@{}]+)@([^@{}]+)\}", lambda found: render_day(vendor, *found.groups()), sql)
            while "{later:" in sql:
                head, _, rest = sql.partition("{later:")
                expression, _, tail = rest.partition("}")
                sql = head + render_now(vendor, plus=expression) + tail
            sql = render_locks(vendor, sql)
            if self.columns:
                sql = sql.replace("{rows}", render_rows(vendor, self.columns))
            self._rendered[vendor] = sql
        return sql

    def run(self, connection: BaseDatabaseWrapper, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        """Execute with these rows and wait for what RETURNING or SELECT gives."""
        with open_cursor(connection) as cursor:
            cursor.execute(self._render_for_driver(connection.vendor), (dump(rows),))
            return list(cursor.fetchall())

    def fetch(self, connection: BaseDatabaseWrapper, *values: Any) -> list[tuple[Any, ...]]:
        """Execute with plain values for the placeholders and wait for what comes back."""
        with open_cursor(connection) as cursor:
            cursor.execute(self._render_for_driver(connection.vendor), values)
            return list(cursor.fetchall())

    def send(self, connection: BaseDatabaseWrapper, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute with these rows; inside a `pipeline` the answer is not waited for."""
        self.send_values(connection, dump(rows))

    def send_values(self, connection: BaseDatabaseWrapper, *values: Any) -> None:
        """Execute with plain values for the placeholders."""
        with open_cursor(connection) as cursor:
            cursor.execute(self._render_for_driver(connection.vendor), values)

    def _render_for_driver(self, vendor: str) -> str:
        """For SQLite's own cursor, which takes `?`; Django's would look for each `%s` at every execution."""
        if vendor != "sqlite":
            return self.render(vendor)
        if self._for_sqlite is None:
            self._for_sqlite = re.sub(r"(?<!%)%s", "?", self.render(vendor)).replace("%%", "%")
        return self._for_sqlite


def dump(rows: Sequence[Mapping[str, Any]]) -> str:
    return orjson.dumps(rows).decode()


def open_cursor(connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
    """The driver's own. On PostgreSQL with server-side parameters, which a tuned connection plans once, and a pipeline
    needs."""
    return open_server_cursor(connection) if is_postgresql(connection) else open_sqlite_cursor(connection)


@contextmanager
def open_sqlite_cursor(connection: BaseDatabaseWrapper) -> Iterator[Any]:
    connection.ensure_connection()
    with connection.wrap_database_errors, closing(connection.connection.cursor()) as cursor:
        yield cursor


@contextmanager
def open_server_cursor(connection: BaseDatabaseWrapper) -> Iterator[Any]:
    from psycopg import Cursor

    connection.ensure_connection()
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        yield cursor


@contextmanager
def pipeline(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Statements whose answers nobody reads do not wait for the server; an error shows at the next that does.

    A round trip costs PostgreSQL's clients more than most of these statements. SQLite has none.
    """
    if not is_postgresql(connection):
        yield
        return
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


@lru_cache(maxsize=16)
def render_lock(table: str) -> Statement:
    return Statement(f'SELECT 1 FROM "{table}" WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE')  # noqa: S608


def lock_rows(connection: BaseDatabaseWrapper, table: str, ids: Sequence[int]) -> None:
    """Take row locks in id order, so that two batches over the same rows cannot deadlock.

    A single row, too: what else its batch writes would be taken before it, and by other batches behind theirs. Rows
    that merely refer to these are not held up: PostgreSQL looks at what they refer to when they are committed.
    SQLite has nothing to do: its transactions begin IMMEDIATE and hold the one writer's lock already.
    """
    if is_postgresql(connection) and ids:
        render_lock(table).send_values(connection, sorted(ids))


def tune_for_batches(connection: BaseDatabaseWrapper) -> None:
    """For a connection that runs these statements only: PostgreSQL plans each once, and never as a scan.

    Django leaves preparing off. A plan is made when a statement is first used, often while the tables are empty and a
    scan looks cheap, and kept when they have grown; every statement here looks its rows up by key.
    """
    if is_postgresql(connection):
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")
        connection.connection.prepare_threshold = 0


def read_clock(connection: BaseDatabaseWrapper) -> datetime:
    """The database's own clock."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {render_now(connection.vendor)}", ())
        (moment,) = cursor.fetchone()
    if isinstance(moment, str):
        return datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return cast("datetime", moment)


#: In the driver's own words, for transactions that compute with the clock.
READ_EPOCH_MS = {
    "postgresql": "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    "sqlite": "SELECT CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
}


def read_epoch_ms(connection: BaseDatabaseWrapper) -> int:
    """The database's own clock in epoch milliseconds."""
    with open_cursor(connection) as cursor:
        cursor.execute(READ_EPOCH_MS[connection.vendor])
        (moment,) = cursor.fetchone()
    return int(moment)


@contextmanager
def open_read_only_snapshot(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A transaction that sees one moment of the database and cannot write; it stops no writer.

    REPEATABLE READ READ ONLY on PostgreSQL. SQLite's ordinary transactions begin IMMEDIATE and would hold every
    writer up while this one reads, so this one is deferred, and writes are refused.
    """
    connection.ensure_connection()
    if is_postgresql(connection):
        with transaction.atomic(using=connection.alias, savepoint=False), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
        return
    mode = connection.transaction_mode  # type: ignore[attr-defined]
    connection.transaction_mode = "DEFERRED"  # type: ignore[attr-defined]
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")
        try:
            with transaction.atomic(using=connection.alias, savepoint=False):
                yield
        finally:
            cursor.execute("PRAGMA query_only = OFF")
            connection.transaction_mode = mode  # type: ignore[attr-defined]


def make_append_only(table: str) -> RunPython:
    """A migration step: triggers that refuse UPDATE, DELETE and (PostgreSQL) TRUNCATE on the table.

    To be run again after a change of the table: Django remakes tables on SQLite, and their triggers are lost.
    """

    def create(apps: Any, schema_editor: Any) -> None:
        drop(apps, schema_editor)
        for statement in render_append_only(schema_editor.connection.vendor, table):
            schema_editor.execute(statement)

    def drop(apps: Any, schema_editor: Any) -> None:
        for verb in ("update", "delete"):
            suffix = f' ON "{table}"' if schema_editor.connection.vendor == "postgresql" else ""
            schema_editor.execute(f'DROP TRIGGER IF EXISTS "{table}_no_{verb}"{suffix}')
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(f'DROP TRIGGER IF EXISTS "{table}_no_truncate" ON "{table}"')

    return RunPython(create, drop)


def render_append_only(vendor: str, table: str) -> list[str]:
    if vendor == "sqlite":
        return [
            f'CREATE TRIGGER "{table}_no_{verb}" BEFORE {verb.upper()} ON "{table}" '
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for verb in ("update", "delete")
        ]
    refuse = (
        "CREATE OR REPLACE FUNCTION crazyrouter_refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$"
    )
    triggers = [
        f'CREATE TRIGGER "{table}_no_{verb}" BEFORE {verb.upper()} ON "{table}" '
        f"FOR EACH {scope} EXECUTE FUNCTION crazyrouter_refuse_change()"
        for verb, scope in (("update", "ROW"), ("delete", "ROW"), ("truncate", "STATEMENT"))
    ]
    return [refuse, *triggers]
