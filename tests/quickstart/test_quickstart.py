"""The one command, as somebody uses it who has just cloned the repository."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crazyrouter.ops.probes import answers
from tests.ops.processes import PATIENCE_S, is_running, spawn_python, wait_until
from tests.ops.test_serve import list_children

START_S = 120.0


@dataclass
class Quickstart:
    """One run of the command on a folder that outlives it."""

    folder: Path
    process: subprocess.Popen[str]
    log: Path

    @property
    def ready_file(self) -> Path:
        return self.folder.parent / "ready.json"

    def wait_until_ready(self) -> dict[str, Any]:
        def look() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.ready_file.exists()

        wait_until(look, within_s=START_S)
        facts: dict[str, Any] = json.loads(self.ready_file.read_text())
        return facts

    def stop(self, number: signal.Signals) -> list[int]:
        """The children that it had."""
        children = list(list_children(self.process.pid))
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        return children


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a data folder"


@pytest.fixture
def start(folder: Path) -> Iterator[Any]:
    runs: list[Quickstart] = []

    def run(**environment: str) -> Quickstart:
        log = folder.parent / f"log-{len(runs)}"
        arguments = ("--data", str(folder), "--port", "0", "--ready-file", str(folder.parent / "ready.json"))
        with log.open("w") as output:
            process = spawn_python(
                "manage.py",
                "quickstart",
                *arguments,
                stdout=output,
                env={"PATH": os.environ["PATH"], "HOME": str(folder.parent), **environment},
            )
        runs.append(Quickstart(folder, process, log))
        return runs[-1]

    yield run
    for started in runs:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()


def order_picture(facts: dict[str, Any], model: str) -> bytes:
    """The bytes behind the URL that the answer gives."""
    order = {"model": model, "prompt": "a red fox in fresh snow", "size": "1024x1024"}
    request = urllib.request.Request(
        f"{facts['base_url']}/v1/images/generations",
        data=json.dumps(order).encode(),
        headers={"Authorization": f"Bearer {facts['api_key']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        [item] = json.load(answer)["data"]
    assert item["url"].startswith(f"{facts['base_url']}/files/")
    with urllib.request.urlopen(item["url"], timeout=60) as picture:
        assert picture.headers["Content-Type"] == "image/png"
        body: bytes = picture.read()
    return body


@pytest.mark.live
def test_from_nothing_to_a_picture_and_back(start: Any, folder: Path) -> None:
    first = start()
    facts = first.wait_until_ready()
    assert first.ready_file.stat().st_mode & 0o777 == 0o600
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert facts["admin_url"] == f"{facts['base_url']}/admin/"
    for model in ("qwen-image-plus", "qwen-image-2.0"):
        body = order_picture(facts, model)
        assert body[:8] == b"\x89PNG\r\n\x1a\n"
        assert body[16:24] == (1024).to_bytes(4) + (1024).to_bytes(4)
    assert answers(f"{facts['simulator_url']}/_sim/healthz", key=facts["simulator_key"])
    with urllib.request.urlopen(facts["admin_url"], timeout=60) as page:
        assert page.status == 200
    printed = first.log.read_text()
    assert facts["api_key"] in printed
    assert f"{facts['base_url']}/v1/images/generations" in printed
    children = first.stop(signal.SIGINT)
    assert (first.process.returncode, len(children)) == (0, 4)
    assert not any(is_running(pid) for pid in children)
    assert not first.ready_file.exists()
    assert "Traceback" not in first.log.read_text()

    # Nobody listens where this account would be: what counts is what is offered, and where its key is not.
    second = start(DASHSCOPE_API_KEY="sk-real-one", DASHSCOPE_BASE_URL="http://127.0.0.1:9/api/v1")
    again = second.wait_until_ready()
    kept = ("api_key", "admin_password", "simulator_key", "simulator_url")
    assert {name: again[name] for name in kept} == {name: facts[name] for name in kept}
    real = "real and paid for: qwen-image-2.0, qwen-image-2.0-pro, qwen-image-max, qwen-image-plus"
    assert real in second.log.read_text()
    written = [path for path in folder.parent.rglob("*") if path.is_file() and "static" not in path.parts]
    assert folder / "crazyrouter.sqlite3" in written
    assert [path for path in written if b"sk-real-one" in path.read_bytes()] == []
    orphans = second.stop(signal.SIGKILL)
    assert len(orphans) == 4
    wait_until(lambda: not any(is_running(pid) for pid in orphans), within_s=15)
