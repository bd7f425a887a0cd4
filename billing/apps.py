from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Billing"

    def ready(self) -> None:
        from billing.bookings import read_threshold

        read_threshold()  # a value that cannot be read is known at start-up, not at the first booking
