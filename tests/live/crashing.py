"""The product's own processes, which stop where a prompt says: there a test kills them, or puts them to sleep.

`uvicorn tests.live.crashing:application` and `celery -A tests.live.crashing worker` run the product as it is, with a
few of its functions wrapped. `[[hold: polled stored]]` in a prompt stops its generation behind the first poll in a
process with HOLDS=0, before the finish in one with HOLDS=1, and never in one with HOLDS=2. What is held has written a
file `<generation id>.<point>` into HOLD_FOLDER, and goes on when the folder has a file named `release`.

    opened      committed, nothing submitted yet
    granted     attempts for slots that were never sent are committed by whoever took over, nothing submitted yet
    submitted   a task was accepted upstream, its id is not stored yet
    accepted    the task's id is stored, nothing polled yet
    polled      a poll said that the task still runs
    succeeded   the upstream delivered, nothing is downloaded yet
    stored      the pictures are on disk, the generation is not finished yet
    finished    committed, nothing is answered yet
    booked      two calls of several are booked, the others have ended and are not
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crazyrouter.settings")

from crazyrouter import asgi
from crazyrouter.asgi import application
from crazyrouter.celery import app
from crazyrouter.generation import runtime, upstream, worker
from crazyrouter.generation.driver import Driver
from crazyrouter.generation.engine import Engine
from crazyrouter.generation.order import Order
from providers.adapters.dashscope_async import DashScopeAsync
from providers.contract import Pending

__all__ = ["app", "application"]

FOLDER = Path(os.environ["HOLD_FOLDER"])
NUMBER = int(os.environ["HOLDS"])
DIRECTIVE = re.compile(r"\[\[hold: ([a-z -]*)\]\]")

#: The order that the running task serves.
serving: ContextVar[Order] = ContextVar("serving")
booking: Counter[str] = Counter()


async def hold(order: Order, point: str) -> None:
    """Stand still for ever, or until released, if the order's prompt says that it is here."""
    found = DIRECTIVE.search(order.prompt)
    points = found.group(1).split() if found else []
    if point not in points[NUMBER : NUMBER + 1]:
        return
    (FOLDER / f"{order.id}.{point}").touch()
    while not (FOLDER / "release").exists():  # noqa: ASYNC110 - whoever releases it is another process
        await asyncio.sleep(0.02)


def install(owner: Any, name: str, *, before: str = "", after: str = "", only: type | None = None) -> None:
    """Hold before, or after, each call of the function; `only` after answers of this type."""
    original = getattr(owner, name)

    @wraps(original)
    async def run(*args: Any, **kwargs: Any) -> Any:
        if isinstance(args[0], Driver):
            serving.set(args[0].order)
        if before:
            await hold(serving.get(), before)
        answer = await original(*args, **kwargs)
        if after and (only is None or isinstance(answer, only)):
            await hold(serving.get(), after)
        return answer

    setattr(owner, name, run)


def install_opened() -> None:
    original = Engine._open

    async def run(engine: Engine, driver: Driver) -> Any:
        answer = await original(engine, driver)
        await hold(driver.order, "opened")
        return answer

    setattr(Engine, "_open", run)  # noqa: B010 - a type checker would not have it assigned


def install_booked() -> None:
    """Two calls pass."""
    original = Driver._go_on

    async def run(driver: Driver, *args: Any) -> None:
        booking[driver.order.id] += 1
        if booking[driver.order.id] > 2:
            await hold(driver.order, "booked")
        await original(driver, *args)

    setattr(Driver, "_go_on", run)  # noqa: B010


install_opened()
install_booked()
install(Driver, "_serve")
install(Driver, "place", after="granted")
install(Driver, "_accept", before="submitted", after="accepted")
install(DashScopeAsync, "poll", after="polled", only=Pending)
install(upstream, "order_images", after="succeeded")
install(Driver, "_finish", before="stored", after="finished")

if "STOP_PATIENCE_S" in os.environ:
    patience_s = float(os.environ["STOP_PATIENCE_S"])
    for module in (asgi, runtime, worker):
        setattr(module, "STOP_PATIENCE_S", patience_s)  # noqa: B010
