"""Where the drill takes place: a server that runs already, or one of its own that is gone when the drill is over.

SiteFailed      it cannot be drilled, or did not start; says why
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from crazyrouter.management.bench.databases import Database, open_database
from crazyrouter.management.bench.plan import Plan as BenchPlan
from crazyrouter.management.bench.processes import build_environment, quote_end
from crazyrouter.management.drill.plan import Plan
from crazyrouter.ops.markers import VARIABLE
from crazyrouter.ops.parentage import make_bond
from crazyrouter.ops.programs import MANAGE, build_web
from crazyrouter.quickstart.envfile import EnvFile, EnvFileUnreadable

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
SETTINGS = {"DJANGO_SETTINGS_MODULE": "crazyrouter.settings"}
FACTS = ("base_url", "api_key", "simulator_url", "simulator_key")


class SiteFailed(Exception):
    """Its message is for people."""


@dataclass(slots=True)
class Child:
    """A process of ours, the leader of a group of its own, which dies with this process."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    inherited: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - the commands are ours
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self.inherited,
                start_new_session=True,
                preexec_fn=make_bond(),  # noqa: PLW1509 - there are no other threads
            )

    async def wait_for(self, is_ready: Callable[[], bool]) -> None:
        """Raises SiteFailed."""
        end = time.monotonic() + START_TIMEOUT_S
        while True:
            if is_ready():
                return
            if self.process is None or self.process.poll() is not None:
                raise SiteFailed(f"{self.name} ended while it started{quote_end(self.log)}")
            if time.monotonic() > end:
                raise SiteFailed(f"{self.name} did not start within {START_TIMEOUT_S:.0f} s{quote_end(self.log)}")
            await asyncio.sleep(0.05)

    async def wait(self, timeout_s: float) -> int | None:
        """Its status; None if it runs on."""
        end = time.monotonic() + timeout_s
        while True:
            status = self.process.poll() if self.process is not None else None
            if status is not None or self.process is None or time.monotonic() > end:
                return status
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Ask, wait, kill what remains."""
        if self.process is None:
            return
        try:
            self.process.terminate()
            await self.wait(STOP_TIMEOUT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass(slots=True)
class Site:
    """One server, its upstream, and the environment that reaches its data. `second` is a web process that may die.

    Of `log`, what stands before `log_began` is of the start.
    """

    base_urls: tuple[str, ...]
    simulator_url: str
    simulator_key: str
    environment: Mapping[str, str]
    folder: Path
    log: Path | None = None
    log_began: int = 0
    second: Child | None = None
    marker: Path = field(default_factory=Path)

    @property
    def is_own(self) -> bool:
        return self.second is not None

    def read_log(self) -> list[str]:
        """Lines that the processes have logged since all had started; none of a server that is not ours."""
        return [] if self.log is None else self.log.read_bytes()[self.log_began :].decode(errors="replace").splitlines()

    async def run_command(self, *arguments: str, timeout_s: float) -> tuple[int, list[str]]:
        """A command of manage.py on the server's data: its status and the lines it has printed. Raises SiteFailed."""
        log = self.folder / f"{arguments[0]}.out"
        log.unlink(missing_ok=True)
        child = Child(arguments[0], [sys.executable, MANAGE, *arguments], self.environment, log)
        child.start()
        try:
            status = await child.wait(timeout_s)
        finally:
            child.kill()
        if status is None:
            raise SiteFailed(f"{arguments[0]} did not end within {timeout_s:.0f} s")
        return status, log.read_text(errors="replace").splitlines()

    async def start_second(self) -> None:
        if self.second is not None:
            self.marker.unlink(missing_ok=True)
            self.second.start()
            await self.second.wait_for(self.marker.exists)

    def kill_second(self) -> None:
        """As a machine loses a process: at once, in the middle of whatever it does."""
        if self.second is not None:
            self.second.kill()


@asynccontextmanager
async def open_site(plan: Plan) -> AsyncIterator[Site]:
    """Raises SiteFailed."""
    with tempfile.TemporaryDirectory(prefix="crazyrouter-drill-", ignore_cleanup_errors=True) as name:
        if plan.ready_file is not None:
            yield join_site(plan.ready_file, plan.env_file, folder=Path(name))
            return
        async with AsyncExitStack() as stack:
            yield await build_site(plan, Path(name), stack)


# --- one that runs ---


def join_site(ready_file: Path, env_file: Path | None, *, folder: Path) -> Site:
    facts = read_facts(ready_file)
    env_path = env_file or ready_file.with_name(".env")
    try:
        values = EnvFile(env_path).values if env_path.is_file() else {}
    except EnvFileUnreadable as error:
        raise SiteFailed(str(error)) from error
    if values.get("SIMULATOR_KEY") != facts["simulator_key"]:
        raise SiteFailed(f"{env_path} is not the environment file of the server of {ready_file}: name it by --env-file")
    return Site(
        base_urls=(facts["base_url"],),
        simulator_url=facts["simulator_url"],
        simulator_key=facts["simulator_key"],
        environment=build_environment(**SETTINGS, ENV_FILE=str(env_path.absolute())),
        folder=folder,
    )


def read_facts(ready_file: Path) -> dict[str, Any]:
    """Raises SiteFailed."""
    try:
        facts = orjson.loads(ready_file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise SiteFailed(f"cannot read {ready_file}: {error}") from error
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), str) for name in FACTS):
        raise SiteFailed(f"{ready_file} is no ready file of quickstart: it has {', '.join(FACTS)}")
    return facts


# --- one of our own ---


async def build_site(plan: Plan, folder: Path, stack: AsyncExitStack) -> Site:
    """A quickstart in an empty folder, and a second web process beside its own, on a port of its own."""
    database = stack.enter_context(open_own_database(plan, folder))
    data, ready_file, log = folder / "data", folder / "ready.json", folder / "quickstart.log"
    own = {**plan.environment, **database.environment, "LOG_LEVEL": "WARNING"}
    if database.url:
        own["DATABASE_URL"] = database.url
    options = ("--port", "0", "--data", str(data), "--ready-file", str(ready_file))
    command = [sys.executable, MANAGE, "quickstart", *options]
    quickstart = Child("quickstart", command, build_environment(**own), log)
    stack.push_async_callback(quickstart.stop)
    quickstart.start()
    await quickstart.wait_for(ready_file.exists)
    facts = read_facts(ready_file)
    environment = build_environment(**SETTINGS, ENV_FILE=str(data / ".env"), **own)
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2048))
    program = build_web(listener.fileno(), run_dir=folder, number=2)
    site = Site(
        base_urls=(facts["base_url"], f"http://127.0.0.1:{listener.getsockname()[1]}"),
        simulator_url=facts["simulator_url"],
        simulator_key=facts["simulator_key"],
        environment=environment,
        folder=folder,
        log=log,
        marker=program.marker or folder / "web.ready",
    )
    own_web = {**environment, **program.environment, VARIABLE: str(site.marker), "PUBLIC_BASE_URL": facts["base_url"]}
    site.second = Child("the second web process", program.command, own_web, log, inherited=program.inherited)
    stack.push_async_callback(site.second.stop)
    await site.start_second()
    site.log_began = log.stat().st_size
    return site


@contextmanager
def open_own_database(plan: Plan, folder: Path) -> Iterator[Database]:
    """SQLite is quickstart's own; an empty URL."""
    if plan.database == "sqlite":
        yield Database("")
        return
    bench_plan = BenchPlan(database_url=plan.database_url)
    with open_database(plan.database, bench_plan, folder=folder, cpus=None) as database:
        yield database
