"""Waiting for generations of other processes: whoever was not asked about yet has not ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import cast

import pytest
from django.db import ProgrammingError

from crazyrouter.generation import watch
from crazyrouter.generation.snapshot import Reader


class SlowReader:
    """Answers when it is told to. `questions` gives the ids of each question as it is asked."""

    def __init__(self, running: set[str]) -> None:
        self.running = running
        self.questions: asyncio.Queue[list[str]] = asyncio.Queue()
        self.may_answer = asyncio.Event()

    async def read(self, function: Callable[[Collection[str]], set[str]], ids: list[str]) -> set[str]:
        self.questions.put_nowait(ids)
        await self.may_answer.wait()
        return self.running & set(ids)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.01)


async def test_who_begins_to_wait_during_a_question_is_asked_about_next() -> None:
    reader = SlowReader({"late"})
    watcher = watch.Watcher(cast("Reader", reader))
    async with asyncio.timeout(5):
        ended = asyncio.create_task(watcher.wait("ended"))
        assert await reader.questions.get() == ["ended"]
        late = asyncio.create_task(watcher.wait("late"))
        await asyncio.sleep(0)
        reader.may_answer.set()
        await ended
        assert await reader.questions.get() == ["late"]
        assert await reader.questions.get() == ["late"]
        assert not late.done()
        reader.running.clear()
        await late
    await watcher.close()


async def test_all_who_wait_for_the_same_are_told() -> None:
    reader = SlowReader({"one"})
    reader.may_answer.set()
    watcher = watch.Watcher(cast("Reader", reader))
    async with asyncio.timeout(5):
        waiting = [asyncio.create_task(watcher.wait("one")) for _ in range(3)]
        assert await reader.questions.get() == ["one"]
        reader.running.clear()
        await asyncio.gather(*waiting)
    await watcher.close()


class BrokenReader(SlowReader):
    """Breaks once, in a way that nobody has foreseen."""

    broken = False

    async def read(self, function: Callable[[Collection[str]], set[str]], ids: list[str]) -> set[str]:
        if not self.broken:
            self.broken = True
            raise ProgrammingError("the last operation did not produce a result")
        return await super().read(function, ids)


async def test_who_waits_is_told_after_a_break() -> None:
    reader = BrokenReader(set())
    reader.may_answer.set()
    watcher = watch.Watcher(cast("Reader", reader))
    async with asyncio.timeout(5):
        await watcher.wait("one")
    await watcher.close()
