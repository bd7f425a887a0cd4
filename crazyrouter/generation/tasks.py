"""The clock's calls into this app; each may run twice at once and at any time."""

from __future__ import annotations

from celery import shared_task

from crazyrouter.generation import retention


@shared_task(name="generation.erase_prompts", ignore_result=True)
def erase_prompts() -> int:
    return retention.erase_prompts()
