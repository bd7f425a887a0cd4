"""Everything that must stand before Django loads: options, the data folder, the ports, the environment file.

Settings are read from the environment the moment Django loads, so `manage.py` calls `prepare` first. Standard library
only: it runs, and refuses, before anything heavy is imported.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from crazyrouter.quickstart.claims import Refused, claim_folder, claim_port, find_port, is_free
from crazyrouter.quickstart.envfile import EnvFile, EnvFileUnreadable

BASE_DIR = Path(__file__).resolve().parent.parent.parent
SIMULATOR_HOST = "127.0.0.1"
#: Bound to all addresses, a server still has to be called something in the links that it hands out.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - a comparison, not a choice


@dataclass(frozen=True, slots=True)
class Place:
    """Where one start lives; what it implies for the settings is `derive`d, and only that is rewritten on a move."""

    folder: Path
    host: str
    port: int
    simulator_port: int

    @property
    def base_url(self) -> str:
        name = WILDCARDS.get(self.host) or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{name}:{self.port}"

    @property
    def simulator_url(self) -> str:
        return f"http://{SIMULATOR_HOST}:{self.simulator_port}"

    @property
    def allowed_hosts(self) -> str:
        if self.host in WILDCARDS:
            return "*"
        return ",".join(dict.fromkeys([urlsplit(self.base_url).netloc.rpartition(":")[0], "127.0.0.1", "localhost"]))

    def derive(self) -> dict[str, str]:
        """The settings that follow from the place. Paths are quoted, since they travel in URLs."""
        path = quote(str(self.folder))
        return {
            "PUBLIC_BASE_URL": self.base_url,
            "ALLOWED_HOSTS": self.allowed_hosts,
            "EGRESS_ALLOW": f"{SIMULATOR_HOST}:{self.simulator_port}",
            "DATABASE_URL": f"sqlite:///{path}/crazyrouter.sqlite3",
            "FILE_STORAGE_URL": f"file://{path}/files",
            "CELERY_BROKER_URL": f"filesystem://localhost{path}/broker",
            "STATIC_ROOT": f"{self.folder}/static",
        }

    def describe(self) -> dict[str, str]:
        """As it is remembered in the environment file."""
        return {
            "QUICKSTART_FOLDER": str(self.folder),
            "QUICKSTART_HOST": self.host,
            "QUICKSTART_PORT": str(self.port),
            "SIMULATOR_PORT": str(self.simulator_port),
        }


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the command gets: the open listener and the held lock are its own from here on."""

    place: Place
    listener: socket.socket
    lock: int
    env_file: EnvFile
    ready_file: Path | None


_preparation: Preparation | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The one list of options, for the parser before Django and for the command's own."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=read_port, default=8000, help="0 takes any free one (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=BASE_DIR / "var", metavar="DIR", help="default: var/")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="written as JSON when everything answers")
    parser.add_argument(
        "--simulator-port", type=read_port, default=0, metavar="PORT", help="default: as before, else a free one"
    )


def read_port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return port


