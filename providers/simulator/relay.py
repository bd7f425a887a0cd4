"""A reseller that answers every order with a task object, under /relay/v1; /v1/tasks/{id} tells of those of /v1."""

from __future__ import annotations

from providers.simulator import reseller, tasks
from providers.simulator.enquiries import Desk, enquire
from providers.simulator.errors import Refusal
from providers.simulator.faults import Endpoint, Struck
from providers.simulator.intake import Door, take
from providers.simulator.orders import Order
from providers.simulator.state import State
from providers.simulator.task_objects import describe_task, take_task
from providers.simulator.wire import Reply, Request, reply_json

_ORIGINS = frozenset({Endpoint.RESELLER, Endpoint.RELAY})
_DESK = Desk(reseller.authenticate, reseller.reply_refusal, _ORIGINS)


async def generate(state: State, request: Request) -> Reply:
    return await take(state, request, _DOOR)


async def query(state: State, request: Request, task_id: str) -> Reply:
    async def tell(account: str, struck: Struck, request_id: str) -> Reply:
        task = tasks.find(state, task_id, account=account, origins=_ORIGINS)
        if task is None:
            raise Refusal("task_not_exist", "task not found", status=404)
        named = struck.get("status")
        body = describe_task(state, task, named=named.get("value", "suspended") if named else "")
        return reply_json(body, headers={"x-oneapi-request-id": request_id})

    return await enquire(state, request, _DESK, Endpoint.TASKS, tell, task_id=task_id)


async def _fulfil(state: State, order: Order) -> Reply:
    return take_task(state, order)


_DOOR = Door(Endpoint.RELAY, reseller.authenticate, reseller.read_order, _fulfil, reseller.reply_refusal)
