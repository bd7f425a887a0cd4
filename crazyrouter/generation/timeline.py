"""The attempts of one generation as an operator reads them: what was tried where, when, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from crazyrouter.generation.models import Attempt, Generation

COLOURS = {
    Attempt.State.CREATED: "info",
    Attempt.State.REJECTED: "danger",
    Attempt.State.ACCEPTED: "info",
    Attempt.State.SUCCEEDED: "success",
    Attempt.State.FAILED: "danger",
    Attempt.State.UNKNOWN: "warning",
}
BILLED = {"no": "not charged by the carrier", "yes": "charged by the carrier", "unknown": "may be charged"}


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened, and how long after the request came."""

    what: str
    at: datetime
    after: str


@dataclass(frozen=True, slots=True)
class Candidate:
    channel: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt with everything that its line in the timeline shows."""

    attempt: Attempt
    colour: str
    slots: str
    billed: str
    moments: tuple[Moment, ...]
    candidates: tuple[Candidate, ...]


def describe_attempts(generation: Generation, attempts: Iterable[Attempt]) -> list[Step]:
    return [describe_attempt(generation, attempt) for attempt in attempts]


def describe_attempt(generation: Generation, attempt: Attempt) -> Step:
    ended = attempt.get_state_display().lower()
    times = (("sent", attempt.created_at), ("accepted", attempt.accepted_at), (ended, attempt.ended_at))
    return Step(
        attempt=attempt,
        colour=COLOURS.get(Attempt.State(attempt.state), "info"),
        slots=", ".join(map(str, attempt.slots)),
        billed=BILLED.get(attempt.billed, attempt.billed),
        moments=tuple(Moment(what, at, format_after(generation.created_at, at)) for what, at in times if at),
        candidates=tuple(read_candidates(attempt)),
    )


def read_candidates(attempt: Attempt) -> Iterable[Candidate]:
    """Whom the routing had drawn, in its order; the one that this attempt went to is marked."""
    for candidate in attempt.routing.get("candidates", ()):
        yield Candidate(str(candidate.get("channel", "?")), chosen=candidate.get("offer") == attempt.offer_id)


def format_after(start: datetime, at: datetime) -> str:
    return f"+{(at - start).total_seconds():.2f} s"


def format_duration(generation: Generation) -> str:
    """From the request to its end; a dash while it runs."""
    if generation.finished_at is None:
        return "–"
    return f"{(generation.finished_at - generation.created_at).total_seconds():.1f} s"


def describe_options(generation: Generation) -> list[tuple[str, Any]]:
    return sorted(generation.options.items())
