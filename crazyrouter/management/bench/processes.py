"""The processes of a measurement: pinned to a CPU, gone with this one, read through /proc. Linux only.

ChildFailed     a process did not start, ended, or answered nonsense; says which, with the end of its log
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from crazyrouter.ops.markers import VARIABLE
from crazyrouter.ops.parentage import make_bond
from crazyrouter.ops.programs import find_code

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
PACKAGE = "crazyrouter.management.bench"
#: Enough for thousands of clients and as many upstream calls and pictures; a limit that is lower stays.
DESCRIPTORS = 65_536
#: Of the caller's environment; the product's own variables must not change what is measured.
INHERITED = {"PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE"}

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ChildFailed(Exception):
    """Its message is for people."""


@dataclass(frozen=True, slots=True)
class Pinning:
    """CPUs of the servers that are measured, and of everything else; None where there is only one for all."""

    servers: frozenset[int] | None
    others: frozenset[int] | None


def choose_pinning() -> Pinning:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return Pinning(None, None)
    return Pinning(frozenset(cpus[:1]), frozenset(cpus[1:2]))


def raise_descriptor_limit() -> int:
    """Allow as many open files as this user may; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def build_environment(**own: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name in INHERITED}
    return {**inherited, **find_code(), **own}


def name_module(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"{PACKAGE}.{module}", *arguments]


def prepare_child(cpus: frozenset[int] | None, *, bond: Callable[[], None] | None) -> Callable[[], None]:
    """What a child does between fork and exec."""

    def prepare() -> None:
        if bond is not None:
            bond()
        if cpus is not None:
            os.sched_setaffinity(0, cpus)

    return prepare


@contextmanager
def run_server(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    cpus: frozenset[int] | None,
    descriptor: int,
) -> Iterator[int]:
    """Start a server on an inherited listening socket, wait for its marker, yield its process id, stop it."""
    marker, log = folder / f"{name}.ready", folder / f"{name}.log"
    marker.unlink(missing_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the commands are ours
            command,
            env={**environment, VARIABLE: str(marker)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(descriptor,),
            start_new_session=True,
            preexec_fn=prepare_child(cpus, bond=make_bond()),  # noqa: PLW1509 - no other thread forks
        )
    try:
        await_marker(name, process, marker, log)
        yield process.pid
        if process.poll() is not None:
            raise ChildFailed(f"the {name} ended with status {process.returncode}{quote_end(log)}")
    finally:
        stop(process)


def await_marker(name: str, process: subprocess.Popen[bytes], marker: Path, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while not marker.exists():
        if process.poll() is not None:
            raise ChildFailed(f"the {name} ended with status {process.returncode}{quote_end(log)}")
        if time.monotonic() > end:
            raise ChildFailed(f"the {name} did not start within {START_TIMEOUT_S:.0f} s{quote_end(log)}")
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def quote_end(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
    return "".join(f"\n    {line[:300]}" for line in lines)


def ask(
    module: str,
    given: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    cpus: frozenset[int] | None,
    timeout_s: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run one of the package's modules to its end: JSON in, JSON out. `meanwhile` is called a few times a second."""
    process = subprocess.Popen(  # noqa: S603 - the commands are ours
        name_module(module),
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=prepare_child(cpus, bond=make_bond()),  # noqa: PLW1509 - no other thread forks
    )
    given_bytes: bytes | None = orjson.dumps(given)
    end = time.monotonic() + timeout_s
    with process:
        while True:
            try:
                output, errors = process.communicate(given_bytes, timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                given_bytes = None
                meanwhile()
                if time.monotonic() > end:
                    process.kill()
                    raise ChildFailed(f"{module} did not end within {timeout_s:.0f} s") from None
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        raise ChildFailed(f"{module} ended with status {process.returncode}\n{errors.decode(errors='replace')[-2000:]}")
    answer: dict[str, Any] = orjson.loads(output)
    return answer


# --- /proc -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process and its descendants: CPU seconds so far, memory and threads now."""

    cpu_s: float = 0.0
    rss_bytes: int = 0
    threads: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu_s + other.cpu_s, self.rss_bytes + other.rss_bytes, self.threads + other.threads)


def read_usage(pid: int) -> Usage:
    """Of the tree below `pid`. Children that ended and were waited for count through their parents."""
    usage = Usage()
    for one in list_tree(pid):
        try:
            usage += read_process(one)
        except OSError:
            continue  # ended since it was listed
    return usage


def list_tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = [*Path(f"/proc/{pid}/task").iterdir()]
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from list_tree(int(child))


def read_process(pid: int) -> Usage:
    """Fields of proc(5): utime, stime, cutime and cstime are 14 to 17, threads is 20, resident pages 24."""
    # The name, field 2, may hold blanks; what follows its closing bracket does not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[11:15])
    return Usage(cpu_s=ticks * _TICK_S, rss_bytes=int(fields[21]) * _PAGE_BYTES, threads=int(fields[17]))
