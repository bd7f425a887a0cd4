"""The Celery app: what runs when, through which broker, and that a doorbell is really answered."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from celery import current_app
from celery.schedules import crontab
from django.core.exceptions import ImproperlyConfigured

from crazyrouter import celery
from crazyrouter import settings as product_settings
from crazyrouter.ops import markers


def test_tasks_go_to_our_app_wherever_django_is_set_up() -> None:
    assert current_app.main == "crazyrouter"


def test_every_time_names_a_task_that_exists() -> None:
    celery.app.loader.import_default_modules()
    schedule = celery.app.conf.beat_schedule
    assert {name: entry["task"] for name, entry in schedule.items()} == {name: name for name in schedule}
    assert set(schedule) <= set(celery.app.tasks)
    assert schedule["files.expire"]["schedule"] == crontab(minute="*/10")
    assert schedule["files.sweep"]["schedule"] == crontab(minute="23")
    assert schedule["billing.make_exports"]["schedule"] == crontab(minute="*")
    assert schedule["billing.expire_exports"]["schedule"] == crontab(minute="37")
    assert schedule["generation.erase_prompts"]["schedule"] == crontab(minute="41", hour="3")


def test_messages_are_json_and_results_are_not_kept() -> None:
    conf = celery.app.conf
    assert (conf.task_serializer, conf.accept_content, conf.task_ignore_result) == ("json", ["json"], True)
    assert (conf.task_acks_late, conf.worker_prefetch_multiplier) == (True, 1)
    assert conf.broker_connection_retry_on_startup is True


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("filesystem://localhost/srv/a%20b/broker", "/srv/a b/broker"),
        ("filesystem:///srv/broker", "/srv/broker"),
    ],
)
def test_the_folders_of_a_filesystem_broker(url: str, folder: str) -> None:
    assert product_settings.read_broker_options(url) == {
        "data_folder_in": f"{folder}/data",
        "data_folder_out": f"{folder}/data",
        "control_folder": f"{folder}/control",
        "polling_interval": 0.1,
    }


def test_other_brokers_have_no_folders() -> None:
    assert product_settings.read_broker_options("redis://127.0.0.1:6379/0") == {}


@pytest.mark.parametrize("url", ["filesystem://", "filesystem://var/broker", "filesystem:///"])
def test_a_filesystem_broker_needs_an_absolute_path(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="CELERY_BROKER_URL"):
        product_settings.read_broker_options(url)


def test_a_message_rests_in_the_folder_until_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = product_settings.read_broker_options(f"filesystem://localhost{tmp_path}/broker")
    monkeypatch.setitem(celery.app.conf, "broker_transport_options", options)
    celery.create_broker_folders()
    celery.create_broker_folders()
    data = tmp_path / "broker" / "data"
    with (
        celery.app.connection_for_write("filesystem://localhost/", transport_options=options) as connection,
        connection.SimpleQueue("bell") as queue,
    ):
        queue.put({"ring": 1})
        [message] = data.iterdir()
        assert message.name.endswith(".bell.msg")
        taken = queue.get(timeout=20)
        assert taken.payload == {"ring": 1}
        taken.ack()
    assert list(data.iterdir()) == []


def test_readiness_is_told_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(markers.VARIABLE, raising=False)
    celery.tell_ready()
    marker = tmp_path / "worker.ready"
    monkeypatch.setenv(markers.VARIABLE, str(marker))
    celery.tell_ready()
    assert time.time() - marker.stat().st_mtime < 600
