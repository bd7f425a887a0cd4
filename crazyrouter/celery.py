"""The Celery app. The database row is the truth and the broker a doorbell: every task may run twice, or not at all.

All of its settings are `CELERY_*` in settings.py; the times at which things are done stand here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.schedules import crontab
from celery.signals import beat_init, celeryd_init, worker_process_shutdown, worker_ready, worker_shutdown
from django.conf import settings

from crazyrouter.ops.markers import set_marker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crazyrouter.settings")

app = Celery("crazyrouter")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_scheduler = "crazyrouter.ops.beat:Beat"
# Clock times rather than long intervals: a beat that is restarted often would never come to the end of one.
app.conf.beat_schedule = {
    "files.expire": {"task": "files.expire", "schedule": crontab(minute="*/10"), "options": {"expires": 600}},
    "files.sweep": {"task": "files.sweep", "schedule": crontab(minute="23"), "options": {"expires": 3600}},
    # Seconds, from the start of beat on: a bell nobody hears in time is worth nothing.
    "generation.recover_generations": {
        "task": "generation.recover_generations",
        "schedule": settings.RECOVERY_S,
        "options": {"expires": settings.RECOVERY_S},
    },
    "generation.end_drains": {"task": "generation.end_drains", "schedule": 10.0, "options": {"expires": 10}},
    "generation.end_shadows": {"task": "generation.end_shadows", "schedule": 30.0, "options": {"expires": 30}},
    "generation.end_old_shadows": {
        "task": "generation.end_old_shadows",
        "schedule": crontab(minute="31", hour="3"),
        "options": {"expires": 86400},
    },
    "generation.forget_keys": {
        "task": "generation.forget_keys",
        "schedule": crontab(minute="53"),
        "options": {"expires": 3600},
    },
    "generation.count_service": {
        "task": "generation.count_service",
        "schedule": crontab(minute="*"),
        "options": {"expires": 60},
    },
    "billing.make_exports": {
        "task": "billing.make_exports",
        "schedule": crontab(minute="*"),
        "options": {"expires": 60},
    },
    "billing.expire_exports": {
        "task": "billing.expire_exports",
        "schedule": crontab(minute="37"),
        "options": {"expires": 3600},
    },
    "generation.check_books": {
        "task": "generation.check_books",
        "schedule": crontab(minute="17", hour="4"),
        "options": {"expires": 86400},
    },
    "generation.erase_prompts": {
        "task": "generation.erase_prompts",
        "schedule": crontab(minute="41", hour="3"),
        "options": {"expires": 86400},
    },
}


def create_broker_folders() -> None:
    """The filesystem broker does not make its own. Raises OSError."""
    options = app.conf.broker_transport_options or {}
    for name in ("data_folder_in", "data_folder_out", "control_folder"):
        if name in options:
            Path(options[name]).mkdir(mode=0o700, parents=True, exist_ok=True)


@celeryd_init.connect
@beat_init.connect
def prepare_broker(**_: Any) -> None:
    create_broker_folders()


@worker_ready.connect
@beat_init.connect
def tell_ready(**_: Any) -> None:
    set_marker()


@worker_shutdown.connect
@worker_process_shutdown.connect
def give_back_generations(**_: Any) -> None:
    """Where the engine runs depends on the pool: in the worker itself, or in its children."""
    from crazyrouter.generation.worker import stop_engine_thread

    stop_engine_thread()
