"""Keeps some child processes running as one: starts them, restarts what dies, stops them in order, leaves none behind.

Stop            a signal asked for the end (not an Exception: nothing in between may swallow it)
StartFailed     a program never came to do its work; one line for people
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from crazyrouter.ops.markers import VARIABLE
from crazyrouter.ops.parentage import make_bond

TICK_S = 0.1
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
#: A child that ran this long is healthy again: its next death starts the back-off anew.
SETTLED_AFTER_S = 60.0
#: A program that ends this often before it was ever ready will not come to work.
DEATHS_BEFORE_GIVING_UP = 3


class Stop(BaseException):
    """SIGINT, SIGTERM or SIGHUP."""


class StartFailed(Exception):
    """Its message is one line for people."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `stage` is its place in the order of stopping; `patience_s` how long it may take to end.

    With a marker it counts as ready when that file exists, else as soon as it runs. What a mute one says on standard
    output is for its own terminal, which it has not; its log is on standard error.
    """

    name: str
    command: Sequence[str]
    stage: int = 0
    patience_s: float = 10.0
    marker: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    inherited: tuple[int, ...] = ()
    mute: bool = False


class Child:
    """A program and its present process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.deaths = 0
        self.started_at = 0.0
        self.due_at = 0.0

    def spawn(self) -> None:
        """In a session of its own: Ctrl-C reaches the supervisor alone, and a kill reaches the child's children."""
        program = self.program
        own = dict(program.environment)
        if program.marker is not None:
            program.marker.unlink(missing_ok=True)
            own[VARIABLE] = str(program.marker)
        self.ready = False
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - the commands are ours
            program.command,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if program.mute else None,
            pass_fds=program.inherited,
            start_new_session=True,
            preexec_fn=make_bond(),  # noqa: PLW1509 - the supervisor has no other threads
        )

    def note_end(self) -> str | None:
        """If the process has ended since the last look: how, with the back-off set."""
        if self.process is None or (status := self.process.poll()) is None:
            return None
        kill_group(self.process.pid)
        self.process = None
        if time.monotonic() - self.started_at >= SETTLED_AFTER_S:
            self.deaths = 0
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**self.deaths)
        self.deaths += 1
        self.due_at = time.monotonic() + delay
        return describe_end(status)

    def look_ready(self) -> bool:
        if not self.ready and self.process is not None:
            self.ready = self.program.marker is None or self.program.marker.exists()
        return self.ready


class Supervisor:
    """`with Supervisor(say) as s:` start, wait, watch; leaving the block stops everything. Main thread only.

    Any of SIGINT, SIGTERM and SIGHUP raises Stop inside the block. A second one while stopping kills at once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._children: list[Child] = []
        self._handlers: dict[int, Any] = {}
        self._hurry = False

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup's wish is respected. A shell that starts a job in the background ignores SIGINT for it, which
            # would leave no way to stop by the signal that is meant for it.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._raise_stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._handlers:
            signal.signal(number, self._note_hurry)
        try:
            self.stop()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def start(self, *programs: Program) -> None:
        for program in programs:
            child = Child(program)
            self._children.append(child)
            child.spawn()

    def wait_until_ready(self, timeout_s: float, *, also: Callable[[], bool] = lambda: True) -> None:
        """Until every child has shown its marker and `also` agrees. Raises StartFailed."""
        end = time.monotonic() + timeout_s
        while not (all(child.look_ready() for child in self._children) and also()):
            self._tend()
            for child in self._children:
                if not child.ready and child.deaths >= DEATHS_BEFORE_GIVING_UP:
                    raise StartFailed(f"{child.program.name} does not start: it ended {child.deaths} times")
            if time.monotonic() > end:
                waiting = [child.program.name for child in self._children if not child.ready]
                raise StartFailed(f"{' and '.join(waiting) or 'the web'} did not answer within {timeout_s:.0f} s")
            time.sleep(TICK_S / 2)

    def watch(self) -> None:
        """Restart what dies, for ever: only Stop ends it."""
        while True:
            self._tend()
            time.sleep(TICK_S)

    def stop(self) -> None:
        """Stage by stage: ask, wait, kill what remains."""
        ordered = sorted(self._children, key=lambda child: child.program.stage)
        for _, stage in groupby(ordered, key=lambda child: child.program.stage):
            running = [(child, child.process) for child in stage if child.process is not None]
            for _, process in running:
                process.terminate()
            for child, process in running:
                self._await_end(child, process)
        self._children.clear()

    def _tend(self) -> None:
        for child in self._children:
            end = child.note_end()
            if end is not None:
                self._say(f"{child.program.name} {end}; starting it again in {child.due_at - time.monotonic():.1f} s")
            if child.process is None and time.monotonic() >= child.due_at:
                child.spawn()

    def _await_end(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + child.program.patience_s
        while process.poll() is None and time.monotonic() < end and not self._hurry:
            time.sleep(TICK_S / 4)
        if process.poll() is None and not self._hurry:
            self._say(f"{child.program.name} did not end within {child.program.patience_s:.0f} s: killed")
        kill_group(process.pid)
        process.wait()
        child.process = None

    def _raise_stop(self, number: int, frame: FrameType | None) -> None:
        raise Stop

    def _note_hurry(self, number: int, frame: FrameType | None) -> None:
        self._hurry = True


def kill_group(leader: int) -> None:
    """A child leads its own process group: what it started goes with it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def describe_end(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
