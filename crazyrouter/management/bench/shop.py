"""Fill an empty database for a measurement: models, one channel, accounts with money, keys. `python -m …`

Takes `{"base_url", "accounts", "keys"}` as JSON on standard input; answers `{"database", "keys"}`.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import django
import orjson

#: So many random names leave out hardly one of the store's 1,024 folders.
NAMES = 12_000


def main() -> None:
    django.setup(set_prefix=False)
    given = orjson.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(orjson.dumps({"database": name_database(), "keys": open_shop(**given)}))


def name_database() -> str:
    from django.db import connection

    if connection.vendor == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return f"PostgreSQL {cursor.fetchone()[0].split()[0]}"


def open_shop(*, base_url: str, accounts: int, keys: int) -> list[str]:
    """The secrets of the keys, account after account in turn."""
    from django.core.management import call_command

    from models_registry.seed import seed_models

    call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
    seed_models()
    make_folders()
    open_channel(base_url)
    customers = [open_account(number) for number in range(accounts)]
    return [open_key(customers[number % accounts]) for number in range(keys)]


def make_folders() -> None:
    """The store as it is in use: its first thousands of pictures each pay for making a folder, durably."""
    from django.conf import settings

    from crazyrouter.files.names import new_name, shard_of

    root = Path(settings.FILE_STORAGE_URL.removeprefix("file://"))
    for shard in {shard_of(new_name()) for _ in range(NAMES)}:
        (root / shard).mkdir(parents=True, exist_ok=True)


def open_channel(base_url: str) -> None:
    from crazyrouter.management.bench.plan import MODEL
    from models_registry.models import ImageModel
    from providers.models import Channel, Offer, add_credential

    channel = Channel.objects.create(name="Bench", kind="dashscope_sync", base_url=base_url, simulated=True)
    add_credential(channel, "sk-bench")
    Offer.objects.create(
        channel=channel,
        model=ImageModel.objects.get(name=MODEL),
        upstream_model=MODEL,
        shape=Offer.Shape.SYNC,
        max_n=6,
        cost_micros=150_000,
    )


def open_account(number: int) -> Any:
    """An account that cannot run out of money."""
    from billing.ledger import top_up
    from billing.models import Account
    from billing.money import MICROS

    account = Account.objects.create(name=f"bench-{number}")
    top_up(account, amount_micros=10_000_000 * MICROS, reference=account.name, memo="", actor="bench")
    return account


def open_key(account: Any) -> str:
    from billing.keys import create_key

    return create_key(account)[1]


if __name__ == "__main__":
    main()
