"""A supervisor as a process of its own: `python -m tests.ops.supervised FOLDER JSON`, JSON a list of programs."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from crazyrouter.ops.supervisor import Program, StartFailed, Stop, Supervisor


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    programs = [
        Program(
            name=facts["name"],
            command=(sys.executable, "-m", "tests.ops.child", str(folder), facts["name"], *facts.get("options", [])),
            stage=facts.get("stage", 0),
            patience_s=facts.get("patience_s", 30.0),
            marker=folder / f"{facts['name']}.ready",
        )
        for facts in json.loads(sys.argv[2])
    ]
    try:
        with suppress(Stop), Supervisor(say) as supervisor:
            supervisor.start(*programs)
            supervisor.wait_until_ready(60)
            say("ready")
            supervisor.watch()
    except StartFailed as error:
        say(str(error))
        sys.exit(1)
    say("stopped")


if __name__ == "__main__":
    main()
