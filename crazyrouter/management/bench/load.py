"""N clients on kept connections, each sending its next request when its last was answered. `python -m …`

A job comes as JSON on standard input, a result goes out as JSON. Bounded by time (`seconds`) or by count (`each`), and
after that by patience: what is not answered then is an error.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, cast

import orjson
import uvloop

from crazyrouter.management.bench.wire import take_message

#: Whatever was asked for: more answers than these are not waited for.
MOST_ANSWERS = 3_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """What to send where. Client i sends `requests[i % len(requests)]`, and starts `i/clients` into the ramp."""

    port: int
    requests: tuple[str, ...]
    clients: int
    seconds: float = 0.0
    each: int = 0
    ramp_s: float = 0.0
    patience_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """`in_time` of the `answered` came within `seconds`. `early` and `late` are medians of the two halves, in order."""

    answered: int
    in_time: int
    errors: dict[str, int]
    p50_ms: float
    p99_ms: float
    early_ms: float
    late_ms: float


@dataclass(slots=True)
class Load:
    """One job under way."""

    job: Job
    started_at: float
    ended: asyncio.Event
    waiting: int
    latencies: list[float] = field(default_factory=list)
    in_time: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def allows(self, sent: int, now: float) -> bool:
        job = self.job
        if job.each:
            return sent < job.each
        return now < self.started_at + job.seconds and len(self.latencies) < MOST_ANSWERS

    def leave(self) -> None:
        self.waiting -= 1
        if not self.waiting:
            self.ended.set()


class Client(asyncio.Protocol):
    """Writes, waits for the whole answer, writes again; leaves after an error."""

    transport: asyncio.Transport

    def __init__(self, load: Load, request: bytes) -> None:
        self.load = load
        self.request = request
        self.buffer = bytearray()
        self.sent = 0
        self.sent_at = 0.0
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.send(perf_counter())

    def send(self, now: float) -> None:
        if not self.load.allows(self.sent, now):
            self.close()
            return
        self.sent += 1
        self.sent_at = now
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if message := take_message(self.buffer):
            self.note(message[0][9:12], *message)

    def note(self, status: bytes, head: bytes, body: bytes) -> None:
        load, now = self.load, perf_counter()
        if status != b"200":
            load.errors[f"{status.decode()} {body[:120].decode('utf-8', 'replace')}"] += 1
            self.close()
            return
        load.latencies.append(now - self.sent_at)
        load.in_time += now <= load.started_at + load.job.seconds
        self.send(now)

    def connection_lost(self, error: Exception | None) -> None:
        if self.open:
            self.load.errors[f"connection lost: {error!r}"] += 1
            self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self.transport.close()
            self.load.leave()


async def run(job: Job) -> Result:
    # perf_counter: the clock of uvloop ticks in milliseconds.
    load = Load(job, perf_counter(), asyncio.Event(), job.clients)
    requests = [request.encode() for request in job.requests]
    starts = [
        asyncio.create_task(start(load, number, requests[number % len(requests)])) for number in range(job.clients)
    ]
    expected = job.seconds + job.ramp_s
    try:
        await asyncio.wait_for(load.ended.wait(), expected + job.patience_s)
    except TimeoutError:
        load.errors["no answer in time"] += load.waiting
    for task in starts:
        task.cancel()
    return sum_up(load)


async def start(load: Load, number: int, request: bytes) -> None:
    job = load.job
    if job.ramp_s:
        await asyncio.sleep(load.started_at + job.ramp_s * number / job.clients - perf_counter())
    try:
        await asyncio.get_running_loop().create_connection(lambda: Client(load, request), "127.0.0.1", job.port)
    except OSError as error:
        load.errors[f"no connection: {error}"] += 1
        load.leave()


def sum_up(load: Load) -> Result:
    taken = load.latencies
    half = len(taken) // 2
    return Result(
        answered=len(taken),
        in_time=load.in_time,
        errors=dict(load.errors),
        p50_ms=pick(taken, 0.50),
        p99_ms=pick(taken, 0.99),
        early_ms=pick(taken[:half], 0.50),
        late_ms=pick(taken[half:], 0.50),
    )


def pick(seconds: list[float], share: float) -> float:
    """The latency that this share of answers did not exceed, in ms (nearest rank); 0 without answers."""
    if not seconds:
        return 0.0
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))] * 1000


def read_job(given: dict[str, Any]) -> Job:
    return Job(**given | {"requests": tuple(given["requests"])})


def main() -> None:
    job = read_job(orjson.loads(sys.stdin.buffer.read()))
    # A pause of this process would be measured as the other's latency.
    gc.disable()
    sys.stdout.buffer.write(orjson.dumps(asdict(uvloop.run(run(job)))))


if __name__ == "__main__":
    main()
