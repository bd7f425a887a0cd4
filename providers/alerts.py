"""Trouble that needs a person: one open row for each, however often it is met, until somebody has seen to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from crazyrouter.sql import Statement
from providers.models import Alert

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What an alert says. `kind` and `subject` (`channel 3`, `offer 7`) make it the same trouble or another."""

    kind: str
    subject: str
    text: str
    channel_id: int | None = None
    times: int = 1


# `WHERE true`: without it SQLite reads ON as a join's.
RAISE_ALERTS = Statement(
    """
    INSERT INTO providers_alert (kind, subject, channel_id, text, times, created_at, last_at, resolved_by)
    SELECT r.kind, r.subject, r.channel_id, r.text, r.times, {now}, {now}, '' FROM {rows} WHERE true
    ON CONFLICT (kind, subject) WHERE resolved_at IS NULL DO UPDATE
    SET times = providers_alert.times + excluded.times, last_at = excluded.last_at, text = excluded.text
    RETURNING kind, subject, times
    """,
    kind="text",
    subject="text",
    channel_id="bigint",
    text="text",
    times="integer",
)

REPEAT_ALERTS = Statement(
    """
    UPDATE providers_alert SET times = providers_alert.times + r.times, last_at = {now}
    FROM {rows}
    WHERE providers_alert.kind = r.kind AND providers_alert.subject = r.subject AND resolved_at IS NULL
    """,
    kind="text",
    subject="text",
    times="integer",
)


def raise_alerts(connection: BaseDatabaseWrapper, troubles: Sequence[Trouble]) -> None:
    """Open an alert for each, or raise the count of the one that is open. What is new is logged as an error.

    Not twice the same kind and subject in one call.
    """
    if not troubles:
        return
    # Sorted, so that two transactions that raise the same alerts wait for each other in one order.
    rows = sorted((asdict(trouble) | {"text": trouble.text[:500]} for trouble in troubles), key=sort_alert)
    counts = {(kind, subject): times for kind, subject, times in RAISE_ALERTS.run(connection, rows)}
    for trouble in troubles:
        if counts[trouble.kind, trouble.subject] == trouble.times:
            logger.error("%s (%s): %s", trouble.subject, trouble.kind, trouble.text)


def repeat_alerts(connection: BaseDatabaseWrapper, troubles: Sequence[Trouble]) -> None:
    """The same again: raises the count of what is open, and opens nothing."""
    rows = [{"kind": one.kind, "subject": one.subject, "times": one.times} for one in troubles]
    if rows:
        REPEAT_ALERTS.send(connection, sorted(rows, key=sort_alert))


def sort_alert(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["kind"]), str(row["subject"])


def resolve_alert(alert: Alert, *, actor: str) -> bool:
    """Somebody has seen to it; the same trouble opens a new one. False where it was resolved already."""
    open_still = Alert.objects.filter(pk=alert.pk, resolved_at=None)
    return bool(open_still.update(resolved_at=timezone.now(), resolved_by=actor[:150]))
