"""Steps of one generation side by side."""

from __future__ import annotations

import asyncio

import pytest

from crazyrouter.generation.driver import gather
from crazyrouter.generation.outcomes import LeaseLost


async def test_where_one_step_fails_none_goes_on() -> None:
    told: list[str] = []

    async def lose() -> None:
        await asyncio.sleep(0)
        raise LeaseLost("gen_1")

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append("stopped")

    with pytest.raises(LeaseLost):
        await gather([work(), lose(), work()])
    assert told == ["stopped", "stopped"]


async def test_every_step_is_waited_for() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    await gather([])
    await gather([work(1)])
    await gather([work(2), work(3)])
    assert done == [1, 2, 3]
