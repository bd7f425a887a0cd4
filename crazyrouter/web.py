"""One web process: uvicorn on a socket that its parent opened. `python -m crazyrouter.web --fd N`

The open socket outlives a process that dies, is shared by as many as there are, and tells a taken port at once.
"""

from __future__ import annotations

import argparse
import resource
import signal
import socket
import time
from collections.abc import Sequence
from types import FrameType

import uvicorn

from crazyrouter.ops.markers import set_marker

#: How long requests may take to end after SIGTERM; the application hears when that began, for the same 30 s.
GRACE_S = 30
KEEP_ALIVE_S = 75
BACKLOG = 2048


class WebServer(uvicorn.Server):
    """Says when it serves and since when it stops, and takes a signal for a normal end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        set_marker()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state["stopping_since"] = time.monotonic()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn would raise the signal again after its shutdown, and so end by it."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def raise_file_limit() -> None:
    """A generation in flight has two connections, its client's and its upstream's; the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def build_server() -> WebServer:
    """The one set of server settings, in production and in measurements."""
    return WebServer(
        uvicorn.Config(
            "crazyrouter.asgi:application",
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            backlog=BACKLOG,
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,  # TRUSTED_PROXY_COUNT says how far forwarded headers are believed
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="crazyrouter.web")
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a listening socket")
    options = parser.parse_args(arguments)
    raise_file_limit()
    build_server().run(sockets=[socket.socket(fileno=options.fd)])


if __name__ == "__main__":
    main()
