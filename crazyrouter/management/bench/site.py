"""Everything that one measurement runs against: a database, the fake upstream, the product, the relay."""

from __future__ import annotations

import base64
import http.client
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from crazyrouter.management.bench.databases import Database, open_database
from crazyrouter.management.bench.exactness import Books, compare_product, compare_relay
from crazyrouter.management.bench.load import Job, Result
from crazyrouter.management.bench.plan import ALONE, GENERATE, KEYS, MODEL, PRODUCT, RELAY, SIZE, Plan
from crazyrouter.management.bench.processes import (
    ChildFailed,
    Pinning,
    Usage,
    ask,
    build_environment,
    name_module,
    quote_end,
    read_usage,
    run_server,
)
from crazyrouter.management.bench.wire import build_request
from crazyrouter.ops.programs import build_web

SET_UP_TIMEOUT_S = 120.0
PROMPT = "A red lantern above a quiet canal in the first snow, drawn in ink and light colour, with the words 新年快乐."


def listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=4096)


@dataclass(slots=True)
class Site:
    """Where the servers listen, what reaches the database, and what each side has been asked so far."""

    plan: Plan
    pinning: Pinning
    folder: Path
    database: Database
    environment: dict[str, str] = field(default_factory=dict)
    database_name: str = ""
    keys: tuple[str, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    requests: dict[str, tuple[str, ...]] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=lambda: {PRODUCT: 0, RELAY: 0, ALONE: 0})

    def load(self, side: str, *, meanwhile: Callable[[], None] = lambda: None, **job: Any) -> Result:
        """One load on one side, to its end."""
        given = {"port": self.ports[side], "requests": self.requests[side], **job}
        expected = Job(**given)
        limit_s = expected.seconds + expected.ramp_s + expected.patience_s + 60.0
        answer = ask(
            "load",
            given,
            environment=build_environment(),
            cpus=self.pinning.others,
            timeout_s=limit_s,
            meanwhile=meanwhile,
        )
        result = Result(**answer)
        self.answered[side] += result.answered
        return result

    def find_faults(self, side: str) -> list[str]:
        """What of all loads so far does not add up; nothing if everything is exact."""
        answered = self.answered[side]
        submissions = self.read_counts()[side]["submissions"]
        if side == PRODUCT:
            return compare_product(self.read_books(), submissions=submissions, answered=answered)
        return compare_relay(submissions=submissions, answered=answered)

    def read_books(self) -> Books:
        answer = ask("books", {}, environment=self.environment, cpus=self.pinning.others, timeout_s=SET_UP_TIMEOUT_S)
        return Books(**answer | {"violations": tuple(answer["violations"])})

    def read_counts(self) -> dict[str, dict[str, int]]:
        """What the upstream counted: `{side: {"submissions", "downloads"}}`."""
        counts: dict[str, dict[str, int]] = orjson.loads(self.control("/control/counts"))
        return counts

    def set_delay(self, seconds: float) -> None:
        self.control(f"/control/delay/{seconds}")

    def control(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[ALONE], timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise ChildFailed(f"the fake upstream does not answer: {error!r}") from error
        finally:
            connection.close()

    def read_usage(self, side: str) -> Usage:
        return read_usage(self.pids[side])

    def read_database_cpu(self) -> float | None:
        """CPU seconds of the database server; None where it is not ours or runs within the product."""
        return read_usage(self.database.pid).cpu_s if self.database.pid else None

    def read_log(self) -> tuple[int, str]:
        """How many lines the product logged (it is told to log warnings alone), and the last of them."""
        log = self.folder / "product.log"
        return (len(log.read_text(errors="replace").splitlines()) if log.exists() else 0), quote_end(log)

    @contextmanager
    def run_product(self) -> Iterator[None]:
        """The production server, as `serve` starts it."""
        with listen() as listener:
            port = int(listener.getsockname()[1])
            program = build_web(listener.fileno(), run_dir=self.folder)
            environment = {**self.environment, **program.environment, "PUBLIC_BASE_URL": f"http://127.0.0.1:{port}"}
            with self.run_pinned(PRODUCT, list(program.command), listener, environment):
                yield

    @contextmanager
    def run_pinned(
        self, side: str, command: list[str], listener: socket.socket, environment: dict[str, str]
    ) -> Iterator[None]:
        with run_server(
            side,
            command,
            folder=self.folder,
            environment=environment,
            cpus=self.pinning.others if side == ALONE else self.pinning.servers,
            descriptor=listener.fileno(),
        ) as pid:
            self.ports[side] = int(listener.getsockname()[1])
            self.pids[side] = pid
            self.requests[side] = self.build_requests(side)
            yield

    @contextmanager
    def run_relay(self) -> Iterator[None]:
        with listen() as listener:
            upstream = f"http://127.0.0.1:{self.ports[ALONE]}/{RELAY}"
            command = name_module("relay", "--fd", str(listener.fileno()), "--upstream", upstream)
            with self.run_pinned(RELAY, command, listener, build_environment()):
                yield

    @contextmanager
    def run_upstream(self) -> Iterator[None]:
        with listen() as listener:
            command = name_module("upstream", "--fd", str(listener.fileno()))
            with self.run_pinned(ALONE, command, listener, build_environment()):
                yield

    def open_shop(self) -> None:
        """Migrate and fill the database; from then on the product may run."""
        port = self.ports[ALONE]
        self.environment = build_product_environment(self.folder, self.database, upstream_port=port)
        given = {
            "base_url": f"http://127.0.0.1:{port}/{PRODUCT}",
            "accounts": self.plan.accounts,
            "keys": KEYS,
        }
        answer = ask("shop", given, environment=self.environment, cpus=self.pinning.others, timeout_s=SET_UP_TIMEOUT_S)
        self.database_name = answer["database"]
        self.keys = tuple(answer["keys"])

    def build_requests(self, side: str) -> tuple[str, ...]:
        """What the clients send: to the product with one key after the other, to the others all the same."""
        port = self.ports[side]
        path = f"/{ALONE}{GENERATE}" if side == ALONE else "/v1/images/generations"
        keys = self.keys if side == PRODUCT else ("none",)
        body = orjson.dumps({"model": MODEL, "prompt": PROMPT, "size": SIZE, "n": 1})
        shared = (("Content-Type", "application/json"), ("Accept", "application/json"))
        return tuple(
            build_request(
                "POST", path, port=port, body=body, headers=(*shared, ("Authorization", f"Bearer {key}"))
            ).decode()
            for key in keys
        )


def build_product_environment(folder: Path, database: Database, *, upstream_port: int) -> dict[str, str]:
    """Production settings with secrets of their own; no environment file of the caller is read."""
    (folder / "empty.env").touch()
    (folder / "static").mkdir()
    own = {
        "DJANGO_SETTINGS_MODULE": "crazyrouter.settings",
        "ENV_FILE": str(folder / "empty.env"),
        "DEBUG": "false",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "API_KEY_PEPPER": secrets.token_urlsafe(32),
        "CREDENTIAL_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "DATABASE_URL": database.url,
        "FILE_STORAGE_URL": f"file://{folder / 'files'}",
        "CELERY_BROKER_URL": f"filesystem://{folder / 'broker'}",
        "STATIC_ROOT": str(folder / "static"),
        "LOG_LEVEL": "WARNING",
        "EGRESS_ALLOW": f"127.0.0.1:{upstream_port}",
    }
    return {**build_environment(), **database.environment, **own}


@contextmanager
def open_site(kind: str, plan: Plan, *, folder: Path, pinning: Pinning) -> Iterator[Site]:
    """A site with its upstream running and its shop open; product and relay are started by who measures."""
    with ExitStack() as stack:
        database = stack.enter_context(open_database(kind, plan, folder=folder, cpus=pinning.others))
        site = Site(plan, pinning, folder, database)
        stack.enter_context(site.run_upstream())
        site.open_shop()
        yield site
