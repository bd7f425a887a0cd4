"""What is wrong with a document, and where.

Unfit       one value that its place does not take
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


class Unfit(Exception):
    """The message says what is wrong; `below` is the place within the value and `line` its own, where it has one."""

    def __init__(self, message: str, *, line: int | None = None, below: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.below = below


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Also a note: then nothing is wrong, and somebody should know."""

    line: int
    path: str
    message: str

    def render(self, name: str) -> str:
        """`FILE:LINE: path.to.entry: what is wrong`, as editors and continuous integration read it."""
        return (
            f"{name}:{self.line}: {self.path}: {self.message}" if self.path else f"{name}:{self.line}: {self.message}"
        )


class Faults:
    """All faults of one document, each once."""

    def __init__(self, found: Iterable[Fault] = ()) -> None:
        self._found = set(found)

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, line: int, path: str, message: str) -> None:
        self._found.add(Fault(line, path, message))

    def list(self) -> list[Fault]:
        """In the order of the file."""
        return sorted(self._found)


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about a word that nobody knows."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
