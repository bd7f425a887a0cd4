from django.db import migrations

from crazyrouter.sql import make_append_only


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [make_append_only("billing_ledgerentry")]
