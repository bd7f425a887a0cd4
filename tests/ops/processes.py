"""Processes as tests see them: spawn, wait with patience, look whether one is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
#: Machines that run tests are busy: what takes a tenth of a second there may take many.
PATIENCE_S = 40.0


def wait_until(condition: Callable[[], Any], *, within_s: float = PATIENCE_S) -> Any:
    """What the condition said when it was first true. Fails otherwise."""
    end = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < end, f"not within {within_s:g} s"
        time.sleep(0.05)
    return answer


def is_running(pid: int) -> bool:
    """Neither gone nor dead and merely not yet collected by whoever inherited it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def run_python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **options
    )


def spawn_python(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        text=True,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.STDOUT),
        **options,
    )
