"""One carrier for another: a model's traffic moves from one channel to a second in one transaction, and back.

SwapRefused     nothing was changed; the message says why
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from models_registry.models import ImageModel
from providers.adapters import get_adapter_class, kinds
from providers.models import Channel, Credential, Offer, Swap

#: What a swap moves, and puts back.
COLUMNS = ("enabled", "priority", "weight", "canary_percent", "shadow_percent")


class SwapRefused(Exception):
    """The swap was not made: afterwards nobody would have served the model, or not in the way that was meant."""


def swap_offers(
    model: ImageModel, *, from_channel: Channel, to_channel: Channel, actor: str = ""
) -> tuple[list[Offer], Offer]:
    """Serve `model` by `to_channel` where `from_channel` served it: same priority, same weight.

    Calls that were sent already end where they were sent. Returns the offers that were disabled and the one that
    was enabled; a row of `Swap` keeps what it takes to move back. Raises SwapRefused.
    """
    if from_channel == to_channel:
        raise SwapRefused(f"{from_channel} cannot take its own place")
    with transaction.atomic():
        offers = lock_offers(model)
        serving = find_serving(offers, from_channel, model)
        successor = choose_successor(offers, to_channel, model)
        moved = [*serving, successor]
        before = list(map(describe_offer, moved))
        reason = f"swap: {from_channel.name} -> {to_channel.name}"[:100]
        take_over(successor, serving)
        record(successor, reason, *COLUMNS)
        for offer in serving:
            offer.enabled = False
            record(offer, reason, "enabled")
        Swap.objects.create(
            model=model,
            from_channel=from_channel,
            to_channel=to_channel,
            before=before,
            after=list(map(describe_offer, moved)),
            actor=actor,
        )
    return serving, successor


def lock_offers(model: ImageModel) -> list[Offer]:
    """All offers for the model; a second swap of the model waits here and then sees what the first one did.

    SQLite ignores the lock, but its transactions hold the one writer's lock from their beginning.
    """
    locked = Offer.objects.select_for_update(of=("self",)).filter(model=model)
    return list(locked.select_related("channel", "model").order_by("id"))


def find_serving(offers: Iterable[Offer], channel: Channel, model: ImageModel) -> list[Offer]:
    """The channel's offers that customers of the model may meet. Raises SwapRefused where there is none."""
    serving = [
        offer
        for offer in offers
        if offer.channel_id == channel.pk and offer.enabled and offer.weight and offer.shadow_percent is None
    ]
    if not serving:
        raise SwapRefused(f"{channel} does not serve {model} now")
    return serving


def choose_successor(offers: Iterable[Offer], channel: Channel, model: ImageModel) -> Offer:
    """The channel's one genuine offer for the model, if it can be used at all. Raises SwapRefused."""
    fit = [offer for offer in offers if offer.channel_id == channel.pk and offer.genuine]
    if not fit:
        raise SwapRefused(f"{channel} has no genuine offer for {model}: add one first")
    if len(fit) > 1:
        raise SwapRefused(f"{channel} has {len(fit)} offers for {model}: enable the one that is meant by hand")
    successor = fit[0]
    check_channel(successor.channel)
    if has_open_weights(successor):
        raise SwapRefused(f"{successor.upstream_model} has open weights at {channel}: it is not {model}")
    if successor.canary_fallen_at is not None:
        raise SwapRefused(f"the canary of {channel} fell back: {successor.canary_fallen_reason}; restart it first")
    return successor


def check_channel(channel: Channel) -> None:
    """Raises SwapRefused for one that routing would send nothing to."""
    if channel.kind not in kinds():
        raise SwapRefused(f"{channel}: no adapter speaks {channel.kind}")
    if not channel.enabled:
        raise SwapRefused(f"{channel} is disabled")
    if channel.draining_since is not None:
        raise SwapRefused(f"{channel} is draining: stop that first")
    if not Credential.objects.filter(channel=channel).exists():
        raise SwapRefused(f"{channel} has no credential")


def has_open_weights(offer: Offer) -> bool:
    return offer.upstream_model.lower() in get_adapter_class(offer.channel.kind).open_weights


def take_over(successor: Offer, serving: Sequence[Offer]) -> None:
    """The place of the best of them, and no longer on trial; only a canary's place is a canary's."""
    first = choose_best(serving)
    successor.enabled, successor.priority, successor.weight = True, first.priority, first.weight
    successor.canary_percent, successor.shadow_percent = first.canary_percent, None


def choose_best(serving: Sequence[Offer]) -> Offer:
    """The one that most customers meet first."""
    return min(serving, key=lambda offer: (offer.canary_percent is not None, offer.priority))


def record(offer: Offer, reason: str, *columns: str) -> None:
    """Save these columns, with the reason in the offer's history."""
    offer._change_reason = reason  # type: ignore[attr-defined]
    offer.save(update_fields=columns)


def describe_offer(offer: Offer) -> dict[str, Any]:
    return {"offer": offer.pk} | {column: getattr(offer, column) for column in COLUMNS}


# --- and back ---


def swap_back(swap: Swap, *, actor: str = "") -> list[Offer]:
    """Make the offers exactly what they were before the swap. Returns them.

    Raises SwapRefused if somebody has changed one of them since, or the channel that served cannot any more.
    """
    with transaction.atomic():
        offers = {offer.pk: offer for offer in lock_offers(swap.model)}
        undone = Swap.objects.filter(pk=swap.pk, undone_at=None).update(undone_at=timezone.now(), undone_by=actor)
        if not undone:
            raise SwapRefused("it was swapped back already")
        check_untouched(swap.after, offers)
        check_channel(swap.from_channel)
        reason = f"swapped back: {swap.to_channel.name} -> {swap.from_channel.name}"[:100]
        for row in swap.before:
            offer = offers[row["offer"]]
            for column in COLUMNS:
                setattr(offer, column, row[column])
            record(offer, reason, *COLUMNS)
    swap.refresh_from_db()
    return [offers[row["offer"]] for row in swap.before]


def check_untouched(rows: Iterable[Mapping[str, Any]], offers: Mapping[int, Offer]) -> None:
    """Raises SwapRefused unless the offers are still what the swap made of them."""
    for row in rows:
        offer = offers.get(row["offer"])
        if offer is None:
            raise SwapRefused(f"offer {row['offer']} was deleted since")
        changed = [column for column in COLUMNS if getattr(offer, column) != row[column]]
        if changed:
            column = changed[0]
            raise SwapRefused(
                f"{offer} was changed since: {name_column(column)} is {tell(getattr(offer, column))}, "
                f"the swap had left {tell(row[column])}"
            )


def name_column(column: str) -> str:
    return column.replace("_", " ")


def tell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "empty" if value is None else str(value)
