"""The operator's desk: a process with the server's settings, which does at the database what people do in the admin.

`python -m …` with a connected socket as standard input: lines of JSON in, `{"number", "do": name, "with": {…}}`, and a
line out for each, `{"number", "ok": …}` or `{"number", "error": text}`. It reads and writes rows; what customers see it
cannot know.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

import django
import orjson

MOST_LINE_BYTES = 8 << 20


def main() -> None:
    django.setup(set_prefix=False)
    with socket.socket(fileno=sys.stdin.fileno()) as link, link.makefile("rwb") as lines:
        while line := lines.readline(MOST_LINE_BYTES):
            lines.write(orjson.dumps(answer(line)) + b"\n")
            lines.flush()


def answer(line: bytes) -> dict[str, Any]:
    from crazyrouter.management.drill import deeds

    asked = orjson.loads(line)
    deed: Callable[..., Any] = getattr(deeds, asked["do"])
    try:
        return {"number": asked["number"], "ok": deed(**asked["with"])}
    except Exception as error:  # noqa: BLE001 - it is told to whoever asked
        return {"number": asked["number"], "error": f"{deed.__name__}: {type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
