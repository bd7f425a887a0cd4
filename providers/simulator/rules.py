"""Where faults come from: rules of the scenario, a header, or the prompt; and whom they meet."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any

import orjson

from providers.simulator.errors import Refusal, ScenarioError
from providers.simulator.faults import STAGE_OF, Endpoint, Fault, Stage, Struck, read_fault

HEADER = "x-sim-fault"
_DIRECTIVE = re.compile(r"\[\[sim:([^\]]*)\]\]")
_ids = count(1)


@dataclass(frozen=True, slots=True)
class Facts:
    """The call that a rule is held against; `origin` is the endpoint that the order came in by."""

    endpoint: Endpoint
    origin: Endpoint | None = None
    model: str = ""
    prompt: str = ""
    key: str = ""
    account: str = ""

    @property
    def stage(self) -> Stage:
        return STAGE_OF[self.endpoint]


@dataclass(frozen=True, slots=True)
class Match:
    """Whom something meets; what is None does not matter."""

    endpoint: Endpoint | None = None
    model: str | None = None
    prompt_contains: str | None = None
    key: str | None = None
    account: str | None = None

    def fits(self, facts: Facts) -> bool:
        return (
            self.endpoint in {None, facts.endpoint, facts.origin}
            and self.model in {None, facts.model}
            and self.key in {None, facts.key}
            and self.account in {None, facts.account}
            and (self.prompt_contains is None or self.prompt_contains in facts.prompt)
        )


ANYBODY = Match()


@dataclass(slots=True)
class Rule:
    """A fault, whom it meets, and how often; `times` None is for ever. `raw` is what it was read from."""

    fault: Fault
    match: Match = ANYBODY
    times: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)
    id: int = field(default_factory=lambda: next(_ids))

    @property
    def stage(self) -> Stage:
        return self.fault.stage or (STAGE_OF[self.match.endpoint] if self.match.endpoint else Stage.SUBMIT)

    def fits(self, facts: Facts) -> bool:
        return self.times != 0 and self.stage is facts.stage and self.match.fits(facts)

    def describe(self) -> dict[str, Any]:
        """What was asked for, its id, and how often it will strike yet."""
        return {**self.raw, "id": self.id, "times": self.times}


def read_match(raw: Any) -> Match:
    """`{"endpoint", "model", "prompt_contains", "key", "account"}`, each optional. Raises ScenarioError."""
    known = [field.name for field in fields(Match)]
    if not isinstance(raw, Mapping) or not set(raw) <= set(known):
        raise ScenarioError(f"a match is an object with {', '.join(known)}")
    endpoint = raw.get("endpoint")
    if endpoint is not None and endpoint not in set(Endpoint):
        raise ScenarioError(f"unknown endpoint {endpoint!r}; there are {', '.join(Endpoint)}")
    return Match(**{**raw, "endpoint": Endpoint(endpoint) if endpoint is not None else None})


def read_rule(raw: Any) -> Rule:
    """`{"match": {…}, "fault": {…}, "times": n | null}`. Raises ScenarioError."""
    if not isinstance(raw, Mapping) or not set(raw) <= {"match", "fault", "times"}:
        raise ScenarioError('a rule is an object with "match", "fault" and "times"')
    return Rule(
        fault=read_fault(raw.get("fault")),
        match=read_match(raw.get("match") or {}),
        times=_read_times(raw.get("times")),
        raw=dict(raw),
    )


def _read_times(raw: Any) -> int | None:
    if raw is None:
        return None
    if not str(raw).isdigit():
        raise ScenarioError(f"times={raw!r} is not a whole number")
    return int(raw)


def read_directives(*, header: str = "", prompt: str = "", stage: Stage | None = None) -> list[Rule]:
    """The faults that one call asks for itself. Raises Refusal: a misspelt directive must not pass for success."""
    try:
        wanted = [*_parse_header(header), *_parse_prompt(prompt)]
        return [_read_directive(dict(raw), stage) for raw in wanted]
    except (ScenarioError, ValueError, TypeError) as error:
        raise Refusal("InvalidParameter", f"simulator directive: {error}") from error


def _read_directive(raw: dict[str, Any], stage: Stage | None) -> Rule:
    times = _read_times(raw.pop("times", None))
    fault = read_fault(raw)
    return Rule(Fault(fault.name, fault.stage or stage, fault.options), times=times)


def _parse_header(header: str) -> Iterator[Mapping[str, Any]]:
    if header:
        parsed = orjson.loads(header)
        yield from parsed if isinstance(parsed, list) else [parsed]


def _parse_prompt(prompt: str) -> Iterator[Mapping[str, Any]]:
    for directive in _DIRECTIVE.findall(prompt):
        name, *options = shlex.split(directive)
        yield {"name": name, **dict(option.split("=", 1) for option in options)}


def strike(facts: Facts, *books: Iterable[Rule]) -> Struck:
    """Take from the rules what fits this call, and count it."""
    taken = []
    for rule in (rule for book in books for rule in book if rule.fits(facts)):
        if rule.times is not None:
            rule.times -= 1
        taken.append(rule.fault)
    return Struck(taken)
