"""What the books say, for assertions."""

from __future__ import annotations

from asgiref.sync import sync_to_async

from billing.models import Account, LedgerEntry
from crazyrouter.files.models import StoredImage
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.generation.reconcile import check_books


def read_violations() -> list[str]:
    return [f"{found.rule} {found.subject}: {found.detail}" for found in check_books(files=True) if not found.notice]


def count_rows() -> dict[str, int]:
    """How much was written: nothing may be for a refused request."""
    return {
        "generations": Generation.objects.count(),
        "attempts": Attempt.objects.count(),
        "images": StoredImage.objects.count(),
        "charges": LedgerEntry.objects.filter(kind="charge").count(),
        "held": sum(Account.objects.values_list("held_micros", flat=True)),
    }


def read_attempts() -> list[tuple[str, str, str]]:
    """(state, code, billed) of every attempt, in order."""
    return list(Attempt.objects.order_by("id").values_list("state", "code", "billed"))


count_rows_async = sync_to_async(count_rows)
read_violations_async = sync_to_async(read_violations)
read_attempts_async = sync_to_async(read_attempts)
