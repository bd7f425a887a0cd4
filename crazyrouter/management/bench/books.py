"""Read what the product's books say of a measurement. `python -m …`; answers a `Books` as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict

import django
import orjson

from crazyrouter.management.bench.exactness import Books


def main() -> None:
    django.setup(set_prefix=False)
    sys.stdout.buffer.write(orjson.dumps(asdict(read_books())))


def read_books() -> Books:
    from billing.models import LedgerEntry
    from crazyrouter.generation.models import Attempt, Generation
    from crazyrouter.generation.reconcile import check_books
    from providers.contract import Code

    found = [f"{one.rule} {one.subject}: {one.detail}" for one in check_books() if not one.notice]
    failed = Attempt.objects.filter(
        state__in=[Attempt.State.REJECTED, Attempt.State.FAILED, Attempt.State.UNKNOWN]
    ).exclude(code=Code.UNREACHABLE)  # nothing of it left this machine
    return Books(
        violations=tuple(found[:20]),
        charged=LedgerEntry.objects.filter(kind=LedgerEntry.Kind.CHARGE).count(),
        failed=failed.count(),
        running=Generation.objects.filter(state=Generation.State.RUNNING).count(),
    )


if __name__ == "__main__":
    main()
