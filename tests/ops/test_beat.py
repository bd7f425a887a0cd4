"""Beat does not pile up bells while no worker runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from crazyrouter import celery
from crazyrouter.ops import beat
from crazyrouter.settings import read_broker_options


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A filesystem broker without a worker; the folder of its messages."""
    url = f"filesystem://localhost{tmp_path}/broker"
    monkeypatch.setitem(celery.app.conf, "broker_transport_options", read_broker_options(url))
    celery.create_broker_folders()
    return tmp_path / "broker" / "data"


def test_bells_are_left_out_while_many_wait(broker: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(beat, "MOST_UNHEARD", 3)
    scheduler = beat.Beat(app=celery.app, schedule_filename=str(tmp_path / "schedule"))
    scheduler.producer.connection.transport_options = celery.app.conf.broker_transport_options
    bell = scheduler.schedule["generation.recover_generations"]
    work = scheduler.schedule["files.expire"]
    for _ in range(10):
        scheduler.apply_entry(bell)
    assert len(list(broker.iterdir())) == 3
    scheduler.apply_entry(work)
    assert len(list(broker.iterdir())) == 4
    for message in broker.iterdir():
        message.unlink()
    scheduler.apply_entry(bell)
    assert len(list(broker.iterdir())) == 1
    scheduler.close()


def test_other_brokers_have_no_folder() -> None:
    assert not beat.is_unheard({})
    assert not beat.is_unheard(None)
    assert not beat.is_unheard({"data_folder_out": "/nowhere"})


def test_the_schedule_is_run_by_it() -> None:
    assert celery.app.conf.beat_scheduler == "crazyrouter.ops.beat:Beat"
    options = {name: entry["options"] for name, entry in celery.app.conf.beat_schedule.items()}
    bells = {name for name in options if beat.is_bell(options[name])}
    assert {"generation.recover_generations"} <= bells
    assert not bells & {"files.expire", "files.sweep", "generation.erase_prompts"}
