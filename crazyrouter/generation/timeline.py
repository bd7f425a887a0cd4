"""The attempts of one generation as an operator reads them: what was tried where, when, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from crazyrouter.generation.models import Attempt, Generation
from providers.sizes import name_size, name_sizes
from providers.words import count, describe_ms

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
    why: str
    exclusions: tuple[str, ...]
    comparison: str


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
        why=tell_why(attempt),
        exclusions=tuple(f"{name_channel(one)}: {one.get('why', '')}" for one in read_list(attempt, "excluded")),
        comparison=tell_comparison(attempt.comparison) if attempt.comparison else "",
    )


def read_candidates(attempt: Attempt) -> Iterable[Candidate]:
    """Whom the routing had drawn, in its order; the one that this attempt went to is marked."""
    for candidate in read_list(attempt, "candidates"):
        yield Candidate(name_channel(candidate), chosen=candidate.get("offer") == attempt.offer_id)


# --- why it went there ---

#: What routing says of an offer at the moment of the choice, as it is told afterwards.
PAST = (
    (re.compile(r"\bis\b"), "was"),
    (re.compile(r"\bhas\b"), "had"),
    (re.compile(r"\bdoes not (\w+)"), r"did not \1"),
    (re.compile(r"\bspeaks\b"), "spoke"),
    (re.compile(r"\bcools\b"), "cooled"),
    (re.compile(r"\bserves\b"), "served"),
    (re.compile(r"\btries\b"), "tried"),
    (re.compile(r"\brun there\b"), "ran there"),
    (re.compile(r"\bwait for\b"), "waited for"),
)
#: Taken out of service by an operator: every request finds it so, and the list below the sentence names it.
SWITCHED_OFF = ("the offer is disabled", "the channel is disabled", "its weight is 0", "a shadow serves no customer")
#: What routing says of a candidate that had its turn.
TRIED = "it was tried before"
#: What routing calls the reason of a request's first calls, whichever of the candidates had room.
FIRST_CHOICE = "the first choice"
#: Below this nobody waited: it is the time that a commit takes.
NO_WAIT_S = 0.05


def tell_why(attempt: Attempt) -> str:
    """In one sentence why the attempt went where it did; empty for what keeps no record of it."""
    if not attempt.routing:
        return ""
    head = f"{'Copied' if attempt.purpose == Attempt.Purpose.SHADOW else 'Sent'} to {attempt.channel}"
    if wait := tell_wait(attempt.routing):
        head += f" {wait}"
    reason = tell_reason(attempt)
    head += f", {reason}" if reason else ""
    # A carrier's words end as the carrier likes.
    others = "; ".join(one.rstrip(".") for one in (*tell_busy(attempt), *tell_excluded(attempt)))
    between = "; " if ": " in reason else ": "
    return head + (between + others if others else "") + "."


def tell_wait(routing: Mapping[str, Any]) -> str:
    waited, ahead = routing.get("waited_s") or 0.0, routing.get("ahead") or 0
    if waited < NO_WAIT_S:
        return ""
    return f"after {waited:.1f} s in the queue" + (f" behind {count(ahead, 'call')}" if ahead else "")


def tell_reason(attempt: Attempt) -> str:
    """Routing's own word; for rows older than that the place among the candidates."""
    if reason := str(attempt.routing.get("reason") or ""):
        passed_over = reason == FIRST_CHOICE and read_list(attempt, "busy")
        return "the first with room" if passed_over else reason
    offers = [candidate.get("offer") for candidate in read_list(attempt, "candidates")]
    if attempt.offer_id not in offers:
        return ""
    place = offers.index(attempt.offer_id) + 1
    if len(offers) == 1:
        return "the only candidate"
    return "the first candidate" if place == 1 else f"candidate {place} of {len(offers)}"


def tell_busy(attempt: Attempt) -> Iterator[str]:
    for one in read_list(attempt, "busy"):
        yield f"{name_channel(one)} had no room ({put_into_past(str(one.get('why', 'busy')))})"


def tell_excluded(attempt: Attempt) -> Iterator[str]:
    """But for what an operator switched off, and for the one whose failure is the reason already."""
    reason = str(attempt.routing.get("reason") or "")
    for one in read_list(attempt, "excluded"):
        why = str(one.get("why", ""))
        told = why == TRIED and reason.startswith(f"after {one.get('channel')} failed")
        if not told and not why.startswith(SWITCHED_OFF):
            yield f"{name_channel(one)} was excluded because {put_into_past(why)}"


def tell_comparison(found: Mapping[str, Any]) -> str:
    """A copy beside what the customer got, as `shadowing.compare` keeps it."""
    customer = found["customer"]
    ours = f"{found['images']} of {count(found['wanted'], 'image')} after {describe_ms(found['latency_ms'])}"
    theirs = f"the customer got {customer['images']} after {describe_ms(customer['latency_ms'])}"
    asked = tuple(found["asked"])
    other = [size for size in dict.fromkeys(map(tuple, found["sizes"])) if size != asked]
    sizes = f", {name_sizes(other)} where {name_size(asked)} was asked" if other else ""
    return f"{ours}{tell_failure(found)}{sizes}; {theirs}{tell_failure(customer)}."


def tell_failure(found: Mapping[str, Any]) -> str:
    return f" ({found['failure']})" if found["failure"] else ""


def put_into_past(why: str) -> str:
    """`its circuit is open: 5 timeouts` -> `its circuit was open: 5 timeouts`; a carrier's words stay as they are."""
    ours, colon, theirs = why.partition(": ")
    if ours.startswith(("a ", "an ")):
        ours = f"it is {ours}"
    for present, past in PAST:
        ours = present.sub(past, ours)
    return ours + colon + theirs


def read_list(attempt: Attempt, name: str) -> Sequence[Mapping[str, Any]]:
    found = attempt.routing.get(name)
    return found if isinstance(found, list) else ()


def name_channel(record: Mapping[str, Any]) -> str:
    """With its priority, where the record keeps it."""
    channel = str(record.get("channel", "?"))
    return f"{channel} (priority {record['priority']})" if "priority" in record else channel


def format_after(start: datetime, at: datetime) -> str:
    return f"+{(at - start).total_seconds():.2f} s"


def format_duration(generation: Generation) -> str:
    """From the request to its end; a dash while it runs."""
    if generation.finished_at is None:
        return "–"
    return f"{(generation.finished_at - generation.created_at).total_seconds():.1f} s"


def describe_options(generation: Generation) -> list[tuple[str, Any]]:
    return sorted(generation.options.items())
