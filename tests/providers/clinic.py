"""An offer whose health is looked at, and short words for what happens to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction

from crazyrouter.sql import read_clock
from providers.health import Report, record_reports
from providers.models import Channel, Credential, Offer, OfferHealth
from tests.shop import open_channel

MODEL = "qwen-image-2.0"


def open_offer(base_url: str = "http://127.0.0.1:9/api/v1", kind: str = "dashscope_sync", **options: Any) -> Offer:
    """One offer on a channel of its own."""
    return open_channel(base_url, kind, {MODEL: 1}, **options).offers.get()


def report(offer: Offer, code: str = "", **facts: Any) -> Report:
    """A call with the channel's newest credential: it went well unless a code says otherwise."""
    credential = Credential.objects.filter(channel_id=offer.channel_id).order_by("-id").values_list("id", flat=True)[0]
    defaults = {"scope": "offer", "billed": "no"} if code else {}
    return Report(
        offer.pk, offer.channel_id, facts.pop("credential_id", credential), not code, code, **defaults | facts
    )


def record(*reports: Report) -> list[bool]:
    """In a transaction of their own, as the lane does."""
    with transaction.atomic():
        return record_reports(connection, reports)


def read_health(offer: Offer) -> OfferHealth:
    return OfferHealth.objects.get(pk=offer.pk)


def make_health(offer: Offer, circuit: str, **columns: Any) -> OfferHealth:
    return OfferHealth.objects.create(offer=offer, circuit=circuit, **columns)


def count_seconds(offer: Offer, column: str) -> float:
    """How far from now a moment of the row is."""
    return float((getattr(read_health(offer), column) - read_clock(connection)).total_seconds())


def write(operation: Any, items: Sequence[Any]) -> Any:
    """An operation of the lane in a transaction of its own."""
    with transaction.atomic():
        return operation(connection, items)


def read_versions(row: Channel | Offer) -> list[tuple[bool, str | None]]:
    """The history of a row, oldest first: whether it was enabled, and the reason given."""
    versions = row.history.order_by("history_id")
    return list(versions.values_list("enabled", "history_change_reason"))
