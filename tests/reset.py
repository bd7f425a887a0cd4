"""The one place that empties append-only tables: tests only."""

from __future__ import annotations

from django.apps import apps
from django.db import connection, transaction

from crazyrouter.sql import render_append_only

#: Written by migrations, or by Django itself.
KEPT = {"django_migrations", "django_content_type", "auth_permission"}


def reset_database() -> None:
    """Empty every table of the product, past the triggers that refuse it."""
    tables = [model._meta.db_table for model in apps.get_models(include_auto_created=True)]
    tables = [table for table in tables if table not in KEPT]
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            names = ", ".join(f'"{table}"' for table in tables)
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
            return
        cursor.execute("PRAGMA defer_foreign_keys = ON")
        cursor.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'")
        triggers = cursor.fetchall()
        for name, _ in triggers:
            cursor.execute(f'DROP TRIGGER "{name}"')
        for table in tables:
            cursor.execute(f'DELETE FROM "{table}"')
        for table in sorted({table for _, table in triggers}):
            for statement in render_append_only("sqlite", table):
                cursor.execute(statement)
