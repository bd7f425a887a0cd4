"""Rows into tables as fast as each database takes them: COPY, or executemany. Batches commit for themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.db.models import Model

from crazyrouter.sql import is_postgresql, open_server_cursor

Rows = Sequence[tuple[Any, ...]]


def insert_rows(model: type[Model], columns: tuple[str, ...], rows: Rows) -> None:
    """Values are integers, None, and texts without tabs, line ends or backslashes; other columns get their defaults."""
    if not rows:
        return
    table, rest = model._meta.db_table, list_defaults(model, columns)
    names = ", ".join(f'"{column}"' for column in (*columns, *rest))
    rows = [row + tuple(rest.values()) for row in rows] if rest else rows
    if is_postgresql(connection):
        with open_server_cursor(connection) as cursor, cursor.copy(f'COPY "{table}" ({names}) FROM STDIN') as copy:
            copy.write("".join(map(render_row, rows)))
        return
    marks = ", ".join(["%s"] * len(rows[0]))
    with connection.cursor() as cursor:
        cursor.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', rows)  # noqa: S608 - constants


def list_defaults(model: type[Model], columns: tuple[str, ...]) -> dict[str, Any]:
    """What Django would write into the columns that are not given and cannot be NULL."""
    rest = [field for field in model._meta.concrete_fields if not (field.null or field.primary_key)]
    defaults = {str(field.column): field.get_default() for field in rest}
    return {name: render_value(value) for name, value in defaults.items() if name not in columns}


def render_value(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def render_row(row: tuple[Any, ...]) -> str:
    return "\t".join(["\\N" if value is None else str(value) for value in row]) + "\n"


@contextmanager
def open_batch() -> Iterator[None]:
    """A transaction that need not survive a power cut."""
    with transaction.atomic():
        if is_postgresql(connection):
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL synchronous_commit = off")
        yield


@contextmanager
def prepare_connection() -> Iterator[None]:
    """SQLite's random inserts into large indexes want more memory than the 2 MB it takes by itself."""
    if is_postgresql(connection):
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA cache_size = -262144; ")
        cursor.execute("PRAGMA synchronous = OFF")
        try:
            yield
        finally:
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("PRAGMA cache_size = -2000")


def tidy_tables(tables: Sequence[str]) -> None:
    """What autovacuum does sooner or later: statistics, and maps of what every transaction may see."""
    with connection.cursor() as cursor:
        if is_postgresql(connection):
            for table in tables:
                cursor.execute(f'VACUUM (ANALYZE) "{table}"')
        else:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
