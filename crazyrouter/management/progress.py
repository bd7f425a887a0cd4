"""How far a long command is: one line that redraws itself, for people who watch."""

from __future__ import annotations

import sys
import time
from typing import TextIO

WIDTH = 30
INTERVAL_S = 0.1


class ProgressBar:
    """A bar on a terminal; nothing at all where nobody watches. Leaves the line when it ends."""

    def __init__(self, total: int, *, unit: str, stream: TextIO | None = None) -> None:
        self.total, self.unit, self.stream = total, unit, stream or sys.stderr
        self.watched = self.stream.isatty()
        self.started, self.drawn = time.monotonic(), 0.0

    def show(self, done: int) -> None:
        now = time.monotonic()
        if self.watched and now - self.drawn >= INTERVAL_S:
            self.drawn = now
            self.draw(done, now - self.started)

    def draw(self, done: int, seconds: float) -> None:
        share = min(1.0, done / self.total) if self.total else 1.0
        bar = "#" * round(share * WIDTH)
        rate = done / seconds if seconds else 0
        self.stream.write(f"\r[{bar:<{WIDTH}}] {share:4.0%}  {done:,} {self.unit}, {rate:,.0f}/s\x1b[K")
        self.stream.flush()

    def end(self) -> None:
        if self.watched:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
