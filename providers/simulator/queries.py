"""DashScope /tasks: query, list and cancel (asynchronous task API reference)."""

from __future__ import annotations

from typing import Any

from providers.simulator import tasks
from providers.simulator.clock import DAY_S, read_compact
from providers.simulator.enquiries import Desk, enquire
from providers.simulator.errors import Refusal
from providers.simulator.faults import Endpoint, Struck
from providers.simulator.native import reply_native, reply_refusal
from providers.simulator.state import State
from providers.simulator.tasks import Task
from providers.simulator.wire import Reply, Request

_ORIGINS = frozenset({Endpoint.ASYNC})
_DESK = Desk(State.authenticate, reply_refusal, _ORIGINS)
_REGION = "cn-beijing"


async def query(state: State, request: Request, task_id: str) -> Reply:
    """HTTP 200 even for a task that nobody knows: its status is UNKNOWN."""

    async def tell(account: str, struck: Struck, request_id: str) -> Reply:
        task = tasks.find(state, task_id, account=account, origins=_ORIGINS)
        if task is None:
            body: dict[str, Any] = {"output": {"task_id": task_id, "task_status": "UNKNOWN"}}
        else:
            named = struck.get("status")
            body = tasks.describe(task, now=state.clock.now(), status=named.get("value", "SUSPENDED") if named else "")
        return reply_native({"request_id": request_id, **body}, request_id)

    return await enquire(state, request, _DESK, Endpoint.TASKS, tell, task_id=task_id)


async def cancel(state: State, request: Request, task_id: str) -> Reply:
    """Only a PENDING task can be cancelled."""

    async def withdraw(account: str, struck: Struck, request_id: str) -> Reply:
        task, now = tasks.find(state, task_id, account=account, origins=_ORIGINS), state.clock.now()
        if task is None or task.get_status(now) != "PENDING":
            raise Refusal("UnsupportedOperation")
        task.canceled = now
        return reply_native({"request_id": request_id}, request_id)

    return await enquire(state, request, _DESK, Endpoint.CANCEL, withdraw, task_id=task_id)


async def list_tasks(state: State, request: Request) -> Reply:
    """The account's tasks of at most 24 hours, newest first."""

    async def tell(account: str, struck: Struck, request_id: str) -> Reply:
        own = [
            task
            for task in reversed(state.tasks.values())
            if task.order.account == account and task.order.placed[0].origin in _ORIGINS
        ]
        return reply_native({"request_id": request_id, **_page(state, own, request.query)}, request_id)

    return await enquire(state, request, _DESK, Endpoint.LIST, tell)


def _page(state: State, own: list[Task], query: dict[str, str]) -> dict[str, Any]:
    now = state.clock.now()
    begin, end = _read_window(query, now=now)
    kept = [
        task
        for task in own
        if begin <= task.submitted <= end
        and query.get("model_name") in {None, "", task.order.model_name}
        and query.get("status") in {None, "", task.get_status(now)}
    ]
    number, size = _read_count(query, "page_no", 1), _read_count(query, "page_size", 10)
    return {
        "total": len(kept),
        "total_page": -(-len(kept) // size),
        "page_no": number,
        "page_size": size,
        "data": [_describe(task, now=now) for task in kept[(number - 1) * size : number * size]],
    }


def _read_window(query: dict[str, str], *, now: float) -> tuple[float, float]:
    try:
        end = read_compact(query["end_time"]) if query.get("end_time") else now
        begin = read_compact(query["start_time"]) if query.get("start_time") else end - DAY_S
    except ValueError:
        raise Refusal("InvalidParameter", "start_time and end_time must be like 20260101000000") from None
    if end - begin > DAY_S:
        raise Refusal("InvalidParameter", "the time window must not be longer than 24 hours")
    return begin, end


def _read_count(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise Refusal("InvalidParameter", f"{name} must be between 1 and 100")
    return int(text)


def _describe(task: Task, *, now: float) -> dict[str, Any]:
    order, status = task.order, task.get_status(now)
    shown: dict[str, Any] = {
        "task_id": task.id,
        "status": status,
        "model_name": order.model_name,
        "region": _REGION,
        "request_id": order.request_id,
        "api_key_id": order.placed[1].key_last4,
        "caller_uid": order.account,
        "caller_parent_id": order.account,
        "user_api_unique_key": f"apikey:v1:{_REGION}:{order.account}",
        "gmt_create": _to_ms(task.submitted),
    }
    if status not in {"PENDING", "CANCELED"}:
        shown["start_time"] = _to_ms(task.scheduled)
    if status in {"SUCCEEDED", "FAILED"}:
        shown["end_time"] = _to_ms(task.ends)
    return shown


def _to_ms(moment: float) -> int:
    return int(moment * 1000)
