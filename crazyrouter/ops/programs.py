"""The command lines of the product's processes, as the supervisor runs them."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from crazyrouter.ops.supervisor import Program

BASE_DIR = Path(__file__).resolve().parent.parent.parent
MANAGE = str(BASE_DIR / "manage.py")

#: Order of stopping: no new work, then what is done behind it, last what the others call.
WEB, BACKGROUND, SIMULATOR = range(3)

#: The engine lets generations end for 30 s, then gives their leases back.
WEB_PATIENCE_S = 35.0
#: Celery looks after signals every 2 s and takes a while itself; its engine lets generations end for 5 s.
WORKER_PATIENCE_S = 20.0


def build_web(descriptor: int, *, run_dir: Path, number: int = 1) -> Program:
    """One web process on a listening socket that it inherits."""
    return Program(
        name=f"web {number}",
        command=(sys.executable, "-m", "crazyrouter.web", "--fd", str(descriptor)),
        stage=WEB,
        patience_s=WEB_PATIENCE_S,
        marker=run_dir / f"web-{number}.ready",
        environment=find_code(),
        inherited=(descriptor,),
    )


def build_worker(*, run_dir: Path) -> Program:
    arguments = ("--pool", "threads", "--concurrency", "2", "--without-gossip", "--without-mingle")
    program = build_celery("worker", *arguments, "--without-heartbeat", stage=BACKGROUND, run_dir=run_dir)
    # A filesystem broker moves each message to the temporary folder first: only within one filesystem is that atomic.
    environment = {**program.environment, "TMPDIR": str(run_dir)}
    return replace(program, environment=environment, patience_s=WORKER_PATIENCE_S)


def build_beat(*, run_dir: Path) -> Program:
    """A process of its own: a worker that is killed hard with a beat inside leaves one that goes on publishing."""
    arguments = ("--schedule", str(run_dir / "beat-schedule"), "--pidfile", "")
    return build_celery("beat", *arguments, stage=BACKGROUND, run_dir=run_dir)


def build_celery(role: str, *arguments: str, stage: int, run_dir: Path) -> Program:
    command = (sys.executable, "-W", "ignore::UserWarning", "-m", "celery", "--quiet", "--skip-checks")
    return Program(
        name=role,
        command=(*command, "-A", "crazyrouter.celery", role, "--loglevel", "WARNING", *arguments),
        stage=stage,
        marker=run_dir / f"{role}.ready",
        environment=find_code(),
        mute=True,
    )


def build_simulator(host: str, port: int, *, run_dir: Path) -> Program:
    """Its control key comes from SIMULATOR_KEY; it writes the marker itself."""
    marker = run_dir / "simulator.ready"
    options = ("--host", host, "--port", str(port), "--ready-file", str(marker))
    return Program(
        name="simulated upstream",
        command=(sys.executable, MANAGE, "simulate", *options),
        stage=SIMULATOR,
        marker=marker,
        environment=find_code(),
        mute=True,
    )


def find_code() -> dict[str, str]:
    """`-m` looks in the current directory: a child must find the code from wherever it was started."""
    path = os.pathsep.join(filter(None, [str(BASE_DIR), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
