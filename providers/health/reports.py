"""Reports of calls, written into the rows that all processes read: windows, circuits, cool-downs, canaries.

No report waits for another transaction: rows that are being written elsewhere are skipped and their reports given back,
so that a group commit with customers' money in it never queues behind a health row, nor deadlocks over one.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement, read_moment
from providers.alerts import Trouble, raise_alerts
from providers.contract import Billed
from providers.health.circuits import OPEN, Pulse, Seen, judge_canary
from providers.health.disabling import Refusal, disable_refused
from providers.health.effects import DISABLING, Effect, find_effect

logger = logging.getLogger(__name__)

CANARY_FALLEN = "canary_fallen"


@dataclass(frozen=True, slots=True)
class Report:
    """How one call at an offer ended. `code`, `scope`, `billed` and `detail` are those of a ProviderError.

    `ms` is how long the call took, `age_s` how long ago it ended. `trial` says that the call went to a half-open
    circuit, which it then decides about.
    """

    offer_id: int
    channel_id: int
    credential_id: int
    ok: bool
    code: str = ""
    scope: str = ""
    billed: str = ""
    detail: str = ""
    ms: int = 0
    retry_after_s: float | None = None
    generation_id: str = ""
    trial: bool = False
    age_s: float = 0.0

    @property
    def effect(self) -> Effect:
        """NONE for a call that went well, too."""
        return Effect.NONE if self.ok else find_effect(self.code, self.scope, self.billed or Billed.NO)

    @property
    def is_written(self) -> bool:
        """Whether a row is to know of it. A customer's fault is none of the upstream's, unless it used up a trial."""
        return self.ok or self.trial or self.effect is not Effect.NONE


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a canary that has not fallen."""

    min_success: int | None
    max_latency_s: int | None


# For rows that are not there: PostgreSQL waits here for whoever is writing one. In id order, so that two first reports
# of the same offers wait for each other in one order. Offers that are gone get no row.
MAKE_ROWS = Statement(
    """
    INSERT INTO providers_offerhealth (offer_id, circuit, reason, pause_s, probe_owner, cooling_reason, recent,
        latency_ms)
    SELECT o.id, 'closed', '', 0, '', '', '[]', 0 FROM {rows} JOIN providers_offer o ON o.id = r.offer_id
    ORDER BY o.id
    ON CONFLICT (offer_id) DO NOTHING
    """,
    offer_id="bigint",
)

LOCK_ROWS = Statement(
    """
    SELECT h.offer_id, h.circuit, h.reason, h.changed_at, h.pause_s, h.cooling_until, h.cooling_reason, h.recent,
        h.latency_ms, h.probe_owner, o.canary_percent IS NOT NULL AND o.canary_fallen_at IS NULL, o.canary_min_success,
        o.canary_max_latency_s, {now}
    FROM {rows} JOIN providers_offerhealth h ON h.offer_id = r.offer_id JOIN providers_offer o ON o.id = h.offer_id
    ORDER BY h.offer_id
    {claim:h}
    """,
    offer_id="bigint",
)

FIND_ROWS = Statement(
    "SELECT h.offer_id FROM {rows} JOIN providers_offerhealth h ON h.offer_id = r.offer_id", offer_id="bigint"
)

STORE_ROWS = Statement(
    """
    UPDATE providers_offerhealth
    SET circuit = r.circuit, reason = r.reason, pause_s = r.pause_s, recent = r.recent, latency_ms = r.latency_ms,
        changed_at = CASE WHEN r.moved THEN {now} ELSE changed_at END,
        retry_at = CASE WHEN r.moved THEN {later:r.retry_s} ELSE retry_at END,
        probe_owner = CASE WHEN r.freed THEN '' ELSE probe_owner END,
        probe_until = CASE WHEN r.freed THEN NULL ELSE probe_until END,
        cooling_until = CASE WHEN r.cooling_s IS NULL THEN cooling_until ELSE {later:r.cooling_s} END,
        cooling_reason = r.cooling_reason
    FROM {rows} WHERE providers_offerhealth.offer_id = r.offer_id
    """,
    offer_id="bigint",
    circuit="text",
    reason="text",
    moved="boolean",
    freed="boolean",
    pause_s="integer",
    retry_s="float8",
    recent="jsonb",
    latency_ms="integer",
    cooling_s="float8",
    cooling_reason="text",
)

DROP_CANARIES = Statement(
    """
    UPDATE providers_offer SET canary_fallen_at = {now}, canary_fallen_reason = r.reason
    FROM {rows}
    WHERE providers_offer.id = r.offer_id AND canary_percent IS NOT NULL AND canary_fallen_at IS NULL
    RETURNING providers_offer.id, providers_offer.channel_id
    """,
    offer_id="bigint",
    reason="text",
)


def record_reports(connection: BaseDatabaseWrapper, items: Sequence[Report]) -> list[bool]:
    """Write what the reports say; False for one whose row another transaction is writing now: report it again.

    Repeated after a lost commit, calls are counted twice in a window; circuits, cool-downs and what is disabled come
    out the same.
    """
    calls = [item for item in items if item.is_written and item.effect not in DISABLING]
    skipped = record_calls(connection, calls)
    disable_refused(connection, [describe_refusal(item) for item in items if item.effect in DISABLING])
    return [item.offer_id not in skipped or item.effect in DISABLING or not item.is_written for item in items]


