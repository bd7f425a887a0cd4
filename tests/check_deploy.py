"""`make check`: migrations are complete, and `check --deploy` is clean under the settings of a production."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: What an operator would set; secrets that protect nothing.
PRODUCTION = {
    "SECRET_KEY": "check-" + "0123456789abcdefghijklmnopqrstuvwxyz" * 2,
    "API_KEY_PEPPER": "check-pepper",
    "CREDENTIAL_KEYS": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "PUBLIC_BASE_URL": "https://images.example.com",
    "METRICS_TOKEN": "check-metrics",
}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty.env").touch()
        environment = {
            name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "VIRTUAL_ENV"}
        } | {
            "ENV_FILE": f"{folder}/empty.env",
            "DATABASE_URL": f"sqlite:///{folder}/check.sqlite3",
            "FILE_STORAGE_URL": f"file://{folder}/files",
            **PRODUCTION,
        }
        commands = [["makemigrations", "--check", "--dry-run"], ["migrate", "-v", "0"]]
        commands.append(["check", "--deploy", "--fail-level", "WARNING", "--database", "default"])
        for command in commands:
            print("== manage.py", *command, flush=True)
            code = subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=False)
            if code.returncode:
                return code.returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
