"""For the programs that run in the clients' environment: whom they talk to."""

from __future__ import annotations

import sys
from typing import Any


def watch_hosts() -> set[str]:
    """The hosts that this process looks up or connects to from now on."""
    hosts: set[str] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo":
            hosts.add(str(arguments[0]))
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            hosts.add(str(arguments[1][0]))

    sys.addaudithook(note)
    return hosts
