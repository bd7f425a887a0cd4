"""A DashScope task: PENDING, RUNNING, and one of SUCCEEDED, FAILED, CANCELED (asynchronous task API reference).

A task does not run. When it is submitted it is decided when it starts and when it ends; what it is at
any moment follows from the clock, so a test may move the clock. Its pictures are made and charged when
somebody looks at it, or at the bill, after its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from providers.simulator.clock import DAY_S, print_stamp
from providers.simulator.errors import Refusal
from providers.simulator.faults import Endpoint
from providers.simulator.links import Picture
from providers.simulator.orders import Flaw, Order, count_images, find_failure, get_latency, get_link, produce
from providers.simulator.state import State
from providers.simulator.traffic import Kind

#: A task that has not ended by then fails with InternalError.Timeout.
SERVER_LIMIT_S = 3 * 3600.0
#: Of a task's time, the share that it waits as PENDING.
PENDING_SHARE = 0.2
#: Bad parameters are found out this soon.
LATE_FAILURE_S = 0.1
KEPT = 50_000


@dataclass(slots=True)
class Task:
    """Moments are seconds since 1970. `items` is None until somebody looked after the end."""

    id: str
    order: Order
    submitted: float
    scheduled: float
    ends: float
    failure: Refusal | None = None
    canceled: float | None = None
    items: list[Picture | Flaw] | None = None

    def get_status(self, now: float) -> str:
        if self.canceled is not None:
            return "CANCELED"
        if now < self.scheduled:
            return "PENDING"
        if now < self.ends:
            return "RUNNING"
        return "FAILED" if self.failure else "SUCCEEDED"

    def is_open(self, now: float) -> bool:
        return self.get_status(now) in {"PENDING", "RUNNING"}


def start(state: State, order: Order, *, task_id: str) -> Task:
    """Raises Refusal when the account has as many tasks as it may have at once."""
    now = state.clock.now()
    begins = _find_turn(state, order, now=now)
    failure, lasts, waits = find_failure(order), get_latency(state, order), 0.0
    endless = order.struck.get("never_ends")
    if endless:
        failure, lasts = Refusal("InternalError.Timeout"), SERVER_LIMIT_S
        waits = lasts if endless.get("status", "RUNNING") == "PENDING" else 0.0
    elif order.late:
        lasts = min(lasts, LATE_FAILURE_S)
    else:
        waits = lasts * PENDING_SHARE
    task = Task(task_id, order, now, begins + waits, begins + lasts, failure)
    _keep(state, task)
    state.bill.accept(order.placed[1], task_id=task_id)
    return task


def find(state: State, task_id: str, *, account: str, origins: frozenset[Endpoint]) -> Task | None:
    """None for a task of another account or protocol, for one older than a day, and for one that never was."""
    task = state.tasks.get(task_id)
    if task is None or task.order.account != account or state.clock.now() - task.submitted > DAY_S:
        return None
    if task.order.placed[0].origin not in origins:
        return None
    settle(state, task)
    return task


def settle(state: State, task: Task) -> None:
    """Make and charge the pictures of a task that has come to its end; once."""
    if task.items is None and task.get_status(state.clock.now()) == "SUCCEEDED":
        task.items = produce(state, task.order, name=task.id, at=task.ends)


def settle_all(state: State) -> None:
    for task in state.tasks.values():
        settle(state, task)


def describe(task: Task, *, now: float, status: str = "") -> dict[str, Any]:
    """The body of a query, without its request id. `status` overrides what the clock says."""
    truth = task.get_status(now)
    output: dict[str, Any] = {"task_id": task.id, "task_status": status or truth}
    output["submit_time"] = print_stamp(task.submitted)
    if truth not in {"PENDING", "CANCELED"}:
        output["scheduled_time"] = print_stamp(task.scheduled)
    if truth in {"SUCCEEDED", "FAILED"}:
        output["end_time"] = print_stamp(task.ends)
    if truth == "CANCELED":
        output["end_time"] = print_stamp(task.canceled or task.ends)
    if truth == "FAILED" and task.failure:
        metrics = {"TOTAL": task.order.parameters.n, "SUCCEEDED": 0, "FAILED": task.order.parameters.n}
        output |= {"code": task.failure.code, "message": task.failure.message, "task_metrics": metrics}
    if truth != "SUCCEEDED":
        return {"output": output}
    return {
        "output": output | _describe_results(task),
        "usage": {"image_count": count_images(task.order, _items(task))},
    }


def _describe_results(task: Task) -> dict[str, Any]:
    items = _items(task)
    failed = sum(isinstance(item, Flaw) for item in items)
    metrics = {"TOTAL": len(items), "SUCCEEDED": len(items) - failed, "FAILED": failed}
    results = [_describe_item(task.order, item) for item in items]
    if task.order.struck.get("no_data"):
        return {"task_metrics": metrics}
    return {"results": results, "task_metrics": metrics}


def _describe_item(order: Order, item: Picture | Flaw) -> dict[str, str]:
    if isinstance(item, Flaw):
        return {"code": item.code, "message": item.message}
    shown = {"orig_prompt": order.prompt}
    if order.parameters.prompt_extend:
        shown["actual_prompt"] = rewrite(order.prompt)
    return {**shown, "url": get_link(order, item)}


def rewrite(prompt: str) -> str:
    """What the vendor's prompt rewriter would make of it."""
    return f"{prompt} Rich in detail, soft natural light, balanced composition."


def _items(task: Task) -> list[Picture | Flaw]:
    return task.items or []


def _find_turn(state: State, order: Order, *, now: float) -> float:
    """When the task may start: now, or, where it has to queue, when enough others have ended. Raises Refusal."""
    limits = state.scenario.get_limits(order.account)
    running = state.open_tasks[order.account] = [task for task in state.open_tasks[order.account] if task.is_open(now)]
    if limits.async_concurrency is None or len(running) < limits.async_concurrency:
        return now
    if limits.when_full == "throttle":
        state.traffic.note_throttled(account=order.account, kind=Kind.SUBMITS)
        raise Refusal("Throttling.AllocationQuota")
    return sorted(task.ends for task in running)[len(running) - limits.async_concurrency]


def _keep(state: State, task: Task) -> None:
    state.tasks[task.id] = task
    state.open_tasks[task.order.account].append(task)
    if len(state.tasks) > KEPT:
        settle(state, state.tasks.pop(next(iter(state.tasks))))
