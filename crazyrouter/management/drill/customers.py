"""The customers: a steady stream of orders of every kind, what each was answered, and what they do about it.

They do what OpenAI's SDK does: a connection that broke is tried again, with the same Idempotency-Key or as a retry that
says so. A generation that was not ready in time is collected by its id.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from crazyrouter.management.drill.pictures import find_fault
from crazyrouter.management.drill.shop import FIRST, SECOND, TASKS
from crazyrouter.management.drill.wire import Answer, Unanswered, Why, call

PATH = "/v1/images/generations"
#: How often a connection that broke is tried anew, and the pause before.
TRIES = 6
RETRY_PAUSE_S = 0.3
COLLECT_PAUSE_S = 0.5
#: Of answers: only what carriers, their hosts, ids or keys would leave there. A rewritten prompt has its tag in it,
#: which must be none of these.
FORBIDDEN = (
    "sk-sim-",
    "drill-a",
    "drill-b",
    "drill a",
    "drill b",
    "dashscope",
    "aliyun",
    "task_",
    "oss/",
    "openai_images",
)
SMALL = ((512, 512), (768, 512), (640, 480))
CLASSIC = ((1328, 1328), (1104, 1472), (1024, 1024))
SIZES = {FIRST: SMALL, TASKS: CLASSIC, SECOND: CLASSIC}


@dataclass(frozen=True, slots=True)
class Order:
    """One thing that a customer wants. `prompt` is like no other's; `key` may be empty."""

    number: int
    model: str
    prompt: str
    n: int
    size: tuple[int, int]
    response_format: str
    key: str
    replays: bool

    @property
    def body(self) -> bytes:
        width, height = self.size
        return orjson.dumps(
            {
                "model": self.model,
                "prompt": self.prompt,
                "n": self.n,
                "size": f"{width}x{height}",
                "response_format": self.response_format,
            }
        )


@dataclass(slots=True)
class Seen:
    """What the customer saw of an order. `label` is the last answer, `broken` counts connections that ended before.

    `images` are the pictures in hand, `faults` what was wrong with them or with the answer.
    """

    order: Order
    label: str = ""
    generation: str = ""
    images: int = 0
    took_s: float = 0.0
    broken: int = 0
    collected: bool = False
    replayed: bool = False
    retry_after: str = ""
    faults: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    @property
    def is_served(self) -> bool:
        return self.label == "200" or self.collected

    @property
    def is_turned_away(self) -> bool:
        """Nobody had room, or nobody was there: to come again makes sense."""
        return self.label.startswith(("429 ", "503 "))


@dataclass(slots=True)
class Taste:
    """What is ordered: drawn anew for each order, the same for the same seed."""

    tag: str
    draw: random.Random
    made: int = 0

    def make_order(
        self, *, directive: str = "", model: str = "", n: int = 0, size: tuple[int, int] | None = None
    ) -> Order:
        self.made += 1
        model = model or self.draw.choices((FIRST, TASKS, SECOND), (5, 3, 2))[0]
        keyed = self.draw.random() < 0.4
        number = self.made
        return Order(
            number=number,
            model=model,
            prompt=f"A paper lantern over still water, {self.tag}{number} {directive}".strip(),
            n=n or self.draw.choices((1, 2, 3), (6, 3, 2))[0],
            size=size or self.draw.choice(SIZES[model]),
            response_format="b64_json" if self.draw.random() < 0.3 else "url",
            key=f"{self.tag}{number}" if keyed else "",
            replays=keyed and self.draw.random() < 0.4,
        )


