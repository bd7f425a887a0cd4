"""The task object that some resellers answer an order with, and what it looks like later.

`flat`, as evolink's: `{id, task_id, object, status, …}`, and done it lists `results` beside OpenAI's `data`.
`wrapped`, as APIMart's: `{"code": 200, "data": [{"status", "task_id"}]}`, and asked for `{"code": 200, "data": {…}}`
with the pictures in `result.images`, each a list of addresses.
"""

from __future__ import annotations

from typing import Any

from providers.simulator import tasks
from providers.simulator.links import Picture
from providers.simulator.orders import Order, get_link
from providers.simulator.state import State
from providers.simulator.tasks import Task
from providers.simulator.wire import Reply, reply_json

_WORDS = {
    "PENDING": "pending",
    "RUNNING": "processing",
    "SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELED": "cancelled",
}
_PROGRESS = {"PENDING": 0, "RUNNING": 50}


def take_task(state: State, order: Order) -> Reply:
    """The order as a task that has just begun. Raises Refusal."""
    task = tasks.start(state, order, task_id=f"task_{order.request_id}")
    headers = {"x-oneapi-request-id": order.request_id}
    if state.scenario.reseller.task_style == "wrapped":
        return reply_json({"code": 200, "data": [{"status": "submitted", "task_id": task.id}]}, headers=headers)
    return reply_json(_describe_flat(task, "PENDING", _WORDS["PENDING"]), headers=headers)


def describe_task(state: State, task: Task, *, named: str = "") -> dict[str, Any]:
    """What a question for it is answered. `named` is said in place of its status."""
    status = task.get_status(state.clock.now())
    word = named or _WORDS[status]
    if state.scenario.reseller.task_style == "wrapped":
        return {"code": 200, "data": _describe_wrapped(task, status, word)}
    return _describe_flat(task, status, word)


def _describe_flat(task: Task, status: str, word: str) -> dict[str, Any]:
    links = _list_links(task, status)
    return {
        "created": int(task.submitted),
        "id": task.id,
        "task_id": task.id,
        "model": task.order.model_name,
        "object": "image.generation.task",
        "progress": _PROGRESS.get(status, 100),
        "status": word,
        "type": "image",
        **_describe_failure(task, status),
        **({} if links is None else {"results": links, "data": [{"url": link} for link in links]}),
    }


def _describe_wrapped(task: Task, status: str, word: str) -> dict[str, Any]:
    links = _list_links(task, status)
    return {
        "id": task.id,
        "status": word,
        "progress": _PROGRESS.get(status, 100),
        "created": int(task.submitted),
        **_describe_failure(task, status),
        **({} if links is None else {"result": {"images": [{"url": [link]} for link in links]}}),
    }


def _list_links(task: Task, status: str) -> list[str] | None:
    """None where there is no list at all."""
    if status != "SUCCEEDED" or task.order.struck.get("no_data"):
        return None
    return [get_link(task.order, item) for item in task.items or [] if isinstance(item, Picture)]


def _describe_failure(task: Task, status: str) -> dict[str, Any]:
    if status != "FAILED" or task.failure is None:
        return {}
    return {"error": {"code": task.failure.code, "message": task.failure.message, "type": "upstream_error"}}
