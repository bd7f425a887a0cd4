"""Checks of the books that are remembered: what `reconcile` found, in a row for the admin."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from celery import current_app
from django.utils import timezone
from kombu.exceptions import OperationalError

from billing.models import LedgerEntry
from billing.reconcile import Violation
from crazyrouter.generation.models import BooksCheck
from crazyrouter.generation.reconcile import check_files, check_tables, open_books

logger = logging.getLogger(__name__)

CHECKS_KEPT = 90
FINDINGS_KEPT = 100
#: Of one rule, so that one that is broken a thousand times does not hide the others.
FINDINGS_OF_A_RULE = 10


@dataclass(slots=True)
class Tally:
    """What was found: all of it counted, the first of each rule kept."""

    of_a_rule: int
    kept: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    violations: int = 0
    notices: int = 0

    def add(self, found: Violation) -> bool:
        """Whether it is one of the first of its rule."""
        self.counts[found.rule] += 1
        self.violations += not found.notice
        self.notices += found.notice
        if self.counts[found.rule] > self.of_a_rule:
            return False
        self.kept.append(found)
        return True

    def list_excess(self) -> list[tuple[str, int]]:
        """Rules of which more was found than is kept, and how many more."""
        return [(rule, count - self.of_a_rule) for rule, count in self.counts.items() if count > self.of_a_rule]


def record_check(*, files: bool = False) -> BooksCheck:
    """Check the books now and remember what was found; the oldest checks are forgotten."""
    started_at, tally = timezone.now(), Tally(FINDINGS_OF_A_RULE)
    with open_books():
        entries = LedgerEntry.objects.count()
        for found in chain(check_tables(), check_files() if files else ()):
            tally.add(found)
    return keep_check(started_at, entries, tally)


def keep_check(started_at: datetime, entries: int, tally: Tally) -> BooksCheck:
    """The row of a check that ends now."""
    kept = sorted(tally.kept, key=lambda found: found.notice)[:FINDINGS_KEPT]
    check = BooksCheck.objects.create(
        started_at=started_at,
        finished_at=timezone.now(),
        entries=entries,
        violations=tally.violations,
        notices=tally.notices,
        findings=[[found.rule, found.subject, found.detail, found.notice] for found in kept],
    )
    latest = BooksCheck.objects.order_by("-id").values_list("id", flat=True)[:CHECKS_KEPT]
    BooksCheck.objects.exclude(id__in=list(latest)).delete()
    if check.violations:
        logger.error("the books are wrong: %s violations, see check %s in the admin", check.violations, check.pk)
    return check


def ring_worker() -> bool:
    """Have the worker check the books now. False if the broker does not answer."""
    try:
        current_app.send_task("generation.check_books", expires=600, retry=False)
    except (OperationalError, OSError) as error:
        logger.warning("the broker does not answer, the books are not checked: %s", error)
        return False
    return True


def find_last_check() -> BooksCheck | None:
    return BooksCheck.objects.order_by("-id").first()
