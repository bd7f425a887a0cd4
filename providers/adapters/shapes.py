"""The two ways in which carriers answer: the pictures in the reply, or a task to poll."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from providers.adapters.answers import clip_id
from providers.adapters.base import (
    BAD_RESPONSE,
    Carrier,
    Option,
    Verdict,
    as_poll_failure,
    build_seconds_option,
    build_switch,
)
from providers.contract import Billed, Done, Pending, PollFailed, ProviderError, Shape
from providers.transport import Reply

#: For carriers of whom it is not documented what becomes of the money for a task that failed.
FAILED_TASKS_FREE = build_switch("whether this carrier gives back what a failed task cost")
_FIRST_POLL_S = 1.0


class SyncCarrier(Carrier):
    """Option: `read_timeout_s`. Whoever gives up first does not learn what was billed, so it is long."""

    shape = Shape.SYNC
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "read_timeout_s": build_seconds_option(310.0, "the longest wait for the pictures")
    }

    async def poll(self, task_id: str) -> Done | Pending:
        """Never asked: this shape knows no tasks."""
        raise self._fail(BAD_RESPONSE, f"a synchronous carrier was asked for a task {task_id!r}")

    async def _order(self, path: str, body: Mapping[str, Any]) -> Reply:
        return await self._post(path, body, headers=self._authorise(), timeout=self._options["read_timeout_s"])


class TaskCarrier(Carrier):
    """Options: `poll_interval_s`, `submit_timeout_s`, `poll_timeout_s`."""

    shape = Shape.ASYNC
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "poll_interval_s": build_seconds_option(2.0, "the pause between two polls of a task"),
        "submit_timeout_s": build_seconds_option(60.0, "the longest wait for a task id"),
        "poll_timeout_s": build_seconds_option(20.0, "the longest wait for the answer to a poll"),
    }

    async def _order(
        self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, held_s: float = 0
    ) -> Reply:
        """Send the order. `held_s` is how long the carrier was asked to keep its answer back."""
        timeout = self._options["submit_timeout_s"] + held_s
        return await self._post(path, body, headers=self._authorise() | dict(headers or {}), timeout=timeout)

    def _accept(self, task_id: str, reply: Reply, *, upstream_id: str = "") -> Pending:
        """The task just made, in whatever state. Raises ProviderError for an id that nobody could poll by later."""
        if not task_id or task_id != clip_id(task_id):
            raise self._reject(reply, BAD_RESPONSE, upstream_id=upstream_id)
        first = min(_FIRST_POLL_S, self._options["poll_interval_s"])
        return Pending(task_id, upstream_id=upstream_id, poll_after=first)

    async def _ask(self, path: str, *, headers: Mapping[str, str] | None = None) -> Reply:
        """One question about a task. Raises PollFailed where no answer came."""
        timeout = self._options["poll_timeout_s"]
        try:
            return await self._get(path, headers=self._authorise() | dict(headers or {}), timeout=timeout)
        except ProviderError as error:
            raise as_poll_failure(error) from error

    def _wait(self, task_id: str, *, upstream_id: str = "") -> Pending:
        """The task is not over."""
        return Pending(task_id, upstream_id=upstream_id, poll_after=self._options["poll_interval_s"])

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The object of a success. Raises ProviderError. Every adapter knows its carrier's envelope."""
        raise NotImplementedError

    def _shrug(self, reply: Reply) -> PollFailed:
        """Why an answer says nothing about the task."""
        try:
            self._read(reply)
        except ProviderError as error:
            return as_poll_failure(error)
        return as_poll_failure(self._reject(reply, BAD_RESPONSE))

    def _settle(self, verdict: Verdict) -> Verdict:
        """What a failed task cost, where only whoever set up the channel may know."""
        free = self._options["failed_tasks_free"]
        return verdict._replace(billed=Billed.NO if free else Billed.UNKNOWN)
