"""A child for the supervisor's tests: notes its life in a folder, and misbehaves as asked."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from crazyrouter.ops.markers import set_marker


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--deaf", action="store_true", help="SIGTERM does nothing")
    parser.add_argument("--silent", action="store_true", help="never ready")
    parser.add_argument("--dies", type=int, help="ends at once with this status")
    parser.add_argument("--parent", action="store_true", help="has a child of its own")
    options = parser.parse_args()

    def end(number: int, frame: FrameType | None) -> None:
        note(options.folder / "ends", options.name)
        sys.exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if options.deaf else end)
    if options.parent:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note(options.folder / f"{options.name}.children", str(child.pid))
    note(options.folder / f"{options.name}.pids", str(os.getpid()))
    if not options.silent:
        set_marker()
    if options.dies is not None:
        sys.exit(options.dies)
    time.sleep(600)


def note(path: Path, line: str) -> None:
    """One write of one line: appended whole."""
    with path.open("a") as file:
        file.write(f"{line}\n")


if __name__ == "__main__":
    main()
