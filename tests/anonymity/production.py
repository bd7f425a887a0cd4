"""A server as in production that keeps what it says, and where a secret might be read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings

from tests.server import ROOT, RunningServer


class LoggedServer(RunningServer):
    """As in production, and what it says at its most talkative goes into a file."""

    def __init__(self, folder: Path, application: str = "crazyrouter.asgi:application", **environment: Any) -> None:
        self.log = folder / "server.log"
        production = {
            "DEBUG": "false",
            "SECRET_KEY": "0123456789" * 6,
            "API_KEY_PEPPER": settings.API_KEY_PEPPER,
            "CREDENTIAL_KEYS": ",".join(settings.CREDENTIAL_KEYS),
            "LOG_LEVEL": "DEBUG",
            "QUEUE_LIMIT_S": 0.5,
        }
        super().__init__(application, **production, **environment)
        self.command = [*self.command, "--no-server-header"]

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", *self.command]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)


def find_secrets(text: str, secrets: Sequence[str]) -> list[str]:
    """The secrets, each as a whole or without its last four characters, which may be shown."""
    return [secret for secret in secrets if secret[:-4] in text]


def find_stored_secrets(secrets: Sequence[str]) -> list[str]:
    """Tables in which one can be read: credentials, histories, the log of the admin, attempts and all others."""
    tables = [model for model in apps.get_models() if model._meta.managed and not model._meta.proxy]
    return [
        model._meta.label for model in tables if find_secrets(str(list(model._default_manager.values_list())), secrets)
    ]
