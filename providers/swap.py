"""One carrier for another: a model's traffic moves from one channel to a second in one transaction.

SwapRefused     nothing was changed; the message says why
"""

from __future__ import annotations

from django.db import transaction

from models_registry.models import ImageModel
from providers.models import Channel, Credential, Offer


class SwapRefused(Exception):
    """The swap was not made: afterwards nobody would have served the model, or not in the way that was meant."""


def swap_offers(model: ImageModel, *, from_channel: Channel, to_channel: Channel) -> tuple[list[Offer], Offer]:
    """Serve `model` by `to_channel` where `from_channel` served it: same priority, same weight.

    Calls that were sent already end where they were sent. Returns the offers that were disabled and the one that
    was enabled. Raises SwapRefused.
    """
    if from_channel == to_channel:
        raise SwapRefused(f"{from_channel} cannot take its own place")
    with transaction.atomic():
        offers = lock_offers(model)
        serving = [offer for offer in offers if offer.channel_id == from_channel.pk and offer.enabled and offer.weight]
        if not serving:
            raise SwapRefused(f"{from_channel} does not serve {model} now")
        successor = choose_successor(
            [offer for offer in offers if offer.channel_id == to_channel.pk], to_channel, model
        )
        reason = f"swap: {from_channel.name} -> {to_channel.name}"[:100]
        first = min(serving, key=lambda offer: offer.priority)
        successor.enabled, successor.priority, successor.weight = True, first.priority, first.weight
        record(successor, reason, "enabled", "priority", "weight")
        for offer in serving:
            offer.enabled = False
            record(offer, reason, "enabled")
    return serving, successor


def lock_offers(model: ImageModel) -> list[Offer]:
    """All offers for the model; a second swap of the model waits here and then sees what the first one did.

    SQLite ignores the lock, but its transactions hold the one writer's lock from their beginning.
    """
    locked = Offer.objects.select_for_update(of=("self",)).filter(model=model)
    return list(locked.select_related("channel", "model").order_by("id"))


def choose_successor(offers: list[Offer], channel: Channel, model: ImageModel) -> Offer:
    """The channel's one genuine offer for the model, if the channel can be used at all."""
    fit = [offer for offer in offers if offer.genuine]
    if not fit:
        raise SwapRefused(f"{channel} has no genuine offer for {model}: add one first")
    if len(fit) > 1:
        raise SwapRefused(f"{channel} has {len(fit)} offers for {model}: enable the one that is meant by hand")
    if not fit[0].channel.enabled:
        raise SwapRefused(f"{channel} is disabled")
    if not Credential.objects.filter(channel=channel).exists():
        raise SwapRefused(f"{channel} has no credential")
    return fit[0]


def record(offer: Offer, reason: str, *columns: str) -> None:
    """Save these columns, with the reason in the offer's history."""
    offer._change_reason = reason  # type: ignore[attr-defined]
    offer.save(update_fields=columns)
