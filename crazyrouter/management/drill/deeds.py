"""What the desk does when it is asked: each public function is one deed, with plain values in and out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import F, Min
from django.utils import timezone

from billing.keys import create_key, revoke_key
from billing.ledger import top_up
from billing.models import Account, ApiKey, LedgerEntry
from billing.money import MICROS
from crazyrouter.files.models import StoredImage
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.generation.upstream_bill.rows import SentCall
from crazyrouter.management.configuration.applying import apply
from crazyrouter.management.configuration.edits import Author
from crazyrouter.management.drill.shop import (
    ACCOUNT,
    CHANNELS,
    MODELS,
    PREFIX,
    Limits,
    build_document,
    list_secrets,
)
from crazyrouter.sql import read_clock
from models_registry.catalog import load_catalog
from models_registry.models import ImageModel
from providers.alerts import resolve_alert
from providers.health import reset_health
from providers.models import Alert, Capacity, Channel, Offer, OfferHealth, Swap, add_credential
from providers.swap import swap_back as undo_swap
from providers.swap import swap_offers

ACTOR = "drill"
CREDIT_MICROS = 100_000 * MICROS


class NotDrillable(Exception):
    """Nothing was changed; the message says why."""


# --- before and after ---


def open_shop(
    *, simulator_url: str, keys: Mapping[str, str], submits_per_s: int, most_running: int, alone: bool
) -> dict[str, Any]:
    """Channels before all others, a customer with money. `alone`: nobody else serves, so that nobody hides a failure.

    Raises NotDrillable.
    """
    check_models()
    check_carriers()
    os.environ.update(list_secrets(keys))
    others = Offer.objects.filter(model__name__in=MODELS).exclude(channel__name__startswith=PREFIX)
    lowest = others.aggregate(lowest=Min("priority"))["lowest"] or 0
    limits = Limits(submits_per_s, most_running)
    document = build_document(simulator_url=simulator_url, first_priority=lowest - 10, limits=limits)
    plan = apply(document.encode(), author=Author("drill", ACTOR))
    if plan.faults:
        raise NotDrillable("; ".join(fault.render("the drill's channels") for fault in plan.faults))
    if alone:
        for offer in others.filter(enabled=True):
            offer.enabled = False
            offer.save(update_fields=["enabled"])
    account, _ = Account.objects.get_or_create(name=ACCOUNT)
    top_up(account, amount_micros=CREDIT_MICROS, reference=f"drill-{secrets.token_hex(6)}", memo="drill", actor=ACTOR)
    _, secret = create_key(account, name=ACTOR)
    calm()
    return {"api_key": secret, "deadline_s": settings.GENERATION_DEADLINE_S}


def check_models() -> None:
    known = load_catalog()
    missing = [name for name in MODELS if name not in known or known[name].price is None]
    if missing:
        raise NotDrillable(f"not on sale here: {', '.join(missing)}")


def check_carriers() -> None:
    """A drill orders hundreds of pictures, and customers of the server meet its faults: never where money is real."""
    real = Offer.objects.filter(enabled=True, channel__enabled=True, channel__simulated=False, model__name__in=MODELS)
    names = sorted(set(real.values_list("channel__name", flat=True)))
    if names:
        raise NotDrillable(f"this server sells real pictures, by {', '.join(names)}: they would be ordered and paid")


def close_shop() -> None:
    """Whatever of it is open, also where somebody was interrupted while it opened."""
    for channel in Channel.objects.filter(name__startswith=PREFIX, enabled=True):
        channel.enabled, channel.disabled_reason = False, "the drill is over"
        channel.save(update_fields=["enabled", "disabled_reason"])
    resolve_alerts()
    for key in ApiKey.objects.filter(account__name=ACCOUNT, name=ACTOR, revoked_at=None):
        revoke_key(key)


# --- what operators do ---


def calm() -> bool:
    """As if nothing had happened: every channel of the drill in service, nothing held against an offer, no alert.

    Whether anything was otherwise, of which processes may not know yet.
    """
    found = read_health()
    stirred = not all(found["channels"].values()) or any(
        offer["circuit"] != OfferHealth.Circuit.CLOSED or offer["cools"] for offer in found["offers"].values()
    )
    for channel in Channel.objects.filter(name__in=CHANNELS, enabled=False):
        channel.enabled, channel.disabled_reason = True, ""
        channel.save(update_fields=["enabled", "disabled_reason"])
    for offer in list_offers():
        reset_health(offer, actor=ACTOR)
    resolve_alerts()
    return stirred


def resolve_alerts() -> None:
    for alert in Alert.objects.filter(channel__name__startswith=PREFIX, resolved_at=None):
        resolve_alert(alert, actor=ACTOR)


def list_offers() -> list[Offer]:
    return list(Offer.objects.filter(channel__name__in=CHANNELS).select_related("channel", "model").order_by("id"))


def end_pauses() -> int:
    """Circuits that are open may be probed now."""
    waiting = OfferHealth.objects.filter(offer__channel__name__in=CHANNELS, circuit=OfferHealth.Circuit.OPEN)
    return waiting.update(retry_at=read_clock(connection))


def replace_keys(*, channels: Sequence[str], secret: str) -> None:
    """A new key, and back into service; whoever was told of the old one has seen to it."""
    for channel in Channel.objects.filter(name__in=channels):
        add_credential(channel, secret)
        channel.enabled, channel.disabled_reason = True, ""
        channel.save(update_fields=["enabled", "disabled_reason"])
    for alert in Alert.objects.filter(channel__name__in=channels, resolved_at=None):
        resolve_alert(alert, actor=ACTOR)


def set_limits(*, submits_per_s: int, most_running: int) -> None:
    """Of every capacity of the drill, as the admin does it."""
    for capacity in Capacity.objects.filter(account__name__startswith=PREFIX):
        capacity.submit_interval_ms, capacity.submit_burst = 1000 // submits_per_s, submits_per_s
        capacity.max_running = most_running
        capacity.save(update_fields=["submit_interval_ms", "submit_burst", "max_running"])


def swap(*, moves: Sequence[tuple[str, str, str]]) -> list[int]:
    """Each (model, channel, channel) from the first to the second; the swaps' ids."""
    for model, from_channel, to_channel in moves:
        swap_offers(
            ImageModel.objects.get(name=model),
            from_channel=Channel.objects.get(name=from_channel),
            to_channel=Channel.objects.get(name=to_channel),
            actor=ACTOR,
        )
    return list(Swap.objects.order_by("-id").values_list("id", flat=True)[: len(moves)])


