"""Programs that some tests need beside Python: a test without its program is skipped, or fails where it must not be.

`CRAZYROUTER_TESTS_REQUIRE` lists, with commas, what must be there: `browser`, `node`, `curl`, `clients`. `make test`
makes the environment of the clients and requires it; the gate requires everything.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

VARIABLE = "CRAZYROUTER_TESTS_REQUIRE"
CLIENTS = Path(__file__).resolve().parent.parent / ".venv" / "clients" / "bin" / "python"
CHROMIUM = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]
#: As root, in a container, and without a word to anybody else.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str:
    """The path of the system's Chromium or Chrome."""
    return _find("browser", CHROMIUM)


def find_node() -> str:
    """The path of Node.js."""
    return _find("node", ["node", "nodejs"])


def find_curl() -> str:
    return _find("curl", ["curl"])


def find_clients() -> str:
    """The Python of the environment that has customers' libraries: litellm, LangChain, OpenAI's SDK."""
    return _find("clients", [str(CLIENTS)])


def is_required(tool: str) -> bool:
    return tool in os.environ.get(VARIABLE, "").split(",")


def _find(tool: str, names: list[str]) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    return found or _miss(tool, names)


def _miss(tool: str, names: list[str]) -> NoReturn:
    if is_required(tool):
        pytest.fail(f"{names[0]} is not installed, and {VARIABLE} requires it", pytrace=False)
    pytest.skip(f"{names[0]} is not installed")
