"""What is to be probed, and what that takes: reads only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import connection
from django.db.models import Q

from crazyrouter.sql import read_clock
from providers.health.circuits import CLOSED, HALF_OPEN, OPEN
from providers.models import Credential, Offer, OfferHealth


@dataclass(frozen=True, slots=True)
class Target:
    """An offer with all that its free call needs. `options` is JSON text, `ciphertext` empty without a credential."""

    offer_id: int
    channel_id: int
    kind: str
    base_url: str
    options: str
    credential_id: int
    ciphertext: str = field(repr=False)


def find_due() -> bool:
    """Whether any circuit is to be probed now: a look that writes nothing. Two queries at most, usually one."""
    serving = OfferHealth.objects.filter(
        offer__enabled=True, offer__channel__enabled=True, offer__channel__draining_since=None
    )
    unclosed = serving.exclude(circuit=CLOSED)
    if not unclosed.exists():
        return False
    now = read_clock(connection)
    paused = Q(circuit=OPEN) & (Q(retry_at=None) | Q(retry_at__lte=now))
    return unclosed.filter(paused | Q(circuit=HALF_OPEN, probe_until__lte=now)).exists()


def load_targets(offer_ids: Sequence[int]) -> list[Target]:
    """What the probes of these offers need, by channel."""
    offers = list(Offer.objects.filter(pk__in=offer_ids).select_related("channel").order_by("channel_id", "id"))
    credentials = Credential.objects.filter(channel__in={offer.channel_id for offer in offers}).order_by("id")
    newest = {credential.channel_id: credential for credential in credentials}
    return [make_target(offer, newest.get(offer.channel_id)) for offer in offers]


def make_target(offer: Offer, credential: Credential | None) -> Target:
    channel = offer.channel
    return Target(
        offer_id=offer.pk,
        channel_id=channel.pk,
        kind=channel.kind,
        base_url=channel.base_url,
        options=json.dumps(channel.options, sort_keys=True),
        credential_id=credential.pk if credential else 0,
        ciphertext=credential.ciphertext if credential else "",
    )
