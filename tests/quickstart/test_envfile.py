"""The environment file: made once, changed by the line, never readable by others, never half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from crazyrouter.quickstart.envfile import HEADER, EnvFile, EnvFileUnreadable, write_privately


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_file_has_a_header_and_mode_0600(tmp_path: Path) -> None:
    file = EnvFile(tmp_path / ".env")
    assert file.is_new
    file.set({"A": "1", "B": "x=y"})
    file.save()
    assert (tmp_path / ".env").read_text() == f"{HEADER}A=1\nB=x=y\n"
    assert mode_of(tmp_path / ".env") == 0o600


def test_what_is_not_changed_stays_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nexport A='1'\n\nwhat is this\nB=2\n")
    file = EnvFile(path)
    assert not file.is_new
    assert file.values == {"A": "1", "B": "2"}
    file.set({"B": "3", "C": "4"})
    file.save()
    assert path.read_text() == "# mine\nexport A='1'\n\nwhat is this\nB=3\nC=4\n"


def test_saving_nothing_new_writes_nothing_but_closes_the_file_to_others(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\n")
    path.chmod(0o644)
    before = path.stat().st_ino
    EnvFile(path).save()
    assert path.stat().st_ino == before
    assert mode_of(path) == 0o600


def test_every_line_of_a_name_is_changed_and_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\nA=2\n")
    file = EnvFile(path)
    assert file.values == {"A": "2"}
    file.set({"A": "3"})
    assert file.values == {"A": "3"}
    file.save()
    assert path.read_text() == "A=3\nA=3\n"


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_privately(path, "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(("content", "words"), [(b"A=\xff\n", "it is not UTF-8 text"), (None, "Is a directory")])
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / ".env"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(EnvFileUnreadable) as caught:
        EnvFile(path)
    assert str(caught.value) == f"cannot read {path}: {words}"
