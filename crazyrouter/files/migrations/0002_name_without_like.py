"""Names stay unique, without the second index that PostgreSQL would get for LIKE."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('files', '0001_initial'),
    ]

    operations = [
        migrations.AlterField(
            model_name='storedimage',
            name='name',
            field=models.CharField(max_length=80),
        ),
        migrations.AddConstraint(
            model_name='storedimage',
            constraint=models.UniqueConstraint(fields=('name',), name='stored_image_name_once'),
        ),
    ]