@dataclass(slots=True)
class Customers:
    """One account's clients, over all web processes in turn."""

    base_urls: Sequence[str]
    api_key: str
    patience_s: float
    hidden: Sequence[str] = ()
    seen: list[Seen] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def send(self, order: Order) -> None:
        """Goes its own way; `wait` waits for all."""
        seen = Seen(order)
        self.seen.append(seen)
        task = asyncio.create_task(self._see_through(seen))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def wait(self) -> None:
        """Until every order has its last answer."""
        if self.tasks:
            await asyncio.gather(*self.tasks)

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # --- one order ---

    async def _see_through(self, seen: Seen) -> None:
        began = time.monotonic()
        answer = await self._try(seen)
        seen.took_s = time.monotonic() - began
        if answer is None:
            return
        self._note(seen, answer)
        if seen.label == "504 generation_timeout":
            await self._collect(seen)
        if seen.label == "200" and seen.order.replays:
            await self._replay(seen, answer)

    async def _try(self, seen: Seen) -> Answer | None:
        """The last answer; None where there was never a whole one."""
        for attempt in range(TRIES):
            try:
                return await self._post(seen.order, attempt)
            except Unanswered as error:
                seen.label = str(error.why)
                seen.broken += 1
                if error.why is Why.SILENT:
                    return None
            await asyncio.sleep(RETRY_PAUSE_S * (attempt + 1))
        return None

    async def _post(self, order: Order, attempt: int) -> Answer:
        headers = self._authorise() | {"Content-Type": "application/json"}
        if order.key:
            headers["Idempotency-Key"] = order.key
        elif attempt:
            headers["x-stainless-retry-count"] = str(attempt)
        url = self.base_urls[(order.number + attempt) % len(self.base_urls)]
        return await call("POST", url + PATH, headers=headers, body=order.body, timeout_s=self.patience_s)

    def _authorise(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    def _note(self, seen: Seen, answer: Answer) -> None:
        body = answer.read_object()
        error = body.get("error") if isinstance(body.get("error"), dict) else {}
        seen.label = f"{answer.status} {error['code']}" if error else str(answer.status)
        seen.generation = answer.headers.get("x-request-id", "")
        seen.retry_after = answer.headers.get("retry-after", "")
        seen.leaks += find_leaks(answer, [*FORBIDDEN, *self.hidden])
        if answer.status == 200:
            self._note_pictures(seen, body.get("data"))

    def _note_pictures(self, seen: Seen, data: Any) -> None:
        """All are counted; those that came in the answer are looked at here, the others when all is over."""
        items = data if isinstance(data, list) else []
        seen.images = len(items)
        if not 1 <= seen.images <= seen.order.n:
            seen.faults.append(f"{seen.images} pictures of {seen.order.n}")
        for item in items:
            if seen.order.response_format == "url":
                fault = "" if str(item.get("url", "")).startswith(tuple(self.base_urls)) else f"a strange link: {item}"
            else:
                fault = find_fault_in_text(item.get("b64_json", ""), seen.order.size)
            if fault:
                seen.faults.append(fault)

    async def _collect(self, seen: Seen) -> None:
        """Ask for what was not ready, as the answer says, until it is."""
        end = time.monotonic() + self.patience_s
        url = f"{self.base_urls[0]}{PATH}/{seen.generation}"
        while time.monotonic() < end:
            await asyncio.sleep(COLLECT_PAUSE_S)
            try:
                answer = await call("GET", url, headers=self._authorise(), timeout_s=self.patience_s)
            except Unanswered:
                continue
            body = answer.read_object()
            if body.get("status") in {"succeeded", "failed"}:
                seen.collected = body["status"] == "succeeded"
                seen.leaks += find_leaks(answer, [*FORBIDDEN, *self.hidden])
                self._note_pictures(seen, body.get("data")) if seen.collected else None
                return

    async def _replay(self, seen: Seen, first: Answer) -> None:
        """The same again, under the same key: it must be the same answer."""
        try:
            again = await self._post(seen.order, 1)
        except Unanswered as error:
            seen.faults.append(f"the replay: {error}")
            return
        seen.replayed = True
        told = (again.status, again.body, again.headers.get("idempotent-replayed"))
        if told != (200, first.body, "true"):
            seen.faults.append(f"the replay is another answer: {told[0]} {again.body[:200]!r}, replayed {told[2]}")


def find_leaks(answer: Answer, words: Sequence[str]) -> list[str]:
    """Words of carriers in an answer, outside of the pictures in it."""
    body = answer.read_object()
    items = body.get("data")
    for item in items if isinstance(items, list) else []:
        item.pop("b64_json", None)
    text = f"{dict(answer.headers)} {body}".lower()
    return [word for word in words if word.lower() in text]


def find_fault_in_text(text: str, size: tuple[int, int]) -> str:
    try:
        return find_fault(base64.b64decode(text, validate=True), size)
    except (binascii.Error, ValueError) as error:
        return f"no base64: {error}"
