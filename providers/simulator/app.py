"""The simulated upstream as one ASGI application."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from providers.simulator import (
    control,
    dashscope,
    fal,
    fal_queue,
    links,
    multimodal,
    queries,
    relay,
    reseller,
    siliconflow,
    store,
)
from providers.simulator.errors import WRONG_URL, Refusal
from providers.simulator.native import reply_refusal
from providers.simulator.scenario import Scenario, read_scenario
from providers.simulator.state import State
from providers.simulator.wire import Receive, Reply, Request, Scope, Send, read_request, reply_json, send_reply

Serve = Callable[[State, Request], Awaitable[Reply]]
ServeNamed = Callable[..., Awaitable[Reply]]

_EXACT: dict[tuple[str, str], Serve] = {
    ("POST", "/api/v1/services/aigc/text2image/image-synthesis"): dashscope.submit,
    ("POST", "/api/v1/services/aigc/multimodal-generation/generation"): multimodal.generate,
    ("GET", "/api/v1/tasks"): queries.list_tasks,
    ("GET", "/api/v1/tasks/"): queries.list_tasks,
    ("POST", "/v1/images/generations"): reseller.generate,
    ("GET", "/v1/models"): reseller.list_models,
    ("POST", "/relay/v1/images/generations"): relay.generate,
    ("GET", "/relay/v1/models"): reseller.list_models,
    ("POST", "/siliconflow/v1/images/generations"): siliconflow.generate,
    ("GET", "/siliconflow/v1/models"): siliconflow.list_models,
    ("GET", "/siliconflow/v1/user/info"): siliconflow.tell_user,
}
#: What the groups of a path hold goes to the function, in their order.
_NAMED: tuple[tuple[str, re.Pattern[str], ServeNamed], ...] = (
    ("GET", re.compile(r"/api/v1/tasks/([^/]+)"), queries.query),
    ("POST", re.compile(r"/api/v1/tasks/([^/]+)/cancel"), queries.cancel),
    ("GET", re.compile(r"(?:/relay)?/v1/tasks/([^/]+)"), relay.query),
    ("GET", re.compile(r"/fal/([^/]+/[^/]+)/requests/([^/]+)/status"), fal_queue.tell_status),
    ("GET", re.compile(r"/fal/([^/]+/[^/]+)/requests/([^/]+)"), fal_queue.tell_response),
    ("PUT", re.compile(r"/fal/([^/]+/[^/]+)/requests/([^/]+)/cancel"), fal_queue.cancel),
    ("POST", re.compile(r"/fal/(.+)"), fal.submit),
)


class Simulator:
    """The application. `state` is public for tests that run it in their own loop."""

    def __init__(self, state: State, *, control_key: str) -> None:
        self.state = state
        self._control_key = control_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                await self._answer(scope, receive, send)
            except asyncio.CancelledError:
                # Only the server's shutdown cancels, after it has cut the connection: nobody is left to answer.
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await read_request(scope, receive)
        if request is not None:
            await send_reply(await self._route(request), scope, receive, send)

    async def _route(self, request: Request) -> Reply:
        if request.path.startswith(control.PREFIX):
            return control.serve(self.state, request, control_key=self._control_key)
        if request.path.startswith(links.PREFIXES) and request.method in {"GET", "HEAD"}:
            return await store.serve(self.state, request)
        serve = _EXACT.get((request.method, request.path))
        if serve:
            return await serve(self.state, request)
        for method, path, serve_named in _NAMED:
            if method == request.method and (named := path.fullmatch(request.path)):
                return await serve_named(self.state, request, *named.groups())
        return _refuse_path(request)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.state.studio.close()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})


def create_app(scenario: Mapping[str, Any] | Scenario, *, control_key: str = "", public_base_url: str) -> Simulator:
    """`public_base_url` is where links to pictures point. Raises ScenarioError.

    Faults that break connections need `providers.simulator.server`, which lets the application at the transport.
    """
    read = scenario if isinstance(scenario, Scenario) else read_scenario(scenario)
    return Simulator(State(read, public_base_url=public_base_url), control_key=control_key)


def _refuse_path(request: Request) -> Reply:
    if request.path.startswith("/api/v1/services/"):
        return reply_refusal(Refusal("InvalidParameter", WRONG_URL), str(uuid.uuid4()))
    if request.path.startswith("/api/"):
        return reply_refusal(Refusal("NotFound"), str(uuid.uuid4()))
    if request.path.startswith(fal.PREFIX):
        return reply_json({"detail": "Not Found"}, status=404)
    if request.path.startswith("/siliconflow/"):
        return reply_json("404 page not found", status=404)
    error = {
        "message": f"Invalid URL ({request.method} {request.path})",
        "type": "invalid_request_error",
        "param": "",
        "code": "",
    }
    return reply_json({"error": error}, status=404)
