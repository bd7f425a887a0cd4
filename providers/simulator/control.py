"""/_sim: read the bill, change what goes wrong, and move the clock while the simulator runs.

GET|DELETE       bill        totals and entries, what was throttled, how densely was asked; a new one
GET|POST         scenario    limits, latency, accounts, … in force; entries that are named replace the old ones
GET|POST|DELETE  rules       faults, for ever or so many times, for all or whom they match
GET|POST|DELETE  outages     {"match": {"account": "acme"}}: refused everything until DELETE outages?account=acme
POST             clock       {"advance_s": n}
POST             reset       forget everything but the scenario
GET              healthz
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import orjson

from providers.simulator import tasks
from providers.simulator.bill import KEPT
from providers.simulator.errors import ScenarioError
from providers.simulator.rules import read_rule
from providers.simulator.scenario import read_scenario
from providers.simulator.state import State
from providers.simulator.wire import Reply, Request, reply_json

PREFIX = "/_sim/"


def serve(state: State, request: Request, *, control_key: str) -> Reply:
    """Open when no key is set."""
    shown = request.key if request.scheme == "bearer" else ""
    if control_key and not hmac.compare_digest(shown.encode(), control_key.encode()):
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
    """`?entries=0` for the totals alone; `?after=N&limit=M` for the next M entries numbered above N."""
    tasks.settle_all(state)
    query = request.query
    limit = 0 if query.get("entries") == "0" else _read_number(query, "limit", KEPT)
    bill = state.bill.describe(after=_read_number(query, "after", 0), limit=limit)
    return reply_json({**bill, **state.traffic.describe()})


def _read_number(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit():
        raise ScenarioError(f"{name}={text!r} is not a whole number")
    return int(text)


def _reset_bill(state: State, request: Request) -> Reply:
    """What was due until now goes with the old bill."""
    tasks.settle_all(state)
    state.reset_bill()
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


def _list_rules(state: State, request: Request) -> Reply:
    return reply_json({"rules": [rule.describe() for rule in state.scenario.rules]})


def _add_rule(state: State, request: Request) -> Reply:
    rule = read_rule(orjson.loads(request.body))
    state.scenario.rules.append(rule)
    return reply_json({"id": rule.id, "rules": len(state.scenario.rules)}, status=201)


def _clear_rules(state: State, request: Request) -> Reply:
    """All of them, or the one of `?id=`."""
    number = request.query.get("id")
    state.scenario.rules[:] = [rule for rule in state.scenario.rules if number not in {None, str(rule.id)}]
    return reply_json({"rules": len(state.scenario.rules)})


def _list_outages(state: State, request: Request) -> Reply:
    return reply_json({"outages": state.outages.describe(now=state.clock.now())})


def _begin_outage(state: State, request: Request) -> Reply:
    """Whoever matches is refused everything, from now until it is ended, or for so many seconds."""
    outage = state.outages.begin(orjson.loads(request.body or b"{}"), now=state.clock.now())
    return reply_json(outage.describe(), status=201)


def _end_outages(state: State, request: Request) -> Reply:
    """All of them, or those of `?id=`, `?account=` or `?key=`: they recover."""
    query = request.query
    known = {"id": "number", "account": "account", "key": "key"}
    if unknown := sorted(set(query) - set(known)):
        raise ScenarioError(f"outages are ended by {', '.join(known)}, not by {', '.join(unknown)}")
    return reply_json({"ended": state.outages.end(**{known[name]: text for name, text in query.items()})})


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
    ("GET", "rules"): _list_rules,
    ("POST", "rules"): _add_rule,
    ("DELETE", "rules"): _clear_rules,
    ("GET", "outages"): _list_outages,
    ("POST", "outages"): _begin_outage,
    ("DELETE", "outages"): _end_outages,
    ("POST", "clock"): _advance_clock,
    ("POST", "reset"): _reset,
}
