"""A missing program skips a test, or fails it where it must be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tools


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "CLIENTS", tmp_path / "python")
    monkeypatch.delenv(tools.VARIABLE, raising=False)


def test_it_is_skipped_by_hand() -> None:
    for find in (tools.find_chromium, tools.find_node, tools.find_curl, tools.find_clients):
        with pytest.raises(pytest.skip.Exception, match="is not installed"):
            find()


def test_it_fails_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tools.VARIABLE, "clients,node,")
    with pytest.raises(pytest.fail.Exception, match="node is not installed, and CRAZYROUTER_TESTS_REQUIRE requires it"):
        tools.find_node()
    with pytest.raises(pytest.fail.Exception, match="python is not installed"):
        tools.find_clients()
    with pytest.raises(pytest.skip.Exception):
        tools.find_chromium()


def test_it_is_found(tmp_path: Path) -> None:
    program = tmp_path / "chromium-browser"
    program.touch(0o755)
    assert tools.find_chromium() == str(program)
