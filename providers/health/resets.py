"""What people do about health: forget it, and give a canary its share again."""

from __future__ import annotations

import logging

from django.db import connection, transaction

from crazyrouter.sql import Statement
from providers.models import Offer

logger = logging.getLogger(__name__)

RESET_ROW = Statement(
    """
    UPDATE providers_offerhealth
    SET circuit = 'closed', reason = r.reason, changed_at = {now}, retry_at = NULL, pause_s = 0, probe_owner = '',
        probe_until = NULL, cooling_until = NULL, cooling_reason = '', recent = '[]', latency_ms = 0
    FROM {rows} WHERE providers_offerhealth.offer_id = r.offer_id
    RETURNING providers_offerhealth.offer_id
    """,
    offer_id="bigint",
    reason="text",
)


def reset_health(offer: Offer, *, actor: str) -> bool:
    """Forget what is held against an offer: it is asked again as if nothing were known. False where nothing is known.

    A canary that fell stays fallen, and what is disabled stays disabled.
    """
    rows = [{"offer_id": offer.pk, "reason": f"reset by {actor}"[:300]}]
    known = bool(RESET_ROW.run(connection, rows))
    logger.warning("the health of offer %d was reset by %s", offer.pk, actor)
    return known


def restart_canary(offer: Offer, *, actor: str) -> bool:
    """A canary that fell takes its share again, with a clean window. False where it had not fallen."""
    with transaction.atomic():
        fallen = Offer.objects.filter(pk=offer.pk, canary_fallen_at__isnull=False)
        if not fallen.update(canary_fallen_at=None, canary_fallen_reason=""):
            return False
        reset_health(offer, actor=actor)
    return True
