"""Moving a model between Beta and verified."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from models_registry.models import ImageModel, Verification


class VerificationRefused(Exception):
    """The move was not made; the message says why."""


def move_verification(model: ImageModel, *, to_state: str, reason: str, actor: Any) -> Verification:
    """Record the move and make it, in one transaction. Refused without a reason or when already there."""
    if not reason.strip():
        raise VerificationRefused("a reason is required")
    with transaction.atomic():
        moved = ImageModel.objects.filter(pk=model.pk).exclude(verification=to_state).update(verification=to_state)
        if not moved:
            raise VerificationRefused(f"{model.name} is already {to_state}")
        return Verification.objects.create(
            model=model,
            from_state=next(state for state in ImageModel.Verified.values if state != to_state),
            to_state=to_state,
            reason=reason.strip(),
            actor=actor,
        )
