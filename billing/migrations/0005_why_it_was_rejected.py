from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_projections"),
    ]

    operations = [
        migrations.AddField(
            model_name="booking",
            name="reason",
            field=models.CharField(blank=True, default="", help_text="Why it was rejected.", max_length=200),
            preserve_default=False,
        ),
    ]
