"""What is printed can be pasted, what is written can be read by programs and by nobody else."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

from crazyrouter.quickstart.announcement import Facts, render_block, render_curl, write_ready_file

FACTS = Facts("http://127.0.0.1:8000", "sk-cr-1-x", "admin", "pass", "http://127.0.0.1:8001", "control")


def test_the_ready_file_has_the_promised_fields(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    write_ready_file(path, FACTS)
    assert json.loads(path.read_text()) == {
        "base_url": "http://127.0.0.1:8000",
        "api_key": "sk-cr-1-x",
        "admin_url": "http://127.0.0.1:8000/admin/",
        "admin_username": "admin",
        "admin_password": "pass",
        "simulator_url": "http://127.0.0.1:8001",
        "simulator_key": "control",
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_curl_line_is_one_line_of_whole_words() -> None:
    words = shlex.split(render_curl(FACTS))
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:8000/v1/images/generations"]
    assert words[words.index("-H") + 1] == "Authorization: Bearer sk-cr-1-x"
    assert json.loads(words[-1])["model"] == "qwen-image-2.0"


def test_the_block_says_whether_pictures_are_real(tmp_path: Path) -> None:
    simulated = render_block(FACTS, folder=tmp_path, real_models=[])
    assert "drawn by the simulated upstream" in simulated
    assert "admin / pass" in simulated
    assert render_curl(FACTS) in simulated
    real = render_block(replace(FACTS, admin_password=None), folder=tmp_path, real_models=["qwen-image-max"])
    assert "real and paid for: qwen-image-max" in real
    assert "admin / (the password you set)" in real
