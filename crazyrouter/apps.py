from django.apps import AppConfig


class CrazyrouterConfig(AppConfig):
    """The product itself: holds the management commands and the system checks."""

    name = "crazyrouter"
    default_auto_field = "django.db.models.BigAutoField"
