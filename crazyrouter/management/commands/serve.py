"""The product's processes on whatever the environment says: no demo data, no simulator."""

from __future__ import annotations

import socket
import tempfile
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from crazyrouter.celery import create_broker_folders
from crazyrouter.ops import programs
from crazyrouter.ops.schema import list_unapplied
from crazyrouter.ops.statics import collect_static
from crazyrouter.ops.supervisor import StartFailed, Stop, Supervisor
from crazyrouter.quickstart.bootstrap import read_port
from crazyrouter.quickstart.claims import Refused, claim_port

START_TIMEOUT_S = 90.0


class Command(BaseCommand):
    help = "Run web, worker and beat under one supervisor. WEB_PROCESSES says how many web processes share the port."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=read_port, default=8000, help="0 takes any free one (default: %(default)s)")
        parser.add_argument("--migrate", action="store_true", help="apply migrations first")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with claim_port(options["host"], options["port"]) as listener:
                prepare_database(migrate=options["migrate"])
                self.run(listener)
        except (Refused, StartFailed, DatabaseError, OSError) as error:
            raise CommandError(f"serve: {error}") from error

    def run(self, listener: socket.socket) -> None:
        collect_static()
        create_broker_folders()
        connections.close_all()
        with tempfile.TemporaryDirectory(prefix="crazyrouter-run-") as folder:
            self.supervise(listener, run_dir=Path(folder))

    def supervise(self, listener: socket.socket, *, run_dir: Path) -> None:
        host, port = listener.getsockname()[:2]
        # The listener goes first: while the rest stops, nobody is let in who would not be answered.
        with suppress(Stop), Supervisor(self.tell) as supervisor, listener:
            for number in range(1, settings.WEB_PROCESSES + 1):
                supervisor.start(programs.build_web(listener.fileno(), run_dir=run_dir, number=number))
            supervisor.start(programs.build_worker(run_dir=run_dir), programs.build_beat(run_dir=run_dir))
            supervisor.wait_until_ready(START_TIMEOUT_S)
            self.tell(f"ready on {host} port {port}")
            supervisor.watch()

    def tell(self, line: str) -> None:
        with suppress(BrokenPipeError):
            self.stderr.write(f"serve: {line}")


def prepare_database(*, migrate: bool) -> None:
    """Raises CommandError where the database is behind the code, DatabaseError where there is none."""
    if migrate:
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
    elif missing := list_unapplied():
        raise CommandError(
            f"serve: the database lacks {len(missing)} migrations, first {missing[0]}:"
            " run `manage.py migrate`, or start with `manage.py serve --migrate`"
        )
