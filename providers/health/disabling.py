"""Out of service until a person has seen to it: channels whose key or account is refused, offers without their model.

Only on the word of a call made with the channel's newest credential: what an older one was told ended with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.sql import Statement
from providers.alerts import Trouble, raise_alerts, repeat_alerts
from providers.health.effects import Effect
from providers.models import Channel, Offer

logger = logging.getLogger(__name__)

CHANNEL_DISABLED = "channel_disabled"
OFFER_DISABLED = "offer_disabled"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a carrier said that no request gets past. `effect` says whether of the offer or of its channel."""

    effect: Effect
    offer_id: int
    channel_id: int
    credential_id: int
    text: str

    @property
    def target_id(self) -> int:
        return self.channel_id if self.effect is Effect.DISABLE_CHANNEL else self.offer_id

    @property
    def kind(self) -> str:
        return CHANNEL_DISABLED if self.effect is Effect.DISABLE_CHANNEL else OFFER_DISABLED

    @property
    def subject(self) -> str:
        return f"channel {self.channel_id}" if self.effect is Effect.DISABLE_CHANNEL else f"offer {self.offer_id}"


NEWEST_CREDENTIAL = "(SELECT max(c.id) FROM providers_credential c WHERE c.channel_id = r.channel_id)"

DISABLE_CHANNELS = Statement(
    f"""
    UPDATE providers_channel SET enabled = false, disabled_reason = r.text
    FROM {{rows}}
    WHERE providers_channel.id = r.channel_id AND enabled AND r.credential_id = {NEWEST_CREDENTIAL}
    RETURNING providers_channel.id
    """,  # noqa: S608 - a constant of this module
    channel_id="bigint",
    credential_id="bigint",
    text="text",
)

DISABLE_OFFERS = Statement(
    f"""
    UPDATE providers_offer SET enabled = false
    FROM {{rows}}
    WHERE providers_offer.id = r.offer_id AND providers_offer.channel_id = r.channel_id AND enabled
      AND r.credential_id = {NEWEST_CREDENTIAL}
    RETURNING providers_offer.id
    """,  # noqa: S608 - a constant of this module
    offer_id="bigint",
    channel_id="bigint",
    credential_id="bigint",
)

READ_NEWEST = Statement(
    f"SELECT r.channel_id, {NEWEST_CREDENTIAL} FROM {{rows}}",  # noqa: S608 - a constant of this module
    channel_id="bigint",
)


def disable_refused(connection: BaseDatabaseWrapper, refusals: Sequence[Refusal]) -> None:
    """Disable what the refusals are about, with a reason, a version in its history and an alert.

    Where it is disabled already its open alert counts them; a refusal of an older credential is only logged.
    """
    if not refusals:
        return
    rows = [{"channel_id": one} for one in sorted({refusal.channel_id for refusal in refusals})]
    newest = dict(READ_NEWEST.run(connection, rows))
    for refusal in refusals:
        if refusal.credential_id != newest[refusal.channel_id]:
            logger.info("%s: credential %d is not in use any more", refusal.subject, refusal.credential_id)
    current = [refusal for refusal in refusals if refusal.credential_id == newest[refusal.channel_id]]
    for effect, statement, model in (
        (Effect.DISABLE_CHANNEL, DISABLE_CHANNELS, Channel),
        (Effect.DISABLE_OFFER, DISABLE_OFFERS, Offer),
    ):
        disable(connection, [refusal for refusal in current if refusal.effect is effect], statement, model)


def disable(
    connection: BaseDatabaseWrapper, refusals: Sequence[Refusal], statement: Statement, model: type[Channel | Offer]
) -> None:
    """One of the two kinds. The condition stands in the statement: a key that was rotated meanwhile is left alone."""
    if not refusals:
        return
    latest = {refusal.target_id: refusal for refusal in refusals}
    rows = [
        {
            "offer_id": one.offer_id,
            "channel_id": one.channel_id,
            "credential_id": one.credential_id,
            "text": one.text[:300],
        }
        for _, one in sorted(latest.items())
    ]
    disabled = {pk for (pk,) in statement.run(connection, rows)}
    keep_versions(model, {pk: latest[pk].text for pk in disabled})
    troubles = {
        pk: Trouble(
            refusal.kind,
            refusal.subject,
            f"Disabled: {refusal.text}",
            refusal.channel_id,
            sum(one.target_id == pk for one in refusals),
        )
        for pk, refusal in latest.items()
    }
    raise_alerts(connection, [trouble for pk, trouble in troubles.items() if pk in disabled])
    repeat_alerts(connection, [trouble for pk, trouble in troubles.items() if pk not in disabled])


def keep_versions(model: type[Channel | Offer], reasons: dict[int, str]) -> None:
    """What `save` would have written to the history."""
    changed: Iterable[Channel | Offer] = model.objects.filter(pk__in=reasons)
    for row in changed:
        model.history.bulk_history_create([row], update=True, default_change_reason=reasons[row.pk][:100])
