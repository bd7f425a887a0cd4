from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from providers.allowance import read_allowance


class ProvidersConfig(AppConfig):
    name = "providers"
    verbose_name = "Channels"

    def ready(self) -> None:
        """Raises ImproperlyConfigured: no process starts with an allow-list that it would read differently."""
        try:
            read_allowance(settings.EGRESS_ALLOW)
        except ValueError as error:
            raise ImproperlyConfigured(str(error)) from None
