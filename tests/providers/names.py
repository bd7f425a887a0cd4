"""A resolver that says what a test tells it to, where the C library's would be asked."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest

#: Stands for the open net. What must not be reached is on 127.0.0.1.
PUBLIC = "127.0.0.2"


class Names:
    """Answers by name: a list of addresses, or a list of such lists, one for each time that it is asked.

    A name that is not there has no address. Numeric addresses are what they are, as with the real one.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Sequence[str] | Sequence[Sequence[str]]) -> None:
        self.answers: dict[str, Any] = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.resolve)

    def resolve(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        name = (host.decode() if isinstance(host, bytes) else str(host)).lower()
        if not name.strip("0123456789.") or ":" in name:
            return self._real(host, port, *args, **kwargs)
        self.asked.append(name)
        answer = self.answers.get(name, ())
        if answer and not isinstance(answer[0], str):
            answer = answer[min(self.asked.count(name), len(answer)) - 1]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [describe_address(address, port) for address in answer]


def describe_address(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)
