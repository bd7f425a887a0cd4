"""What runs an example: bash, Python, Node, or a socket."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import tools
from tests.pages.answers import Answer, read_output

VARIABLE = "CRAZYROUTER_API_KEY"
LONGEST_S = 120
#: No example installs anything into this machine.
PIP = Path(__file__).with_name("pip_stand_in.py")


@dataclass(frozen=True)
class Workshop:
    """Where a page's examples are run: files they write are in `folder`, the programs themselves are not."""

    folder: Path
    programs: Path
    base_url: str
    secret: str

    def __post_init__(self) -> None:
        self.write_command("python", sys.executable)
        self.write_command("pip", f"{sys.executable} {PIP}")

    def write_command(self, name: str, command: str) -> None:
        """What a shell finds under this name."""
        path = self.programs / name
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
        path.chmod(0o755)

    def run_program(self, command: list[str], *, told: bool = False) -> Answer:
        environment = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOME": str(self.programs),
            "LANG": "C.UTF-8",
            # litellm fetches its prices from the net otherwise, and waits for it.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            VARIABLE: self.secret,
        }
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Answer("", f"it did not end within {LONGEST_S} s", exit_code=-1)
        return read_output(done.stdout, errors=done.stderr, exit_code=done.returncode, told=told)


def run_shell(workshop: Workshop, text: str, runs: str) -> Answer | None:
    if find(tools.find_curl) is None:
        return None
    return workshop.run_program(["bash", "-euo", "pipefail", "-c", text])


def run_python(workshop: Workshop, text: str, runs: str) -> Answer | None:
    python = find(tools.find_clients) if runs else sys.executable
    return run_file(workshop, python, text, "example.py")


def run_node(workshop: Workshop, text: str, runs: str) -> Answer | None:
    return run_file(workshop, find(tools.find_node), text, "example.mjs")


def run_file(workshop: Workshop, program: str | None, text: str, name: str) -> Answer | None:
    if program is None:
        return None
    path = workshop.programs / name
    path.write_text(text, "utf-8")
    return workshop.run_program([program, str(path)], told=True)


def send_raw(workshop: Workshop, text: str, runs: str) -> Answer:
    """The request as it is shown: only its lines end as HTTP's do, and the key is the customer's."""
    head, _, body = text.replace(f"${VARIABLE}", workshop.secret).partition("\n\n")
    where = urlsplit(workshop.base_url)
    fault = find_fault(head, len(body.encode()), where.netloc)
    if fault:
        return Answer("", fault, exit_code=-1)
    request = head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body.encode()
    with socket.create_connection((where.hostname or "", where.port or 80), timeout=LONGEST_S) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection, method=head.split()[0])
        with response:
            response.begin()
            content = response.read().decode("utf-8", "replace")
    shown = "\n".join([f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in response.getheaders())])
    return read_output(f"{shown}\n\n{content}")


def find_fault(head: str, length: int, host: str) -> str:
    """What would make the server wait for the rest, or would reach another one."""
    headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
    if headers.get("host") != host:
        return f"Host is {headers.get('host')}, not {host}"
    if int(headers.get("content-length", 0)) != length:
        return f"Content-Length is {headers.get('content-length')}, but the body has {length} bytes"
    return ""


def find(tool: Callable[[], str]) -> str | None:
    """None where it is missing and may be: the other examples of the page are run all the same."""
    try:
        return tool()
    except pytest.skip.Exception:
        return None


#: By language.
RUNNERS: dict[str, Callable[[Workshop, str, str], Answer | None]] = {
    "sh": run_shell,
    "python": run_python,
    "js": run_node,
    "http": send_raw,
}
