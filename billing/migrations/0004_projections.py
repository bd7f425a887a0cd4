"""What the new counters say of the books as they are, and the triggers that remaking the ledger's table has lost."""

from __future__ import annotations

from collections import defaultdict
from typing import Any
from zoneinfo import ZoneInfo

from django.db import migrations
from django.db.models import Count, Sum

from crazyrouter.sql import make_append_only


def count_open_holds(apps: Any, schema_editor: Any) -> None:
    """Money held and generations in flight, by account and by key."""
    holds = apps.get_model("billing", "Hold").objects.filter(state="open")
    for field, model in (("account_id", "Account"), ("api_key_id", "ApiKey")):
        manager = apps.get_model("billing", model).objects
        for row in holds.values(field).annotate(total=Sum("amount_micros"), n=Count("id")).order_by(field):
            manager.filter(pk=row[field]).update(held_micros=row["total"], in_flight=row["n"])


def add_up_charges(apps: Any, schema_editor: Any) -> None:
    """The days of usage, and what accounts and keys spent in all and in their latest month."""
    charges = apps.get_model("billing", "LedgerEntry").objects.filter(kind="charge")
    accounts, keys = apps.get_model("billing", "Account").objects, apps.get_model("billing", "ApiKey").objects
    usage = apps.get_model("billing", "UsageDay").objects
    for account in accounts.all():
        zone = ZoneInfo(account.time_zone)
        days: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
        facts = charges.filter(account=account).values_list("booked_at", "key_prefix", "model", "amount_micros")
        for booked_at, prefix, model, amount in facts.iterator():
            day = days[booked_at.astimezone(zone).date(), prefix, model]
            day[0] += 1
            day[1] -= amount
        usage.bulk_create(
            [
                usage.model(account=account, day=day, key_prefix=prefix, model=model, images=n, amount_micros=total)
                for (day, prefix, model), (n, total) in days.items()
            ],
            batch_size=500,
        )
        update_spent(accounts.filter(pk=account.pk), [(day, total) for (day, _, _), (_, total) in days.items()])
        for key in keys.filter(account=account):
            own = [(day, total) for (day, prefix, _), (_, total) in days.items() if prefix == key.prefix]
            update_spent(keys.filter(pk=key.pk), own)


def update_spent(rows: Any, days: list[tuple[Any, int]]) -> None:
    if days:
        month = max(f"{day:%Y-%m}" for day, _ in days)
        rows.update(
            spent_micros=sum(total for _, total in days),
            month=month,
            month_spent_micros=sum(total for day, total in days if f"{day:%Y-%m}" == month),
        )


def do_nothing(apps: Any, schema_editor: Any) -> None:
    """The columns go with the migration before."""


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_money_that_can_be_proved")]

    operations = [
        migrations.RunPython(count_open_holds, do_nothing),
        migrations.RunPython(add_up_charges, do_nothing),
        make_append_only("billing_ledgerentry"),
        make_append_only("billing_accountprice"),
        make_append_only("billing_closedmonth"),
    ]
