"""Waiting for generations of other processes: whoever was not asked about yet has not ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, cast

import pytest

from crazyrouter.generation import watch
from crazyrouter.generation.snapshot import Reader


class SlowReader:
    """Answers a question when it is told to. `asked` holds the ids of each."""

    def __init__(self, running: set[str]) -> None:
        self.running = running
        self.asked: list[list[str]] = []
        self.began = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def read(self, function: Callable[[Collection[str]], set[str]], ids: list[str]) -> set[str]:
        self.asked.append(ids)
        self.began.set()
        await self.may_answer.wait()
        return self.running & set(ids)


async def wait_for_questions(reader: SlowReader, count: int) -> None:
    async with asyncio.timeout(5):
        while len(reader.asked) < count:
            await asyncio.sleep(0.005)


async def test_who_begins_to_wait_during_a_question_is_asked_about_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.01)
    reader = SlowReader({"late"})
    watcher = watch.Watcher(cast("Reader", reader))
    ended = asyncio.create_task(watcher.wait("ended"))
    await reader.began.wait()
    late = asyncio.create_task(watcher.wait("late"))
    await asyncio.sleep(0)
    reader.may_answer.set()
    await ended
    await wait_for_questions(reader, 3)
    assert reader.asked[:2] == [["ended"], ["late"]]
    assert not late.done()
    reader.running.clear()
    await late
    await watcher.close()


async def test_all_who_wait_for_the_same_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.01)
    reader: Any = SlowReader({"one"})
    reader.may_answer.set()
    watcher = watch.Watcher(reader)
    waiting = [asyncio.create_task(watcher.wait("one")) for _ in range(3)]
    await wait_for_questions(reader, 2)
    assert reader.asked[0] == ["one"]
    reader.running.clear()
    await asyncio.gather(*waiting)
    await watcher.close()
