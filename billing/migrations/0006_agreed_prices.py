from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0005_why_it_was_rejected"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="accountprice",
            options={
                "ordering": ["-effective_from", "-id"],
                "verbose_name": "agreed price",
                "verbose_name_plural": "agreed prices",
            },
        ),
    ]
