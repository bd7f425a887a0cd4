"""How an offer with an open circuit comes back: one probe over all processes, then one real call.

A row's claim says who may try it now, and until when. Claims run out, so that a process that died holds nothing up.

open, its pause over        one process claims it, `half_open`, and makes the carrier's free call
half-open, claimed          being probed, or tried by one real call
half-open, unclaimed        the free call went well, or there is none: the next real call may claim it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement
from providers.health.circuits import FIRST_PAUSE_S, LONGEST_PAUSE_S

#: Longer than any adapter's free call lasts, and what is written around it.
PROBE_S = 30
#: Longer than pictures take. A call may be under way much longer, and the circuit has then to wait for another.
TRIAL_S = 120
#: How many a process probes at a time.
MOST_PROBES = 20
#: What names of probers begin with. A probe that was never finished is made again before any real call goes there.
PROBER = "probe."
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a probe. `ok` also where the carrier has no free call."""

    offer_id: int
    owner: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """A call that would go to a half-open circuit. `owner` names the call, at most 60 characters, and no other call:
    a claim that is repeated after a lost commit is granted again. It holds the generation's id.
    """

    offer_id: int
    owner: str


IS_DUE = """(circuit = 'open' AND (retry_at IS NULL OR retry_at <= {now})
    OR circuit = 'half_open' AND probe_until <= {now})"""

# What somebody else has locked is being claimed or decided; what was not locked is looked at again by the UPDATE.
CLAIM_PROBES = Statement(
    f"""
    WITH due AS MATERIALIZED (
        SELECT h.offer_id FROM providers_offerhealth h
        JOIN providers_offer o ON o.id = h.offer_id JOIN providers_channel c ON c.id = o.channel_id
        WHERE {IS_DUE} AND o.enabled AND c.enabled AND c.draining_since IS NULL
        ORDER BY h.retry_at, h.offer_id LIMIT {MOST_PROBES} {{claim:h}})
    UPDATE providers_offerhealth
    SET circuit = 'half_open', changed_at = CASE WHEN circuit = 'open' THEN {{now}} ELSE changed_at END,
        probe_owner = r.owner, probe_until = {{later:{PROBE_S}}}
    FROM {{rows}}
    WHERE offer_id IN (SELECT offer_id FROM due) AND {IS_DUE}
    RETURNING offer_id
    """,  # noqa: S608 - constants of this module
    owner="text",
)

PASS_PROBES = Statement(
    """
    UPDATE providers_offerhealth SET probe_owner = '', probe_until = NULL
    FROM {rows}
    WHERE providers_offerhealth.offer_id = r.offer_id AND circuit = 'half_open' AND probe_owner = r.owner
    RETURNING providers_offerhealth.offer_id
    """,
    offer_id="bigint",
    owner="text",
)

NEXT_PAUSE = f"""CASE WHEN pause_s * 2 < {FIRST_PAUSE_S} THEN {FIRST_PAUSE_S}
    WHEN pause_s * 2 > {LONGEST_PAUSE_S} THEN {LONGEST_PAUSE_S} ELSE pause_s * 2 END"""

FAIL_PROBES = Statement(
    f"""
    UPDATE providers_offerhealth
    SET circuit = 'open', changed_at = {{now}}, reason = r.reason, pause_s = {NEXT_PAUSE},
        retry_at = {{later:{NEXT_PAUSE}}}, probe_owner = '', probe_until = NULL
    FROM {{rows}}
    WHERE providers_offerhealth.offer_id = r.offer_id AND circuit = 'half_open' AND probe_owner = r.owner
    RETURNING providers_offerhealth.offer_id
    """,  # noqa: S608 - constants of this module
    offer_id="bigint",
    owner="text",
    reason="text",
)

