"""The clock's calls into `expiry`; both may run twice at once and at any time."""

from __future__ import annotations

from celery import shared_task

from crazyrouter.files import expiry


@shared_task(name="files.expire", ignore_result=True)
def expire_files() -> int:
    return expiry.expire_files()


@shared_task(name="files.sweep", ignore_result=True)
def sweep_orphan_files() -> int:
    return expiry.sweep_orphans()