def swap_back(*, ids: Sequence[int]) -> None:
    for made in Swap.objects.filter(pk__in=ids).order_by("-id"):
        undo_swap(made, actor=ACTOR)


# --- what stands in the rows ---


def read_health() -> dict[str, Any]:
    """Offers with what is held against them, channels, and alerts, as an operator sees them now."""
    now = timezone.now()
    offers = Offer.objects.filter(channel__name__in=CHANNELS).select_related("channel", "model", "health")
    alerts = Alert.objects.filter(channel__name__in=CHANNELS).order_by("id")
    return {
        "offers": {f"{offer.channel.name}: {offer.model.name}": describe_health(offer, now) for offer in offers},
        "channels": dict(Channel.objects.filter(name__in=CHANNELS).values_list("name", "enabled")),
        "alerts": [[one.pk, one.kind, f"{one.channel}: {one.text}", one.resolved_at is None] for one in alerts],
    }


def describe_health(offer: Offer, now: datetime) -> dict[str, Any]:
    health: OfferHealth | None = getattr(offer, "health", None)
    if health is None:
        return {"circuit": OfferHealth.Circuit.CLOSED, "reason": "", "cools": False}
    cools = health.cooling_until is not None and health.cooling_until > now
    return {"circuit": health.circuit, "reason": health.reason, "cools": cools}


def count_running(*, tag: str) -> int:
    return Generation.objects.filter(prompt__contains=tag, state=Generation.State.RUNNING).count()


def read_tally(*, tag: str) -> dict[str, Any]:
    """Generations whose prompt has the tag, and their attempts. Moments are epoch seconds."""
    generations = list(Generation.objects.filter(prompt__contains=tag).order_by("id"))
    ids = [row.pk for row in generations]
    charged: dict[str, int] = {}
    for reference in LedgerEntry.objects.filter(kind=LedgerEntry.Kind.CHARGE, reference__in=ids).values_list(
        "reference", flat=True
    ):
        charged[reference] = charged.get(reference, 0) + 1
    return {
        "generations": {row.pk: describe_generation(row, charged.get(row.pk, 0)) for row in generations},
        "attempts": [describe_attempt(row) for row in list_attempts(ids)],
    }


def describe_generation(row: Generation, charged: int) -> dict[str, Any]:
    return {
        "state": row.state,
        "failure": row.failure,
        "n": row.n,
        "delivered": row.delivered,
        "charged": charged,
        "takeovers": row.takeovers,
    }


def list_attempts(generation_ids: Sequence[str]) -> Any:
    rows = Attempt.objects.filter(generation_id__in=generation_ids).order_by("generation_id", "number")
    return rows.values(
        "generation_id",
        "number",
        *("state", "code", "billed", "detail", "images", "slots", "created_at", "ended_at"),
        *("upstream_model", "shape", "task_id", "upstream_id", "credential_id", "routing"),
        channel_name=F("channel__name"),
    )


def describe_attempt(row: Mapping[str, Any]) -> dict[str, Any]:
    """`least` and `most` are the pictures that we count as charged for it."""
    least, most = make_call(row).cost
    return {
        "generation": row["generation_id"],
        "number": row["number"],
        "channel": row["channel_name"],
        "state": row["state"],
        "code": row["code"],
        "detail": row["detail"],
        "shape": row["shape"],
        "waited_s": row["routing"].get("waited_s", 0),
        "images": row["images"],
        "slots": len(row["slots"]),
        "began": row["created_at"].timestamp(),
        "ended": row["ended_at"].timestamp() if row["ended_at"] else None,
        "least": least,
        "most": most,
    }


def make_call(row: Mapping[str, Any]) -> SentCall:
    """As `reconcile --upstream` counts it."""
    return SentCall(
        generation_id=row["generation_id"],
        number=row["number"],
        created_at=row["created_at"],
        state=row["state"],
        billed=row["billed"],
        task_id=row["task_id"],
        upstream_id=row["upstream_id"],
        model=row["upstream_model"],
        credential_id=row["credential_id"],
        key_last4="",
        account="",
        slots=len(row["slots"]),
        images=row["images"],
        prompt="",
    )


def list_charged(*, tag: str) -> list[list[Any]]:
    """[name, width, height as asked, generation, slot] of every picture that the drill's customers paid."""
    generations = {row.pk: row for row in Generation.objects.filter(prompt__contains=tag)}
    entries = LedgerEntry.objects.filter(kind=LedgerEntry.Kind.CHARGE, reference__in=generations)
    names = {
        (generation_id, slot): name
        for generation_id, slot, name in StoredImage.objects.filter(generation_id__in=generations).values_list(
            "generation_id", "slot", "name"
        )
    }
    return [
        [names.get((entry.reference, entry.line), ""), row.width, row.height, row.pk, entry.line]
        for entry in entries.order_by("id")
        for row in [generations[entry.reference]]
    ]
