"""The Range request header for one file (RFC 9110, section 14). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SINGLE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes from `start`."""

    start: int
    length: int

    def describe(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class Unsatisfiable(Exception):
    """A well-formed range that lies outside the file."""


def parse_range(header: str, *, size: int) -> Span | None:
    """The one range that `header` asks for; None for anything that is answered with the whole file.

    That is several ranges, other units and malformed text, which a server may or must ignore. Raises
    Unsatisfiable.
    """
    match = _SINGLE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        start = size - length
    else:
        start = int(match[1])
        last = int(match[2]) if match[2] else size - 1
        if match[2] and last < start:
            return None
        length = min(last, size - 1) - start + 1
    if length <= 0:
        raise Unsatisfiable
    return Span(start=start, length=length)
