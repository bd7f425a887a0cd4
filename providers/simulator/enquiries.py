"""What every question goes through, whatever its protocol: key, limits, faults. It orders nothing and costs nothing."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from providers.simulator.answers import answer
from providers.simulator.errors import Refusal
from providers.simulator.faults import STAGE_OF, Endpoint, Struck
from providers.simulator.rules import HEADER, Facts, read_directives
from providers.simulator.state import State
from providers.simulator.tasks import Task
from providers.simulator.wire import Reply, Request

#: (account, what strikes the call, request id) -> the proper answer; may raise Refusal.
Part = Callable[[str, Struck, str], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Desk:
    """How one protocol takes questions: `origins` are the endpoints whose tasks it knows."""

    authenticate: Callable[[State, Request], str]
    envelope: Callable[[Refusal, str], Reply]
    origins: frozenset[Endpoint] = frozenset()


async def enquire(
    state: State,
    request: Request,
    desk: Desk,
    endpoint: Endpoint,
    part: Part,
    *,
    task_id: str = "",
    request_id: str = "",
) -> Reply:
    """One question from its first byte to its answer. It has an id of its own where none is given."""
    request_id = request_id or str(uuid.uuid4())

    def envelope(refusal: Refusal) -> Reply:
        return desk.envelope(refusal, request_id)

    try:
        account = desk.authenticate(state, request)
        if endpoint is not Endpoint.MODELS:
            state.admit_query(account=account, endpoint=endpoint)
        task = state.tasks.get(task_id)
        known = task if task and task.order.placed[0].origin in desk.origins else None
        struck = _strike(state, request, endpoint, known, account=account)
    except Refusal as refusal:
        return envelope(refusal)
    return await answer(struck, lambda: part(account, struck, request_id), envelope=envelope)


def _strike(state: State, request: Request, endpoint: Endpoint, task: Task | None, *, account: str) -> Struck:
    own = read_directives(header=request.headers.get(HEADER, ""), stage=STAGE_OF[endpoint])
    if task is None:
        return state.strike(Facts(endpoint, key=request.key, account=account), own)
    order = task.order
    facts = Facts(endpoint, order.placed[0].origin, order.model_name, order.prompt, request.key, account)
    return state.strike(facts, [*own, *order.directives])