def record_calls(connection: BaseDatabaseWrapper, items: Sequence[Report]) -> set[int]:
    """Calls that concern the rows; the offers whose rows are being written elsewhere."""
    by_offer: dict[int, list[Report]] = defaultdict(list)
    for item in items:
        by_offer[item.offer_id].append(item)
    if not by_offer:
        return set()
    locked, skipped = lock_rows(connection, set(by_offer))
    stored: list[dict[str, Any]] = []
    fallen: dict[int, str] = {}
    for *columns, watched, min_success, max_latency_s, clock in locked:
        pulse, now = read_pulse(columns), read_moment(clock).timestamp()
        for report in sorted(by_offer[pulse.offer_id], key=lambda one: -one.age_s):
            note_report(pulse, report, now)
        stored.append(make_row(pulse, now))
        if watched and (why := judge_canary(pulse.recent, min_success=min_success, max_latency_s=max_latency_s)):
            fallen[pulse.offer_id] = why
    if stored:
        STORE_ROWS.send(connection, stored)
    drop_canaries(connection, fallen)
    return skipped


def lock_rows(connection: BaseDatabaseWrapper, ids: set[int]) -> tuple[list[tuple[Any, ...]], set[int]]:
    """The rows of these offers under their locks, made where there are none, and the ids of those locked elsewhere."""
    locked = ask(LOCK_ROWS, connection, ids)
    rest = ids - {row[0] for row in locked}
    missing = rest - {pk for (pk,) in ask(FIND_ROWS, connection, rest)}
    if missing:
        MAKE_ROWS.send(connection, [{"offer_id": one} for one in missing])
        locked += ask(LOCK_ROWS, connection, missing)
    rest = ids - {row[0] for row in locked}
    return locked, {pk for (pk,) in ask(FIND_ROWS, connection, rest)}


def ask(statement: Statement, connection: BaseDatabaseWrapper, ids: set[int]) -> list[tuple[Any, ...]]:
    return statement.run(connection, [{"offer_id": one} for one in sorted(ids)]) if ids else []


def note_report(pulse: Pulse, report: Report, now: float) -> None:
    seen = Seen(round(now - report.age_s, 3), int(report.ok), report.ms, report.code)
    before = pulse.circuit
    if report.ok:
        pulse.note_success(seen, on_trial=report.trial)
    elif report.effect is Effect.FAULT:
        pulse.note_fault(seen, report.detail, on_trial=report.trial)
    else:
        pulse.free_trial(report.generation_id)
        if report.effect is Effect.COOL:
            pulse.note_throttle(seen, report.detail, retry_after_s=report.retry_after_s)
    if pulse.circuit != before:
        logger.warning("the circuit of offer %d is %s: %s", pulse.offer_id, pulse.circuit, pulse.reason)


def read_pulse(columns: Sequence[Any]) -> Pulse:
    offer_id, circuit, reason, changed_at, pause_s, cooling_until, cooling_reason, recent, latency_ms, owner = columns
    return Pulse(
        offer_id=offer_id,
        circuit=circuit,
        reason=reason,
        changed_at=read_epoch(changed_at),
        pause_s=pause_s,
        cooling_until=read_epoch(cooling_until) or 0.0,
        cooling_reason=cooling_reason,
        # PostgreSQL's driver gives JSON parsed, SQLite's as text.
        recent=[Seen(*one) for one in (orjson.loads(recent) if isinstance(recent, str) else recent)],
        latency_ms=latency_ms,
        probe_owner=owner,
    )


def read_epoch(moment: datetime | str | None) -> float | None:
    return None if moment is None else read_moment(moment).timestamp()


def make_row(pulse: Pulse, now: float) -> dict[str, Any]:
    return {
        "offer_id": pulse.offer_id,
        "circuit": pulse.circuit,
        "reason": pulse.reason,
        "moved": pulse.moved,
        "freed": pulse.moved or pulse.freed,
        "pause_s": pulse.pause_s,
        "retry_s": pulse.pause_s if pulse.circuit == OPEN else None,
        "recent": [list(seen) for seen in pulse.recent],
        "latency_ms": pulse.latency_ms,
        "cooling_s": pulse.cooling_until - now if pulse.cooled else None,
        "cooling_reason": pulse.cooling_reason,
    }


def drop_canaries(connection: BaseDatabaseWrapper, reasons: dict[int, str]) -> None:
    """Canaries that broke their bounds serve nobody any more."""
    if not reasons:
        return
    rows = [{"offer_id": pk, "reason": why[:300]} for pk, why in sorted(reasons.items())]
    dropped = DROP_CANARIES.run(connection, rows)
    raise_alerts(
        connection,
        [Trouble(CANARY_FALLEN, f"offer {pk}", f"The canary fell back: {reasons[pk]}", by) for pk, by in dropped],
    )


def describe_refusal(report: Report) -> Refusal:
    text = f"{report.code}: {report.detail}" if report.detail else report.code
    if report.generation_id:
        text = f"{text[:250]} ({report.generation_id})"
    return Refusal(report.effect, report.offer_id, report.channel_id, report.credential_id, text)
