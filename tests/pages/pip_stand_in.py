"""What a page's `pip install NAME` runs in the tests: nothing is installed, and examples must run with NAME."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOCKED = Path(__file__).resolve().parents[2] / "requirements"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


def main(arguments: list[str]) -> str | None:
    """The complaint, or None."""
    verb, *rest = arguments or [""]
    if verb != "install":
        return f"only pip install is known here, not pip {verb}"
    have = {name for file in ("dev.txt", "clients.txt") for name in PINNED.findall((LOCKED / file).read_text("utf-8"))}
    missing = [name for name in rest if not name.startswith("-") and name.lower() not in have]
    return f"the examples are not run with {', '.join(missing)}" if missing else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
