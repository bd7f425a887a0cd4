"""`manage.py serve`: refuses what it cannot serve on, and runs as many web processes as it is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crazyrouter.ops.probes import answers
from tests.ops.processes import PATIENCE_S, is_running, run_python, spawn_python, wait_until


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An installation with nothing in it, whatever this test process has in its own environment."""
    (tmp_path / ".env").write_text(
        f"DEBUG=true\nDATABASE_URL=sqlite:///{tmp_path}/db.sqlite3\nFILE_STORAGE_URL=file://{tmp_path}/files\n"
        f"CELERY_BROKER_URL=filesystem://localhost{tmp_path}/broker\nSTATIC_ROOT={tmp_path}/static\nWEB_PROCESSES=2\n"
    )
    return {"PATH": os.environ["PATH"], "ENV_FILE": str(tmp_path / ".env")}


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def serving(environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    process = spawn_python("manage.py", "serve", "--migrate", "--port", str(port), env=environment)
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


def list_children(pid: int) -> dict[int, str]:
    """The living children of a process, with their command lines."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and is_running(int(status.parent.name)):
            found[int(status.parent.name)] = command
    return found


def test_a_database_behind_the_code_is_one_line(environment: dict[str, str], port: int) -> None:
    ended = run_python("manage.py", "serve", "--port", str(port), env=environment)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("CommandError: serve: the database lacks ")
    assert line.endswith(": run `manage.py migrate`, or start with `manage.py serve --migrate`")


def test_a_taken_port_is_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = run_python("manage.py", "serve", "--port", str(port), env=environment)
    assert (ended.stderr, ended.returncode) == (
        f"CommandError: serve: port {port} on 127.0.0.1 is taken: choose another with --port\n",
        1,
    )


def test_a_database_that_is_not_there_is_one_line(environment: dict[str, str], tmp_path: Path, port: int) -> None:
    missing = {**environment, "DATABASE_URL": f"sqlite:///{tmp_path}/none/db.sqlite3"}
    ended = run_python("manage.py", "serve", "--port", str(port), env=missing)
    assert (ended.stderr, ended.returncode) == ("CommandError: serve: unable to open database file\n", 1)


@pytest.mark.live
def test_processes_share_the_port_and_end_together(serving: subprocess.Popen[str], port: int) -> None:
    assert serving.stdout is not None
    assert serving.stdout.readline() == f"serve: ready on 127.0.0.1 port {port}\n"
    url = f"http://127.0.0.1:{port}/readyz"
    children = list_children(serving.pid)
    webs = [pid for pid, command in children.items() if "crazyrouter.web" in command]
    roles = [role for role in ("worker", "beat") for command in children.values() if f" {role} " in command]
    assert (len(children), len(webs), sorted(roles)) == (4, 2, ["beat", "worker"])
    assert answers(url)
    os.kill(webs[0], signal.SIGKILL)
    assert serving.stdout.readline().endswith(" was ended by SIGKILL; starting it again in 0.5 s\n")
    assert all(answers(url, timeout_s=PATIENCE_S) for _ in range(5))
    wait_until(lambda: len(list_children(serving.pid)) == 4)
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(PATIENCE_S) == 0
    assert not any(is_running(pid) for pid in children)
    assert not answers(url)
