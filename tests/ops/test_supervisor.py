"""The supervisor with tiny children: nothing is restarted too fast, stopped out of order, or left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crazyrouter.ops.supervisor import LONGEST_DELAY_S, Child, Program, describe_end
from tests.ops.processes import PATIENCE_S, is_running, run_python, spawn_python, wait_until

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the bond to the parent is Linux's")


class Run:
    """A supervisor under test: its lines, its children's pids."""

    def __init__(self, folder: Path, *programs: dict[str, Any]) -> None:
        self.folder = folder
        self.process = spawn_python("-m", "tests.ops.supervised", str(folder), json.dumps(programs))
        assert self.process.stdout is not None
        self.output = self.process.stdout

    def read_line(self) -> str:
        return self.output.readline().rstrip("\n")

    def get_pids(self, name: str) -> list[int]:
        path = self.folder / f"{name}.pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def wait_pids(self, name: str, *, count: int = 1) -> list[int]:
        return wait_until(lambda: len(self.get_pids(name)) >= count and self.get_pids(name))

    def finish(self) -> list[str]:
        """The lines that were still to come; the process has ended."""
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        return rest.splitlines()


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Whatever a failed test leaves behind is killed by its own pid."""
    started: list[Run] = []
    yield started
    for run in started:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        run.output.close()


def start(runs: list[Run], folder: Path, *programs: dict[str, Any]) -> Run:
    run = Run(folder, *programs)
    runs.append(run)
    return run


def test_children_stop_stage_by_stage(runs: list[Run], tmp_path: Path) -> None:
    names = ("upstream", "web", "worker")
    stages = {"web": 0, "worker": 1, "upstream": 2}
    run = start(runs, tmp_path, *({"name": name, "stage": stages[name]} for name in names))
    assert run.read_line() == "ready"
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == ["stopped"]
    assert run.process.returncode == 0
    assert (tmp_path / "ends").read_text().split() == ["web", "worker", "upstream"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_it_too(runs: list[Run], tmp_path: Path, number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        run = start(runs, tmp_path, {"name": "web"})
    finally:
        signal.signal(number, before)
    assert run.read_line() == "ready"
    run.process.send_signal(number)
    assert run.finish() == ["stopped"]
    assert run.process.returncode == 0


def test_under_nohup_it_outlives_its_terminal(runs: list[Run], tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = start(runs, tmp_path, {"name": "web"})
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.read_line() == "ready"
    run.process.send_signal(signal.SIGHUP)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGTERM)
    assert run.finish() == ["stopped"]


def test_a_shell_that_ignores_sigint_for_its_jobs_does_not_make_it_deaf(runs: list[Run], tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = start(runs, tmp_path, {"name": "web"})
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.read_line() == "ready"
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == ["stopped"]


def test_who_does_not_stop_is_killed_with_all_it_started(runs: list[Run], tmp_path: Path) -> None:
    run = start(runs, tmp_path, {"name": "web", "options": ["--deaf", "--parent"], "patience_s": 1.0})
    assert run.read_line() == "ready"
    [pid] = run.get_pids("web")
    child = int((tmp_path / "web.children").read_text())
    assert is_running(child)
    run.process.send_signal(signal.SIGTERM)
    assert run.finish() == ["web did not end within 1 s: killed", "stopped"]
    assert not is_running(pid)
    wait_until(lambda: not is_running(child))


def test_a_second_ctrl_c_waits_for_nobody(runs: list[Run], tmp_path: Path) -> None:
    run = start(runs, tmp_path, {"name": "web", "options": ["--deaf"], "patience_s": 300})
    assert run.read_line() == "ready"
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == ["stopped"]
    assert run.process.returncode == 0


def test_children_sit_in_sessions_of_their_own(runs: list[Run], tmp_path: Path) -> None:
    run = start(runs, tmp_path, {"name": "web"}, {"name": "worker"})
    assert run.read_line() == "ready"
    for name in ("web", "worker"):
        [pid] = run.get_pids(name)
        assert os.getsid(pid) == pid
        assert os.getpgid(pid) == pid


def test_a_dead_child_is_started_again(runs: list[Run], tmp_path: Path) -> None:
    run = start(runs, tmp_path, {"name": "web"}, {"name": "worker"})
    assert run.read_line() == "ready"
    [first] = run.get_pids("web")
    os.kill(first, signal.SIGKILL)
    assert run.read_line() == "web was ended by SIGKILL; starting it again in 0.5 s"
    _, second = run.wait_pids("web", count=2)
    assert is_running(second)
    assert len(run.get_pids("worker")) == 1


def test_each_death_in_a_row_doubles_the_wait(runs: list[Run], tmp_path: Path) -> None:
    run = start(runs, tmp_path, {"name": "flaky", "options": ["--dies", "3"]}, {"name": "web"})
    lines = [line for line in (run.read_line() for _ in range(4)) if line != "ready"]
    assert lines == [
        "flaky ended with status 3; starting it again in 0.5 s",
        "flaky ended with status 3; starting it again in 1.0 s",
        "flaky ended with status 3; starting it again in 2.0 s",
    ]


def test_the_wait_has_an_end(tmp_path: Path) -> None:
    child = Child(Program("false", [sys.executable, "-c", "raise SystemExit(1)"]))
    child.deaths = 40
    child.spawn()
    assert wait_until(child.note_end) == "ended with status 1"
    assert 0 < child.due_at - time.monotonic() <= LONGEST_DELAY_S


def test_a_child_that_had_settled_starts_anew_at_once(tmp_path: Path) -> None:
    child = Child(Program("false", [sys.executable, "-c", "raise SystemExit(1)"]))
    child.deaths = 40
    child.spawn()
    child.started_at -= 3600
    assert wait_until(child.note_end) == "ended with status 1"
    assert child.due_at - time.monotonic() <= 0.5
    assert child.deaths == 1


def test_a_program_that_never_comes_up_ends_the_start(runs: list[Run], tmp_path: Path) -> None:
    run = start(runs, tmp_path, {"name": "broken", "options": ["--silent", "--dies", "7"]}, {"name": "web"})
    lines = run.finish()
    assert lines[-1] == "broken does not start: it ended 3 times"
    assert run.process.returncode == 1
    assert not is_running(run.get_pids("web")[0])


@linux_only
def test_nobody_outlives_a_killed_supervisor(runs: list[Run], tmp_path: Path) -> None:
    run = start(runs, tmp_path, {"name": "web"}, {"name": "worker", "options": ["--deaf"]})
    assert run.read_line() == "ready"
    pids = run.get_pids("web") + run.get_pids("worker")
    assert len(pids) == 2
    assert all(is_running(pid) for pid in pids)
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    wait_until(lambda: not any(is_running(pid) for pid in pids), within_s=10)


@linux_only
def test_a_child_whose_parent_died_before_the_bond_stood_ends_itself() -> None:
    script = (
        "import os, time\n"
        "from crazyrouter.ops.parentage import make_bond\n"
        "bond = make_bond()\n"
        "pid = os.fork()\n"
        "if pid: os._exit(0)\n"
        "while os.getppid() == bond.__closure__[0].cell_contents: time.sleep(0.01)\n"
        "bond()\n"
        "print('still here')\n"
    )
    ended = run_python("-c", script)
    assert (ended.stdout, ended.returncode) == ("", 0)


@linux_only
def test_what_make_started_ends_with_make(tmp_path: Path) -> None:
    script = tmp_path / "follow.py"
    script.write_text(
        "import os, pathlib, time\n"
        "from crazyrouter.ops.parentage import follow_make\n"
        f"pathlib.Path({str(tmp_path / 'said')!r}).write_text(f'{{os.getpid()}} {{follow_make()}}')\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "Makefile").write_text(f"run:\n\texec {sys.executable} {script}\n")
    path = f"{Path(__file__).resolve().parent.parent.parent}"
    make = subprocess.Popen(
        ["make", "-s", "-C", str(tmp_path), "run"], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL
    )
    pid, follows = wait_until(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text().split())
    assert follows == "True"
    make.kill()
    make.wait()
    wait_until(lambda: not is_running(int(pid)), within_s=10)


def test_ends_are_told_in_words() -> None:
    assert describe_end(0) == "ended with status 0"
    assert describe_end(-signal.SIGSEGV) == "was ended by SIGSEGV"
