"""The clock's calls into this app; each may run twice at once and at any time."""

from __future__ import annotations

from celery import shared_task

from crazyrouter.generation import audit, drains, readback, retention, service_hours, shadowing, worker


@shared_task(name="generation.erase_prompts", ignore_result=True)
def erase_prompts() -> int:
    return retention.erase_prompts()


@shared_task(name="generation.recover_generations", ignore_result=True)
def recover_generations() -> int:
    """Claims and returns; what was claimed runs on in the worker's engine thread."""
    return worker.recover_generations()


@shared_task(name="generation.forget_keys", ignore_result=True)
def forget_keys() -> int:
    return readback.forget_keys()


@shared_task(name="generation.check_books", ignore_result=True)
def check_books() -> None:
    audit.record_check()


@shared_task(name="generation.end_drains", ignore_result=True)
def end_drains() -> int:
    return drains.end_drains()


@shared_task(name="generation.end_shadows", ignore_result=True)
def end_shadows() -> int:
    return shadowing.end_lost_shadows(days=2)


@shared_task(name="generation.end_old_shadows", ignore_result=True)
def end_old_shadows() -> int:
    """What the clock missed while nothing rang for days; it looks through all copies that there ever were."""
    return shadowing.end_lost_shadows(days=3650)


@shared_task(name="generation.count_service", ignore_result=True)
def count_service() -> int:
    return service_hours.count_hours()
