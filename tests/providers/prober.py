"""A process that claims probes at a moment, for races: `python -m tests.providers.prober OWNER EPOCH_SECONDS`."""

from __future__ import annotations

import os
import sys
import time


def main(owner: str, moment: float) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crazyrouter.settings")
    import django

    django.setup()
    from django.db import connection, transaction

    from providers.health import claim_probes

    connection.ensure_connection()
    while time.time() < moment:
        time.sleep(0.001)
    with transaction.atomic():
        (claimed,) = claim_probes(connection, [owner])
    print(" ".join(map(str, claimed)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
