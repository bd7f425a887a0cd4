"""What one process needs to serve: made once on its event loop, closed when it stops."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from django.conf import settings

from crazyrouter.generation.engine import Engine
from crazyrouter.generation.lane import Lane
from crazyrouter.generation.snapshot import Reader, Snapshot
from crazyrouter.generation.watch import Watcher
from providers.transport import Transport

#: How long a stopping process lets running generations end.
STOP_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """The engine and what it stands on."""

    reader: Reader
    lane: Lane
    transport: Transport
    snapshot: Snapshot
    engine: Engine
    watcher: Watcher

    async def close(self, *, patience_s: float = STOP_PATIENCE_S) -> None:
        await self.engine.stop(patience_s=patience_s)
        await self.watcher.close()
        await self.lane.close()
        await self.transport.aclose()
        await self.reader.close()


_runtimes: WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = WeakKeyDictionary()


def get_runtime() -> Runtime:
    """The runtime of the running event loop; a server process has exactly one."""
    loop = asyncio.get_running_loop()
    runtime = _runtimes.get(loop)
    if runtime is None:
        runtime = _runtimes[loop] = start_runtime()
    return runtime


def start_runtime() -> Runtime:
    reader, lane = Reader(), Lane()
    snapshot = Snapshot(reader)
    transport = Transport(allow=settings.EGRESS_ALLOW)
    engine = Engine(lane=lane, reader=reader, snapshot=snapshot, transport=transport)
    return Runtime(reader, lane, transport, snapshot, engine, Watcher(reader))


async def close_runtime(*, patience_s: float = STOP_PATIENCE_S) -> None:
    runtime = _runtimes.pop(asyncio.get_running_loop(), None)
    if runtime is not None:
        await runtime.close(patience_s=patience_s)
