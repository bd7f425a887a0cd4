"""The whole measurement: prepare the machine, measure each database, report, leave nothing behind."""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import orjson

from crazyrouter.management.bench import report
from crazyrouter.management.bench.databases import explain_absence
from crazyrouter.management.bench.figures import Findings
from crazyrouter.management.bench.measure import measure
from crazyrouter.management.bench.plan import KEYS, MODEL, SIZE, Plan
from crazyrouter.management.bench.processes import Pinning, choose_pinning, raise_descriptor_limit
from crazyrouter.management.bench.upstream import build_picture

FSYNCS = 64


def run_bench(plan: Plan, *, say: Callable[[str], None], write: Callable[[str], None], json: Path | None) -> int:
    """The exit code: 1 if anything could not be proved. `say` is for progress, `write` for the report."""
    raise_descriptor_limit()
    pinning = choose_pinning()
    findings: list[Findings] = []
    with end_on_sigterm(), tempfile.TemporaryDirectory(prefix="crazyrouter-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        about = describe_machine(plan, pinning)
        fsync_before = measure_fsync(folder)
        for kind in plan.databases:
            absence = explain_absence(kind, plan)
            if absence:
                about.append(absence)
            else:
                findings.append(measure(kind, plan, folder=folder / kind, pinning=pinning, say=say))
        about.append(
            f"fsync of 8 KiB in {folder.parent}: {fsync_before:.2f} ms before, {measure_fsync(folder):.2f} ms after"
        )
    write(report.render(plan, findings, about=about))
    if json is not None:
        facts: dict[str, Any] = report.describe(plan, findings, about=about)
        json.write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2) + b"\n")
    return 1 if any(found.faults for found in findings) else 0


@contextmanager
def end_on_sigterm() -> Iterator[None]:
    """As Ctrl-C does: children are stopped, the data is removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def describe_machine(plan: Plan, pinning: Pinning) -> list[str]:
    """What the figures depend on."""
    return [
        f"Crazyrouter bench, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs ({describe_pinning(pinning)}), load average {os.getloadavg()[0]:.1f} before",
        f"{MODEL} {SIZE}, sync, url mode, a picture of {len(build_picture()) / 1024:.1f} KB; "
        f"{KEYS} keys of {plan.accounts} {'account' if plan.accounts == 1 else 'accounts'}; "
        f"{plan.rounds} x {plan.seconds:g} s of {plan.clients} clients, product and relay in turn",
    ]


def describe_pinning(pinning: Pinning) -> str:
    if pinning.servers is None or pinning.others is None:
        return "NOT pinned: there is only one, which servers, load and upstream share"
    return (
        f"product and relay on CPU {min(pinning.servers)}; load, upstream and PostgreSQL on CPU {min(pinning.others)}"
    )


def measure_fsync(folder: Path) -> float:
    """The median in ms: every durable commit waits for at least one."""
    taken = []
    descriptor = os.open(folder / "fsync", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(FSYNCS):
            os.pwrite(descriptor, bytes(8192), 0)
            before = time.perf_counter()
            os.fsync(descriptor)
            taken.append((time.perf_counter() - before) * 1000)
    finally:
        os.close(descriptor)
    return median(taken)


def explain_refusal() -> str:
    """Why nothing can be measured on this system; empty if it can."""
    return "" if sys.platform == "linux" else "bench pins processes and reads /proc: it needs Linux"
