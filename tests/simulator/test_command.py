"""`manage.py simulate`, as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from django.core.management import CommandError, call_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    scenario, ready = tmp_path / "scenario.json", tmp_path / "ready.json"
    scenario.write_text('{"latency_s": 0, "accounts": {"acme": ["sk-file"]}}')
    command = [sys.executable, "manage.py", "simulate", "--port", "0"]
    command += ["--scenario", str(scenario), "--ready-file", str(ready)]
    env = {**os.environ, "SIMULATOR_KEY": "from-the-environment"}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        try:
            yield child, ready
        finally:
            child.kill()


@pytest.mark.live
def test_from_start_to_end(started: tuple[subprocess.Popen[str], Path], bare: httpx.Client) -> None:
    child, ready = started
    deadline = time.monotonic() + 15
    while not ready.exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    facts = orjson.loads(ready.read_bytes())
    assert set(facts) == {"simulator_url", "pid"}
    assert facts["pid"] == child.pid
    url = facts["simulator_url"]
    body = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512*512"}
    answer = bare.post(f"{url}/v1/images/generations", json=body, headers={"Authorization": "Bearer sk-sim-quickstart"})
    link = answer.json()["data"][0]["url"]
    assert link.startswith(f"{url}/oss/")
    assert bare.get(link).headers["content-type"] == "image/png"
    assert bare.get(f"{url}/_sim/bill").status_code == 401
    bill = bare.get(f"{url}/_sim/bill", headers={"Authorization": "Bearer from-the-environment"}).json()
    assert bill["totals"]["images"] == 1
    task = bare.get(f"{url}/api/v1/tasks/any", headers={"Authorization": "Bearer sk-file"}).json()
    assert task["output"] == {"task_id": "any", "task_status": "UNKNOWN"}
    child.send_signal(signal.SIGTERM)
    output, errors = child.communicate(timeout=10)
    assert child.returncode == 0
    served = "DashScope: /api/v1, resellers: /v1 and /relay/v1, fal: /fal, SiliconFlow: /siliconflow/v1"
    assert output == f"Simulated upstream on {url} ({served})\n"
    assert errors == ""


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .*Address already in use"):
            call_command("simulate", port=port)


def test_a_scenario_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("simulate", port=0, scenario=tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"latncy": 1}')
    with pytest.raises(CommandError, match="a scenario has no entry latncy; there are accounts, late_validation, "):
        call_command("simulate", port=0, scenario=tmp_path / "bad.json")


def test_the_simulator_knows_no_django() -> None:
    code = "import sys; import providers.simulator.server; print('django' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
