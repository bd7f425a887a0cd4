"""Whether the database has every migration of this code."""

from __future__ import annotations

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder


def list_unapplied() -> list[str]:
    """Migrations that are still to be applied, as `app.name`. Raises DatabaseError."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


class SchemaProbe:
    """Asks the same again and again: the graph of migrations is read from disk until it was once complete."""

    def __init__(self) -> None:
        self._wanted: frozenset[tuple[str, str]] | None = None

    def is_current(self) -> bool:
        """False also where the database cannot be reached. Leaves no connection behind."""
        try:
            if self._wanted is None and list_unapplied():
                return False
            applied = frozenset(MigrationRecorder(connection).applied_migrations())
            self._wanted = self._wanted or applied
        except DatabaseError:
            return False
        finally:
            connection.close()
        return self._wanted <= applied
