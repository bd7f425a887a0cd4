"""Everything with one command: demo data, web, worker, beat and a simulated upstream under one supervisor."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from crazyrouter.celery import create_broker_folders
from crazyrouter.ops import probes, programs
from crazyrouter.ops.parentage import follow_make
from crazyrouter.ops.statics import collect_static
from crazyrouter.ops.supervisor import StartFailed, Stop, Supervisor
from crazyrouter.quickstart import demo
from crazyrouter.quickstart.announcement import Facts, render_block, write_ready_file
from crazyrouter.quickstart.bootstrap import SIMULATOR_HOST, Preparation, add_options, get_preparation
from models_registry.seed import seed_models

START_TIMEOUT_S = 90.0


class Command(BaseCommand):
    help = "Create what is missing (database, models, demo account, simulated channels) and run everything."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        preparation = get_preparation()
        if preparation is None:
            raise CommandError("quickstart must be started through manage.py: it prepares the settings")
        follow_make()
        self.name_overrides(preparation.env_file.values)
        try:
            with suppress(Stop), Supervisor(self.tell) as supervisor, close_at_end(preparation):
                self.run(preparation, supervisor)
        except (StartFailed, DatabaseError, OSError) as error:
            raise CommandError(f"quickstart: {error}") from error

    def run(self, preparation: Preparation, supervisor: Supervisor) -> None:
        """Start what needs no database, make the database meanwhile, then the web."""
        place = preparation.place
        run_dir = place.folder / "run"
        run_dir.mkdir(mode=0o700, exist_ok=True)
        create_broker_folders()
        supervisor.start(programs.build_simulator(SIMULATOR_HOST, place.simulator_port, run_dir=run_dir))
        supervisor.start(programs.build_worker(run_dir=run_dir))
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        # It rings the worker, whose tasks need the tables.
        supervisor.start(programs.build_beat(run_dir=run_dir))
        collect_static()
        supervisor.start(programs.build_web(preparation.listener.fileno(), run_dir=run_dir))
        facts, real_models = fill(preparation)
        connections.close_all()
        supervisor.wait_until_ready(
            START_TIMEOUT_S,
            also=lambda: (
                probes.answers(f"{place.base_url}/readyz")
                and probes.answers(f"{place.simulator_url}/_sim/healthz", key=facts.simulator_key)
            ),
        )
        if preparation.ready_file:
            write_ready_file(preparation.ready_file, facts)
        self.stdout.write(render_block(facts, folder=place.folder, real_models=real_models))
        self.stdout.flush()
        supervisor.watch()

    def name_overrides(self, written: Mapping[str, str]) -> None:
        """A variable that is set wins over the file; whoever forgot it in their shell should know."""
        names = [name for name, value in written.items() if os.environ.get(name, value) != value]
        for name in sorted(set(names) - {"EGRESS_ALLOW"}):
            self.tell(f"{name} comes from your environment, not from the data folder's .env")

    def tell(self, line: str) -> None:
        with suppress(BrokenPipeError):
            self.stderr.write(f"quickstart: {line}")


def fill(preparation: Preparation) -> tuple[Facts, list[str]]:
    """Put into the database what is missing, keep the key in the environment file; also the really served models."""
    env_file, place = preparation.env_file, preparation.place
    values = env_file.values
    seed_models()
    demo.keep_simulated(place.simulator_url)
    real = demo.read_real()
    real_models = demo.keep_real(*real) if real else []
    key = demo.keep_key(demo.open_account(), values.get("DEMO_API_KEY", ""))
    env_file.set({"DEMO_API_KEY": key})
    env_file.save()
    known = demo.keep_admin(values["ADMIN_PASSWORD"], reset=env_file.is_new)
    facts = Facts(
        base_url=os.environ.get("PUBLIC_BASE_URL", place.base_url).rstrip("/"),
        api_key=key,
        admin_username=demo.ADMIN,
        admin_password=values["ADMIN_PASSWORD"] if known else None,
        simulator_url=place.simulator_url,
        simulator_key=os.environ["SIMULATOR_KEY"],
    )
    return facts, real_models


@contextmanager
def close_at_end(preparation: Preparation) -> Iterator[None]:
    """First of all nobody is let in any more: an open socket would take connections that nobody answers."""
    try:
        yield
    finally:
        preparation.listener.close()
        if preparation.ready_file:
            remove(preparation.ready_file)


def remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
