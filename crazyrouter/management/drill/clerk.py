"""The desk from the drill's side: one question at a time over a socket, answered by a process with other settings.

DeedFailed      the desk could not do it, or is gone; says why
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from crazyrouter.management.bench.processes import quote_end, stop
from crazyrouter.management.drill.desk import MOST_LINE_BYTES
from crazyrouter.ops.parentage import make_bond

MODULE = "crazyrouter.management.drill.desk"
PATIENCE_S = 120.0


class DeedFailed(Exception):
    """Its message is for people."""


class Clerk:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, log: Path) -> None:
        self._reader, self._writer, self._log = reader, writer, log
        self._turn = asyncio.Lock()
        self._asked = 0

    async def ask(self, deed: str, **given: Any) -> Any:
        """Raises DeedFailed. Whoever is cancelled meanwhile has asked all the same."""
        async with self._turn:
            self._asked += 1
            self._writer.write(orjson.dumps({"number": self._asked, "do": deed, "with": given}) + b"\n")
            try:
                async with asyncio.timeout(PATIENCE_S):
                    answer = await self._read(self._asked)
            except (TimeoutError, OSError, ValueError) as error:
                raise DeedFailed(f"{deed}: the desk does not answer: {error!r}{quote_end(self._log)}") from error
        if "error" in answer:
            raise DeedFailed(answer["error"])
        return answer["ok"]

    async def _read(self, number: int) -> dict[str, Any]:
        """The answer to this question, behind those that nobody waited for. Raises ValueError."""
        while True:
            line = await self._reader.readline()
            if not line:
                raise ValueError("it is gone")
            answer: dict[str, Any] = orjson.loads(line)
            if answer["number"] == number:
                return answer


@asynccontextmanager
async def open_desk(environment: Mapping[str, str], *, log: Path) -> AsyncIterator[Clerk]:
    """A process of its own, which ends with this one."""
    ours, theirs = socket.socketpair()
    with theirs, log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - the command is ours; it does not wait for anything
            [sys.executable, "-m", MODULE],
            env=environment,
            stdin=theirs.fileno(),
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=make_bond(),  # noqa: PLW1509 - there are no other threads
        )
    try:
        reader, writer = await asyncio.open_connection(sock=ours, limit=MOST_LINE_BYTES)
        try:
            yield Clerk(reader, writer, log=log)
        finally:
            writer.close()
    finally:
        stop(process)
