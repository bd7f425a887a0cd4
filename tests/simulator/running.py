"""A simulator on a free port, in a thread of this process, for any suite that needs an upstream."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx

from providers.simulator.app import create_app
from providers.simulator.server import bind, build_server, get_base_url

CONTROL_KEY = "control-for-tests"


class RunningSimulator:
    """`base_url` is the bare origin: DashScope is at `/api/v1` below it, resellers at `/v1` and `/relay/v1`, fal's
    queue at `/fal`, SiliconFlow at `/siliconflow/v1`.

    Answers come at once unless the scenario says otherwise. Links to pictures point at it, too.
    """

    def __init__(self, scenario: dict[str, Any] | None = None) -> None:
        self._listener = bind("127.0.0.1", 0)
        self.port: int = self._listener.getsockname()[1]
        self.base_url = get_base_url(self._listener)
        self._ready = threading.Event()
        self.app = create_app(
            {"latency_s": 0, **(scenario or {})}, control_key=CONTROL_KEY, public_base_url=self.base_url
        )
        self._server = build_server(self.app, on_ready=self._ready.set)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)
        self._control = httpx.Client(
            base_url=f"{self.base_url}/_sim", headers={"Authorization": f"Bearer {CONTROL_KEY}"}, trust_env=False
        )

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the simulator did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.close()
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()

    def bill(self) -> dict[str, Any]:
        """`{"totals": {submissions, accepted, refused, images, cost, currency}, "entries", "throttled", …}`."""
        return self.call("GET", "/bill")

    def totals(self) -> dict[str, Any]:
        return self.call("GET", "/bill?entries=0")["totals"]

    def add_rule(self, fault: str, *, match: dict[str, Any] | None = None, times: int | None = None, **options: Any):
        """E.g. `add_rule("error", status=503, times=1, match={"endpoint": "tasks"})`."""
        rule = {"fault": {"name": fault, **options}, "match": match or {}, "times": times}
        self.call("POST", "/rules", rule)

    def begin_outage(self, *, fault: dict[str, Any] | None = None, seconds: float | None = None, **match: Any) -> int:
        """Whoever matches is refused everything: `begin_outage(account="acme")`. Its id."""
        outage = {"match": match, "fault": fault, "seconds": seconds}
        return self.call("POST", "/outages", outage)["id"]

    def end_outages(self, **named: Any) -> int:
        """All of them, or those of an `id`, an `account` or a `key`; how many."""
        return self.call("DELETE", f"/outages?{urlencode(named)}")["ended"]

    def set_scenario(self, **entries: Any) -> None:
        """Replace these entries of the scenario; the others stay."""
        self.call("POST", "/scenario", entries)

    def advance(self, seconds: float) -> None:
        """Move the clock: tasks end, links expire; what sleeps goes on sleeping."""
        self.call("POST", "/clock", {"advance_s": seconds})

    def reset(self) -> None:
        """Forget bill, rules, tasks, pictures and moved time; the scenario's other entries stay."""
        self.call("POST", "/reset")

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A control command; raises ValueError with the simulator's words when it is refused."""
        answer = self._control.request(method, path, json=body)
        if answer.is_error:
            raise ValueError(f"{method} {path}: {answer.text}")
        return answer.json()
