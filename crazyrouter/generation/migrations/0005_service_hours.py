"""What became of the orders of each model, hour by hour."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0004_queue_and_shadows'),
        ('models_registry', '0002_append_only'),
    ]

    operations = [
        migrations.CreateModel(
            name='ServiceHour',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField(help_text='The start of the hour, which is one of UTC.')),
                ('served', models.PositiveIntegerField(default=0)),
                ('failed', models.PositiveIntegerField(default=0)),
                ('unfit', models.PositiveIntegerField(default=0)),
                ('turned_away', models.PositiveIntegerField(default=0)),
                ('running', models.PositiveIntegerField(default=0)),
                ('latency', models.JSONField(default=dict)),
                ('final', models.BooleanField(default=False, help_text='Counted when no generation could be added any more.')),
                ('model', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='models_registry.imagemodel')),
            ],
            options={
                'ordering': ['hour', 'model'],
                'constraints': [models.UniqueConstraint(fields=('hour', 'model'), name='one_service_hour_per_model')],
            },
        ),
    ]
