"""Indexes that no page and no rule asks, and that each of a million inserts pays."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models


def drop_like_indexes(apps: Any, schema_editor: Any) -> None:
    """PostgreSQL gets one for LIKE beside each unique text; a generation's id is only ever looked for whole."""
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND indexname LIKE '%\\_like' "
            "AND tablename IN ('generation_generation', 'generation_idempotencykey')"
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP INDEX "{name}"')


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0002_keys_and_takeovers'),
        ('models_registry', '0002_append_only'),
        ('providers', '0001_initial'),
    ]

    operations = [
        migrations.AlterField(
            model_name='attempt',
            name='channel',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='attempts', to='providers.channel'),
        ),
        migrations.AlterField(
            model_name='attempt',
            name='offer',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='providers.offer'),
        ),
        migrations.AlterField(
            model_name='generation',
            name='model',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='models_registry.imagemodel'),
        ),
        migrations.RunPython(drop_like_indexes, migrations.RunPython.noop),
    ]
