"""/_sim: read the bill, change what goes wrong, and move the clock while the simulator runs."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import orjson

from providers.simulator import tasks
from providers.simulator.errors import ScenarioError
from providers.simulator.rules import read_rule
from providers.simulator.scenario import read_scenario
from providers.simulator.state import State
from providers.simulator.wire import Reply, Request, reply_json

PREFIX = "/_sim/"


def serve(state: State, request: Request, *, control_key: str) -> Reply:
    """Open when no key is set."""
    if control_key and not hmac.compare_digest(request.key.encode(), control_key.encode()):
        return reply_json({"error": "the control key is needed: Authorization: Bearer …"}, status=401)
    command = _COMMANDS.get((request.method, request.path.removeprefix(PREFIX)))
    if command is None:
        known = [f"{method} {PREFIX}{name}" for method, name in _COMMANDS]
        return reply_json({"error": f"there is no such command; there are {', '.join(known)}"}, status=404)
    try:
        return command(state, request)
    except (ScenarioError, orjson.JSONDecodeError) as error:
        return reply_json({"error": str(error)}, status=400)


def _tell_health(state: State, request: Request) -> Reply:
    return reply_json({"status": "ok"})


def _tell_bill(state: State, request: Request) -> Reply:
    """`?entries=0` for the totals alone."""
    tasks.settle_all(state)
    return reply_json(state.bill.describe(with_entries=request.query.get("entries") != "0"))


def _reset_bill(state: State, request: Request) -> Reply:
    """What was due until now goes with the old bill."""
    tasks.settle_all(state)
    state.bill.reset()
    return reply_json({"status": "ok"})


def _tell_scenario(state: State, request: Request) -> Reply:
    return reply_json(state.scenario.raw)


def _change_scenario(state: State, request: Request) -> Reply:
    """Entries that are named replace the old ones; the others stay, and so do rules in force unless named."""
    changes = orjson.loads(request.body)
    if not isinstance(changes, dict):
        raise ScenarioError("a scenario is an object")
    rules = state.scenario.rules
    state.scenario = read_scenario({**state.scenario.raw, **changes})
    if "rules" not in changes:
        state.scenario.rules = rules
    return reply_json(state.scenario.raw)


def _add_rule(state: State, request: Request) -> Reply:
    state.scenario.rules.append(read_rule(orjson.loads(request.body)))
    return reply_json({"rules": len(state.scenario.rules)}, status=201)


def _clear_rules(state: State, request: Request) -> Reply:
    state.scenario.rules.clear()
    return reply_json({"rules": 0})


def _advance_clock(state: State, request: Request) -> Reply:
    """`{"advance_s": n}`: tasks come to their end, records and links grow old; nothing that sleeps wakes up."""
    body: Any = orjson.loads(request.body)
    seconds = body.get("advance_s") if isinstance(body, dict) else None
    if not isinstance(seconds, int | float) or seconds < 0:
        raise ScenarioError('the clock takes {"advance_s": seconds}')
    state.clock.advance(seconds)
    return reply_json({"now": state.clock.now()})


def _reset(state: State, request: Request) -> Reply:
    state.reset()
    return reply_json({"status": "ok"})


_COMMANDS: dict[tuple[str, str], Callable[[State, Request], Reply]] = {
    ("GET", "healthz"): _tell_health,
    ("GET", "bill"): _tell_bill,
    ("DELETE", "bill"): _reset_bill,
    ("GET", "scenario"): _tell_scenario,
    ("POST", "scenario"): _change_scenario,
    ("POST", "rules"): _add_rule,
    ("DELETE", "rules"): _clear_rules,
    ("POST", "clock"): _advance_clock,
    ("POST", "reset"): _reset,
}
