"""How a child process tells its supervisor that it does its work: it touches the file that it was given."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "CRAZYROUTER_MARKER"


def set_marker() -> None:
    """Nothing to do in a process that nobody supervises."""
    path = os.environ.get(VARIABLE)
    if path:
        Path(path).touch()
