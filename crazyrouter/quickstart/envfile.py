"""The environment file: read, changed line by line, replaced whole. Standard library only, for it comes before Django.

EnvFileUnreadable   it is there and cannot be read as text
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

HEADER = "# Written by `manage.py quickstart`. Change what you like: lines that you changed are kept.\n"
ASSIGNMENT = re.compile(r"(?:export )?([A-Za-z_][A-Za-z_0-9]*)=(.*)")


class EnvFileUnreadable(Exception):
    """Its message is one line for people."""


class EnvFile:
    """Assignments in their order; comments and lines of unknown meaning stay where they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_new = not path.exists()
        self._lines = [HEADER.rstrip("\n")] if self.is_new else read_lines(path)
        self._written: list[str] = [] if self.is_new else list(self._lines)

    @property
    def values(self) -> dict[str, str]:
        """By name; a later line wins, as with every reader of such files."""
        found = (ASSIGNMENT.fullmatch(line) for line in self._lines)
        return {match[1]: unquote(match[2]) for match in found if match}

    def set(self, changes: Mapping[str, str]) -> None:
        """Assign in place where the name stands already, else at the end. Nothing is written yet."""
        rest = dict(changes)
        for number, line in enumerate(self._lines):
            match = ASSIGNMENT.fullmatch(line)
            if match and match[1] in changes:
                self._lines[number] = f"{match[1]}={changes[match[1]]}"
                rest.pop(match[1], None)
        self._lines += [f"{name}={value}" for name, value in rest.items()]

    def save(self) -> None:
        """Replace the file if anything changed. Mode 0600 in any case. Raises OSError."""
        if self._lines != self._written:
            write_privately(self.path, "\n".join(self._lines) + "\n")
            self._written = list(self._lines)
        self.path.chmod(0o600)


def read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EnvFileUnreadable(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EnvFileUnreadable(f"cannot read {path}: it is not UTF-8 text") from error


def unquote(value: str) -> str:
    """Without the one pair of quotes that django-environ would take off, too."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def write_privately(path: Path, text: str) -> None:
    """The whole text or the old file, never a part; readable by the owner alone from its first byte. Raises OSError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, for the sake of its mode
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()
        raise
