"""A program of this folder, run in the clients' environment."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from io import BytesIO
from typing import Any

from PIL import Image

from tests.server import ROOT
from tests.tools import find_clients

#: What a careful customer sets beside: litellm takes its list of prices from its own package, not from the net.
ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}


def run_asks(program: str, asks: list[Any]) -> list[dict[str, Any]]:
    """One answer an ask; the library talked to this machine alone."""
    command = [find_clients(), "-m", f"tests.clients.{program}", json.dumps(asks)]
    environment = {"PATH": os.environ["PATH"], **ENVIRONMENT}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["hosts"] == ["127.0.0.1"]
    answers: list[dict[str, Any]] = said["answers"]
    return answers


def fetch_picture(url: str) -> tuple[str | None, tuple[int, int]]:
    with urllib.request.urlopen(url, timeout=20) as response:
        assert response.headers["Content-Type"] == "image/png"
        return open_picture(response.read())


def open_picture(data: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(BytesIO(data)) as picture:
        picture.load()
        return picture.format, picture.size
