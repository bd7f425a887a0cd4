"""The clock's calls into this app; each may run twice at once and at any time."""

from __future__ import annotations

from celery import shared_task

from billing.exports import jobs


@shared_task(name="billing.make_exports", ignore_result=True)
def make_exports() -> None:
    """One export a call: other work gets its turn in between."""
    if jobs.make_next_export():
        jobs.ring_worker()


@shared_task(name="billing.expire_exports", ignore_result=True)
def expire_exports() -> int:
    return jobs.expire_exports()
