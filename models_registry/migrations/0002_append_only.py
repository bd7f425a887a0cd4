from django.db import migrations

from crazyrouter.sql import make_append_only


class Migration(migrations.Migration):
    dependencies = [("models_registry", "0001_initial")]

    operations = [make_append_only("models_registry_price"), make_append_only("models_registry_verification")]
