"""What a request in fal's queue is asked: its status, its response, and to be cancelled.

While a request waits or runs its status comes as HTTP 202; COMPLETED as 200, whether good or bad.
"""

from __future__ import annotations

import zlib
from typing import Any

from providers.simulator import fal, tasks
from providers.simulator.enquiries import Desk, enquire
from providers.simulator.errors import Refusal
from providers.simulator.fal_errors import name_type, reply_refusal
from providers.simulator.faults import Endpoint, Struck
from providers.simulator.links import Picture
from providers.simulator.orders import get_link
from providers.simulator.reseller import encode_picture
from providers.simulator.state import State
from providers.simulator.tasks import Task
from providers.simulator.wire import Reply, Request, reply_json

_ORIGINS = frozenset({Endpoint.FAL})
_DESK = Desk(fal.authenticate, reply_refusal, _ORIGINS)
_WORDS = {"PENDING": "IN_QUEUE", "RUNNING": "IN_PROGRESS"}
_CANCELLED = Refusal("client_cancelled", "Request was cancelled by the client")


async def tell_status(state: State, request: Request, root: str, request_id: str) -> Reply:
    async def tell(account: str, struck: Struck, own_id: str) -> Reply:
        task = _find(state, request_id, account=account, root=root)
        status, named = task.get_status(state.clock.now()), struck.get("status")
        body: dict[str, Any] = {
            "status": named.get("value", "UNKNOWN") if named else _WORDS.get(status, "COMPLETED"),
            "request_id": task.id,
            **fal.build_urls(state, task.order.model_name, task.id),
        }
        if status == "PENDING":
            return _reply({**body, "queue_position": _count_ahead(state, task)}, task, status=202)
        body["logs"] = [] if request.query.get("logs") == "1" else None
        if status == "RUNNING":
            return _reply(body, task, status=202)
        body["metrics"] = {"inference_time": round(task.ends - task.scheduled, 3)}
        failure = _find_failure(task, status)
        if failure and name_type(failure):
            body |= {"error": failure.message, "error_type": name_type(failure)}
        return _reply(body, task)

    return await enquire(state, request, _DESK, Endpoint.TASKS, tell, task_id=request_id, request_id=request_id)


async def tell_response(state: State, request: Request, root: str, request_id: str) -> Reply:
    """The result, or what became of it instead, with the status that it deserves."""

    async def tell(account: str, struck: Struck, own_id: str) -> Reply:
        task = _find(state, request_id, account=account, root=root)
        status = task.get_status(state.clock.now())
        if status in _WORDS:
            return _reply({"detail": "Request is still in progress"}, task, status=400)
        failure = _find_failure(task, status)
        if failure:
            return reply_refusal(failure, task.id)
        return _reply(await _describe(state, task), task)

    return await enquire(state, request, _DESK, Endpoint.RESULT, tell, task_id=request_id, request_id=request_id)


async def cancel(state: State, request: Request, root: str, request_id: str) -> Reply:
    """What waits is taken out; what runs is told, and goes on."""

    async def withdraw(account: str, struck: Struck, own_id: str) -> Reply:
        try:
            task = _find(state, request_id, account=account, root=root)
        except Refusal:
            return reply_json({"status": "NOT_FOUND"}, status=404)
        status, now = task.get_status(state.clock.now()), state.clock.now()
        if status not in _WORDS:
            return _reply({"status": "ALREADY_COMPLETED"}, task, status=400)
        if status == "PENDING":
            task.canceled = now
        return _reply({"status": "CANCELLATION_REQUESTED"}, task, status=202)

    return await enquire(state, request, _DESK, Endpoint.CANCEL, withdraw, task_id=request_id, request_id=request_id)


def _find(state: State, request_id: str, *, account: str, root: str) -> Task:
    """Raises Refusal; a request is known under its application's root alone."""
    task = tasks.find(state, request_id, account=account, origins=_ORIGINS)
    if task is None or fal.name_root(task.order.model_name) != root:
        raise Refusal("NotFound", "Request not found")
    return task


def _find_failure(task: Task, status: str) -> Refusal | None:
    return _CANCELLED if status == "CANCELED" else task.failure


def _count_ahead(state: State, task: Task) -> int:
    now = state.clock.now()
    waiting = [other for other in state.open_tasks[task.order.account] if other.get_status(now) == "PENDING"]
    return sum(other.scheduled < task.scheduled for other in waiting)


async def _describe(state: State, task: Task) -> dict[str, Any]:
    order = task.order
    if order.struck.get("no_data"):
        return {}
    pictures = [item for item in task.items or [] if isinstance(item, Picture)]
    seed = order.parameters.seed
    return {
        "images": [await _describe_picture(state, task, picture) for picture in pictures],
        "seed": zlib.crc32(task.id.encode()) if seed is None else seed,
        "timings": {"inference": round(task.ends - task.scheduled, 3)},
        "prompt": tasks.rewrite(order.prompt) if order.parameters.prompt_extend else order.prompt,
        "has_nsfw_concepts": [order.struck.get("image_flagged") is not None] * len(pictures),
    }


async def _describe_picture(state: State, task: Task, picture: Picture) -> dict[str, Any]:
    order, kind = task.order, f"image/{task.order.file_format}"
    link = get_link(order, picture)
    if order.wants_b64:
        link = f"data:{kind};base64,{await encode_picture(state, picture)}"
    return {
        "url": link,
        "width": order.parameters.width,
        "height": order.parameters.height,
        "content_type": kind,
    }


def _reply(body: dict[str, Any], task: Task, *, status: int = 200) -> Reply:
    return reply_json(body, status=status, headers={"x-fal-request-id": task.id})
