"""The product's processes as processes of their own, on the test's data, for what only a real one shows."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.db import connection

from crazyrouter import celery
from crazyrouter.ops.markers import VARIABLE
from crazyrouter.settings import read_broker_options

ROOT = Path(__file__).resolve().parent.parent


def get_database_url() -> str:
    """The URL under which another process opens this test's database."""
    config = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{config['NAME']}"
    return f"postgres:///{config['HOST']}/{config['NAME']}"


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build_environment(**environment: Any) -> dict[str, str]:
    """What a process of the product needs to work on this test's data."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "crazyrouter.settings",
        "DEBUG": "true",
        "DATABASE_URL": get_database_url(),
        "FILE_STORAGE_URL": settings.FILE_STORAGE_URL,
        "EGRESS_ALLOW": ",".join(settings.EGRESS_ALLOW),
        "QUEUE_LIMIT_S": str(settings.QUEUE_LIMIT_S),
        **{name: str(value) for name, value in environment.items()},
    }


class Running:
    """A process of the product. It may be killed by the test."""

    command: Sequence[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Without waiting until it is ready."""
        self.process = subprocess.Popen([sys.executable, "-m", *self.command], cwd=ROOT, env=self.environment)

    def wait_until_ready(self) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended with {self.process.returncode}")
            if self.is_ready():
                return
            time.sleep(0.05)
        raise RuntimeError("it was not ready in time")

    def is_ready(self) -> bool:
        raise NotImplementedError

    def __enter__(self) -> Self:
        if self.process is None:
            self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            # One that the test has put to sleep could not hear it.
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """As a crash: nothing is told, nothing is finished."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


class RunningServer(Running):
    """uvicorn with the product's ASGI application, or another that wraps it."""

    def __init__(self, application: str = "crazyrouter.asgi:application", **environment: Any) -> None:
        self.port = find_free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.command = ["uvicorn", application, "--port", str(self.port), "--no-access-log", "--log-level", "warning"]
        self.environment = build_environment(**{"PUBLIC_BASE_URL": self.base_url, **environment})

    def is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.base_url}/v1", timeout=5)
        except urllib.error.HTTPError:
            return True
        except OSError:
            pass
        return False


class RunningWorker(Running):
    """A Celery worker on a filesystem broker in `folder`; `app` may be another that wraps the product's."""

    def __init__(self, folder: Path, app: str = "crazyrouter.celery", **environment: Any) -> None:
        self.marker = folder / f"worker-{secrets.token_hex(4)}.ready"
        options = ["--pool", "threads", "--concurrency", "2", "--without-gossip", "--without-mingle"]
        self.command = ["celery", "--quiet", "--skip-checks", "-A", app, "worker", "--loglevel", "WARNING", *options]
        self.broker_url = f"filesystem://localhost{folder}/broker"
        self.environment = build_environment(
            **{"CELERY_BROKER_URL": self.broker_url, VARIABLE: self.marker, **environment}
        )

    def is_ready(self) -> bool:
        return self.marker.exists()

    def ring(self, task: str) -> None:
        """Send it a task."""
        options = read_broker_options(self.broker_url)
        with celery.app.connection_for_write("filesystem://localhost/", transport_options=options) as connection:
            celery.app.send_task(task, connection=connection)
