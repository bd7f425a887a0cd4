"""What stands before Django loads: the file follows a move and keeps the rest; what cannot be had is one line."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
import pytest
from cryptography.fernet import Fernet

from crazyrouter.quickstart.bootstrap import Place, choose_simulator_port, list_egress, swap_pair, update
from crazyrouter.quickstart.claims import Refused, claim_folder, claim_port
from crazyrouter.quickstart.envfile import EnvFile
from tests.ops.processes import run_python

PREPARE = "import sys; from crazyrouter.quickstart.bootstrap import prepare; prepare(sys.argv[1:])"


def make_place(tmp_path: Path, **changes: Any) -> Place:
    return Place(**{"folder": tmp_path, "host": "127.0.0.1", "port": 8000, "simulator_port": 8001, **changes})


def refuse(*arguments: str, **options: Any) -> str:
    """What a start that must be refused says."""
    ended = run_python("manage.py", "quickstart", *arguments, **options)
    assert ended.stdout == ""
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    return line


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_first_start_writes_what_settings_need(tmp_path: Path) -> None:
    folder = tmp_path / "a b+c%20"
    ended = run_python("-c", PREPARE, "--data", str(folder), "--port", "0")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    values = EnvFile(folder / ".env").values
    assert values["DEBUG"] == "false"
    assert len(values["SECRET_KEY"]) >= 50
    Fernet(values["CREDENTIAL_KEYS"])
    port = urlsplit(values["PUBLIC_BASE_URL"]).port
    assert values["PUBLIC_BASE_URL"] == f"http://127.0.0.1:{port}"
    assert values["ALLOWED_HOSTS"] == "127.0.0.1,localhost"
    assert values["EGRESS_ALLOW"] == f"127.0.0.1:{values['SIMULATOR_PORT']}"
    assert environ.Env.db_url_config(values["DATABASE_URL"])["NAME"] == str(folder / "crazyrouter.sqlite3")
    assert unquote(urlsplit(values["FILE_STORAGE_URL"]).path) == str(folder / "files")
    assert unquote(urlsplit(values["CELERY_BROKER_URL"]).path) == str(folder / "broker")


def test_a_move_rewrites_what_follows_from_the_place_and_nothing_else(tmp_path: Path) -> None:
    file = EnvFile(tmp_path / ".env")
    update(file, make_place(tmp_path))
    before = file.values
    update(file, make_place(tmp_path / "moved", port=9000, simulator_port=9100))
    after = file.values
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {
        "PUBLIC_BASE_URL",
        "EGRESS_ALLOW",
        "DATABASE_URL",
        "FILE_STORAGE_URL",
        "CELERY_BROKER_URL",
        "STATIC_ROOT",
        "QUICKSTART_FOLDER",
        "QUICKSTART_PORT",
        "SIMULATOR_PORT",
    }
    assert after["PUBLIC_BASE_URL"] == "http://127.0.0.1:9000"
    assert after["EGRESS_ALLOW"] == "127.0.0.1:9100"
    assert after["DATABASE_URL"] == f"sqlite:///{tmp_path}/moved/crazyrouter.sqlite3"


def test_lines_changed_by_hand_are_kept(tmp_path: Path) -> None:
    file = EnvFile(tmp_path / ".env")
    update(file, make_place(tmp_path))
    by_hand = {"PUBLIC_BASE_URL": "https://tunnel.example", "DATABASE_URL": "postgres:///mine", "SECRET_KEY": "my-own"}
    file.set({**by_hand, "EGRESS_ALLOW": "10.0.0.9:81,127.0.0.1:8001"})
    update(file, make_place(tmp_path, port=9000, simulator_port=9100))
    assert {name: file.values[name] for name in by_hand} == by_hand
    assert file.values["EGRESS_ALLOW"] == "10.0.0.9:81,127.0.0.1:9100"


@pytest.mark.parametrize(
    ("host", "base_url", "allowed"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000", "127.0.0.1,localhost"),
        ("localhost", "http://localhost:8000", "localhost,127.0.0.1"),
        ("192.168.1.7", "http://192.168.1.7:8000", "192.168.1.7,127.0.0.1,localhost"),
        ("::1", "http://[::1]:8000", "[::1],127.0.0.1,localhost"),
        ("0.0.0.0", "http://127.0.0.1:8000", "*"),
        ("::", "http://[::1]:8000", "*"),
    ],
)
def test_links_name_a_host_that_can_be_reached(tmp_path: Path, host: str, base_url: str, allowed: str) -> None:
    place = make_place(tmp_path, host=host)
    assert (place.base_url, place.allowed_hosts) == (base_url, allowed)


def test_the_simulator_stays_where_it_was(taken_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    assert choose_simulator_port(0, 8000, {"SIMULATOR_PORT": str(free)}) == free
    assert choose_simulator_port(0, taken_port - 1, {"SIMULATOR_PORT": str(taken_port)}) != taken_port
    with pytest.raises(Refused, match=f"port {taken_port} on 127.0.0.1 is taken: choose another with --simulator-port"):
        choose_simulator_port(taken_port, 8000, {})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"DASHSCOPE_BASE_URL": "https://dashscope-intl.aliyuncs.com/api/v1"}, None),
        ({"EGRESS_ALLOW": "10.0.0.9:81"}, "10.0.0.9:81,127.0.0.1:8001"),
        ({"DASHSCOPE_BASE_URL": "http://127.0.0.1:9/api/v1"}, "10.0.0.1:80,127.0.0.1:8001,127.0.0.1:9"),
        ({"DASHSCOPE_BASE_URL": "http://[::1]/api/v1"}, "10.0.0.1:80,127.0.0.1:8001,[::1]:80"),
    ],
)
def test_egress_opens_for_what_the_environment_names(
    tmp_path: Path, environment: dict[str, str], expected: str | None
) -> None:
    values = {"EGRESS_ALLOW": "10.0.0.1:80,127.0.0.1:8001"}
    assert list_egress(make_place(tmp_path), values, environment) == expected


def test_a_base_url_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="DASHSCOPE_BASE_URL is not a URL"):
        list_egress(make_place(tmp_path), {}, {"DASHSCOPE_BASE_URL": "http://host:port"})


def test_pairs_are_swapped_in_place_of_the_old() -> None:
    assert swap_pair("a:1,b:2", "a:1", "c:3") == "b:2,c:3"
    assert swap_pair("", None, "c:3") == "c:3"
    assert swap_pair("c:3", None, "c:3") == "c:3"


def test_port_0_takes_a_free_one() -> None:
    with claim_port("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0


def test_a_taken_port_is_one_line(tmp_path: Path, taken_port: int) -> None:
    line = refuse("--data", str(tmp_path), "--port", str(taken_port))
    assert line == f"quickstart: port {taken_port} on 127.0.0.1 is taken: choose another with --port"
    assert not (tmp_path / ".env").exists()


def test_a_taken_simulator_port_is_one_line(tmp_path: Path, taken_port: int) -> None:
    line = refuse("--data", str(tmp_path), "--port", "0", "--simulator-port", str(taken_port))
    assert line == f"quickstart: port {taken_port} on 127.0.0.1 is taken: choose another with --simulator-port"


def test_an_unknown_address_is_one_line(tmp_path: Path) -> None:
    line = refuse("--data", str(tmp_path), "--host", "203.0.113.9", "--port", "0")
    assert line == "quickstart: cannot listen on 203.0.113.9 port 0: Cannot assign requested address"


def test_a_folder_under_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = refuse("--data", str(tmp_path / "file" / "data"))
    assert line == f"quickstart: cannot use {tmp_path}/file/data as the data folder: Not a directory"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that not even root can write to")
def test_an_unwritable_folder_is_one_line() -> None:
    line = refuse("--data", "/proc/crazyrouter")
    assert line == "quickstart: cannot use /proc/crazyrouter as the data folder: No such file or directory"


def test_a_folder_in_use_is_one_line(tmp_path: Path) -> None:
    lock = claim_folder(tmp_path)
    try:
        line = refuse("--data", str(tmp_path), "--port", "0")
    finally:
        os.close(lock)
    assert line == f"quickstart: {tmp_path} is in use by another quickstart (process {os.getpid()})"
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"]


def test_an_unreadable_environment_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SECRET_KEY=\xff\n")
    line = refuse("--data", str(tmp_path), "--port", "0")
    assert line == f"quickstart: cannot read {tmp_path}/.env: it is not UTF-8 text"


def test_a_ready_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    line = refuse("--data", str(tmp_path / "data"), "--port", "0", "--ready-file", str(tmp_path / "none" / "ready"))
    assert line == f"quickstart: cannot write the ready-file {tmp_path}/none/ready: No such file or directory"


def test_a_stale_ready_file_is_gone_before_anything_runs(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    ready.write_text("{}")
    ended = run_python("-c", PREPARE, "--data", str(tmp_path / "data"), "--port", "0", "--ready-file", str(ready))
    assert ended.returncode == 0
    assert not ready.exists()


def test_help_needs_no_settings(tmp_path: Path) -> None:
    ended = run_python("manage.py", "quickstart", "--help", env={"PATH": os.environ["PATH"]})
    assert ended.returncode == 0
    assert ended.stdout.startswith("usage: manage.py quickstart")


@pytest.mark.parametrize("command", ["simulate", "drill", "bench"])
def test_what_brings_its_own_settings_runs_on_a_bare_machine(tmp_path: Path, command: str) -> None:
    (tmp_path / ".env").touch()
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": str(tmp_path / ".env")}
    ended = run_python("manage.py", command, "--help", env=environment)
    assert (ended.stderr, ended.returncode) == ("", 0)
    assert ended.stdout.startswith(f"usage: manage.py {command}")


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--port", "http"], ["--prot", "1"], ["now"]])
def test_a_wrong_option_is_refused_before_anything_is_written(tmp_path: Path, arguments: list[str]) -> None:
    ended = run_python("manage.py", "quickstart", "--data", str(tmp_path / "data"), *arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["migrate", "check", "makemigrations"])
def test_settings_that_are_missing_are_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / ".env").write_text("DEBUG=flase\n")
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": str(tmp_path / ".env")}
    ended = run_python("manage.py", command, env=environment)
    assert (ended.stderr, ended.returncode) == (
        "manage.py: DEBUG='flase' is not a boolean: use true or false\n",
        1,
    )
