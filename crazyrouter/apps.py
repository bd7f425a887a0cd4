from django.apps import AppConfig
from django.core.checks import register
from django.db.backends.signals import connection_created


class CrazyrouterConfig(AppConfig):
    """The product itself: holds the management commands and the system checks."""

    name = "crazyrouter"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Wherever Django is set up, a task that is sent goes to our broker. Not in the package's __init__: manage.py
        # imports that before there are settings.
        from crazyrouter import celery  # noqa: F401
        from crazyrouter.ops import checks
        from crazyrouter.sql import teach_sqlite

        connection_created.connect(teach_sqlite, dispatch_uid="crazyrouter.sql.teach_sqlite")
        register(checks.check_sqlite_version)
        register(checks.check_leases)
        register(checks.check_simulated_channels, deploy=True)
        register(checks.check_published_shapes, deploy=True)
        register(checks.check_prices, deploy=True)
