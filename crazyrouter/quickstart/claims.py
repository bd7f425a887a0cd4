"""What only one process may have: the data folder and a port. Standard library only.

Refused             somebody else has it, or the system does not give it; one line for people
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

BACKLOG = 2048


class Refused(Exception):
    """Its message is one line for people."""


def claim_folder(folder: Path) -> int:
    """Create the folder and lock it for the life of this process: the descriptor that holds the lock."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Refused(f"cannot use {folder} as the data folder: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise Refused(f"{folder} is in use by another quickstart (process {owner or 'unknown'})") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def claim_port(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Web processes inherit it, so that a restart loses no client."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Refused(f"cannot listen on {host}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Refused(f"port {port} on {host} is taken: choose another with --port") from error
        raise Refused(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def find_port(*preferred: int, host: str = "127.0.0.1") -> int:
    """The first of these that is free now, else any free one."""
    for port in preferred:
        if port and is_free(host, port):
            return port
    with claim_port(host, 0) as listener:
        return int(listener.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    try:
        claim_port(host, port).close()
    except Refused:
        return False
    return True
