"""Orders that nobody could take, added to the hours in which they were refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement

#: (hours since 1970, model) -> how many.
Refused = Counter[tuple[int, int]]

# A model that was deleted since is left out: its row would fail those beside it.
ADD_TURNED_AWAY = Statement(
    """
    INSERT INTO generation_servicehour
        (model_id, hour, served, failed, unfit, turned_away, running, latency, final)
    SELECT r.model_id, r.hour, 0, 0, 0, r.turned_away, 0, '{}', false
    FROM {rows} JOIN models_registry_imagemodel m ON m.id = r.model_id
    ORDER BY r.hour, r.model_id
    ON CONFLICT (hour, model_id)
    DO UPDATE SET turned_away = generation_servicehour.turned_away + excluded.turned_away
    """,
    model_id="bigint",
    hour="timestamptz",
    turned_away="integer",
)


def add_turned_away(connection: BaseDatabaseWrapper, items: Sequence[Refused]) -> list[None]:
    """Added to what the rows have, whichever process wrote it.

    Unlike the other writes it does more when it is repeated: a connection that is lost while it commits may count a few
    seconds' refusals twice.
    """
    # In one order everywhere, so that two batches over the same rows cannot deadlock.
    refused = sorted(sum(items, Refused()).items())
    rows = [
        {"model_id": model_id, "hour": render_hour(connection, hour), "turned_away": count}
        for (hour, model_id), count in refused
    ]
    ADD_TURNED_AWAY.send(connection, rows)
    return [None] * len(items)


def render_hour(connection: BaseDatabaseWrapper, hour: int) -> str:
    return str(connection.ops.adapt_datetimefield_value(datetime.fromtimestamp(hour * 3600, UTC)))