# A row that somebody else is writing is not waited for: a group commit stands behind this one.
CLAIM_TRIALS = Statement(
    f"""
    WITH wanted AS MATERIALIZED (
        SELECT h.offer_id, r.owner
        FROM {{rows}} JOIN providers_offerhealth h ON h.offer_id = r.offer_id
        WHERE h.circuit = 'half_open'
        ORDER BY h.offer_id {{claim:h}})
    UPDATE providers_offerhealth SET probe_owner = wanted.owner, probe_until = {{later:{TRIAL_S}}}
    FROM wanted
    WHERE providers_offerhealth.offer_id = wanted.offer_id AND circuit = 'half_open'
      AND (probe_until IS NULL OR probe_until <= {{now}} AND probe_owner NOT LIKE '{PROBER}%%'
        OR probe_owner = wanted.owner)
    """,  # noqa: S608 - constants of this module
    offer_id="bigint",
    owner="text",
)

READ_HOLDERS = Statement(
    """
    SELECT h.offer_id, CASE WHEN h.circuit = 'half_open' AND h.probe_until > {now} THEN h.probe_owner ELSE '' END
    FROM {rows} JOIN providers_offerhealth h ON h.offer_id = r.offer_id
    WHERE h.circuit <> 'closed'
    """,
    offer_id="bigint",
)

RELEASE_TRIALS = Statement(
    """
    UPDATE providers_offerhealth SET probe_owner = '', probe_until = NULL
    FROM {rows}
    WHERE providers_offerhealth.offer_id = r.offer_id AND circuit = 'half_open' AND probe_owner = r.owner
    """,
    offer_id="bigint",
    owner="text",
)


def claim_probes(connection: BaseDatabaseWrapper, owners: Sequence[str]) -> list[tuple[int, ...]]:
    """Circuits whose pause is over: the offers that each owner is to probe, each offer for one of them only."""
    return [tuple(pk for (pk,) in CLAIM_PROBES.run(connection, [{"owner": name_prober(owner)}])) for owner in owners]


def name_prober(owner: str) -> str:
    return f"{PROBER}{owner}"[:LONGEST_NAME]


def finish_probes(connection: BaseDatabaseWrapper, items: Sequence[Probed]) -> list[bool]:
    """Let one real call through, or open again for twice as long; False where the claim had run out."""
    passed = [{"offer_id": item.offer_id, "owner": name_prober(item.owner)} for item in items if item.ok]
    failed = [
        {
            "offer_id": item.offer_id,
            "owner": name_prober(item.owner),
            "reason": f"the probe failed: {item.detail}"[:300],
        }
        for item in items
        if not item.ok
    ]
    written: set[int] = set()
    for statement, rows in ((PASS_PROBES, passed), (FAIL_PROBES, failed)):
        if rows:
            written.update(
                pk for (pk,) in statement.run(connection, sorted(rows, key=lambda row: str(row["offer_id"])))
            )
    return [item.offer_id in written for item in items]


def claim_trials(connection: BaseDatabaseWrapper, items: Sequence[Trial]) -> list[bool]:
    """Which of these calls may go: one for each half-open circuit, and any where it has closed meanwhile.

    To be called inside the transaction that grants the call. It waits for no lock.
    """
    # One for each offer; a claim that is repeated behind it is still found below.
    first = {item.offer_id: item for item in reversed(items)}
    rows = [{"offer_id": pk, "owner": item.owner} for pk, item in sorted(first.items())]
    if rows:
        CLAIM_TRIALS.send(connection, rows)
    holders: dict[int, str] = dict(READ_HOLDERS.run(connection, rows)) if rows else {}
    return [item.offer_id not in holders or holders[item.offer_id] == item.owner for item in items]


def release_trials(connection: BaseDatabaseWrapper, items: Sequence[Trial]) -> list[None]:
    """These calls are not made after all: the next may have the trial."""
    RELEASE_TRIALS.send(connection, [{"offer_id": item.offer_id, "owner": item.owner} for item in items])
    return [None] * len(items)