def prepare(arguments: Sequence[str]) -> None:
    """Prepare a start and set ENV_FILE. What cannot be had ends the process with one line and status 1."""
    global _preparation  # noqa: PLW0603 - manage.py hands it to the command across Django's start
    parser = argparse.ArgumentParser(
        prog="manage.py quickstart", description="Start everything with demo data.", allow_abbrev=False
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        _preparation = build(options)
    except (Refused, EnvFileUnreadable) as error:
        sys.exit(f"quickstart: {error}")
    except OSError as error:
        sys.exit(f"quickstart: {error.filename or options.data}: {error.strerror}")


def get_preparation() -> Preparation | None:
    """None in a process that did not come through manage.py."""
    return _preparation


def build(options: argparse.Namespace) -> Preparation:
    """Claim first, write then: a start that is refused changes nothing."""
    folder = options.data.expanduser().absolute()
    ready_file = options.ready_file.expanduser().absolute() if options.ready_file else None
    if "\n" in str(folder) or str(folder) != str(folder).strip():
        raise Refused("the data folder's path begins or ends in blanks, or holds a line break")
    os.umask(0o077)
    lock = claim_folder(folder)
    clear_ready_file(ready_file)
    env_file = EnvFile(folder / ".env")
    listener = claim_port(options.host, options.port)
    port = int(listener.getsockname()[1])
    place = Place(folder, options.host, port, choose_simulator_port(options.simulator_port, port, env_file.values))
    update(env_file, place)
    egress = list_egress(place, env_file.values, os.environ)
    env_file.save()
    os.environ["ENV_FILE"] = str(env_file.path)
    if egress:
        os.environ["EGRESS_ALLOW"] = egress
    return Preparation(place, listener, lock, env_file, ready_file)


def clear_ready_file(path: Path | None) -> None:
    """A file of an earlier start would say that this one is ready; where none can be written, better know now."""
    if path is None:
        return
    trial = path.with_name(f".{path.name}.{os.getpid()}.trial")
    try:
        path.unlink(missing_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise Refused(f"cannot write the ready-file {path}: {error.strerror}") from error


def choose_simulator_port(wanted: int, web_port: int, values: Mapping[str, str]) -> int:
    """As asked; else where it was, next to the web's, or anywhere."""
    if wanted:
        if not is_free(SIMULATOR_HOST, wanted):
            raise Refused(f"port {wanted} on {SIMULATOR_HOST} is taken: choose another with --simulator-port")
        return wanted
    kept = values.get("SIMULATOR_PORT", "")
    neighbour = web_port + 1 if web_port < 65535 else 0
    return find_port(int(kept) if kept.isascii() and kept.isdigit() and int(kept) < 65536 else 0, neighbour)


def update(env_file: EnvFile, place: Place) -> None:
    """Bring the file to this place. A line that no longer says what quickstart wrote was changed by hand and stays."""
    values = env_file.values
    derived = place.derive()
    before = read_place(values)
    old = before.derive() if before else {}
    changes = {name: new for name, new in derived.items() if values.get(name) in (None, old.get(name))}
    if "EGRESS_ALLOW" not in changes:
        changes["EGRESS_ALLOW"] = swap_pair(values["EGRESS_ALLOW"], old.get("EGRESS_ALLOW"), derived["EGRESS_ALLOW"])
    missing = {name: value for name, value in make_choices().items() if not values.get(name)}
    env_file.set(missing | changes | place.describe())


def read_place(values: Mapping[str, str]) -> Place | None:
    """Where the last start lived; None if the lines are not there or not ours."""
    try:
        return Place(
            Path(values["QUICKSTART_FOLDER"]),
            values["QUICKSTART_HOST"],
            int(values["QUICKSTART_PORT"]),
            int(values["SIMULATOR_PORT"]),
        )
    except (KeyError, ValueError):
        return None


def swap_pair(listed: str, old: str | None, new: str) -> str:
    pairs = [pair for pair in listed.split(",") if pair and pair != old]
    return ",".join(dict.fromkeys([*pairs, new]))


def make_choices() -> dict[str, str]:
    """What is chosen once and then kept, whatever moves."""
    return {
        "DEBUG": "false",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "API_KEY_PEPPER": secrets.token_urlsafe(32),
        "CREDENTIAL_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "SIMULATOR_KEY": secrets.token_urlsafe(24),
        "METRICS_TOKEN": secrets.token_urlsafe(24),
        "ADMIN_PASSWORD": secrets.token_urlsafe(15),
    }


def list_egress(place: Place, values: Mapping[str, str], environment: Mapping[str, str]) -> str | None:
    """What EGRESS_ALLOW must say in this process where the file's line is not enough; None where it is.

    A list in the environment wins over the file, so the simulator joins it; so does a DashScope that is named by its
    URL. Whoever starts the process says both, never somebody in the admin. Raises Refused.
    """
    needed = [f"{SIMULATOR_HOST}:{place.simulator_port}"]
    try:
        own = urlsplit(environment.get("DASHSCOPE_BASE_URL", ""))
        port = own.port or {"https": 443, "http": 80}.get(own.scheme, 0)
    except ValueError as error:
        raise Refused(f"DASHSCOPE_BASE_URL is not a URL: {error}") from error
    if own.hostname and (own.scheme, port) != ("https", 443):
        needed.append(f"[{own.hostname}]:{port}" if ":" in own.hostname else f"{own.hostname}:{port}")
    elif "EGRESS_ALLOW" not in environment:
        return None
    listed = environment.get("EGRESS_ALLOW", values.get("EGRESS_ALLOW", "")).split(",")
    return ",".join(dict.fromkeys([*filter(None, listed), *needed]))
