"""What a failed call means for the health of its offer: one table, read by code, scope and whether it is billed.

Whether the same slots are ordered again is not decided here: that is the outcome table's, and goes by `billed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from providers.contract import Billed, Code, Scope


class Effect(StrEnum):
    """What becomes of the offer, or of its channel."""

    NONE = "none"  # nothing is learned about the upstream
    COOL = "cool"  # it works, and wants a pause
    FAULT = "fault"  # counts against it; enough of them open its circuit
    DISABLE_OFFER = "disable_offer"  # fails for every request until a person mends it
    DISABLE_CHANNEL = "disable_channel"  # as above, for all that the channel offers


#: Where the trouble is the offer's, and where it is the channel's.
_TABLE: Mapping[Code, tuple[Effect, Effect]] = {
    # Blamed on the offer it is our translation: no customer's doing, and no good for anybody there.
    Code.BAD_REQUEST: (Effect.FAULT, Effect.FAULT),
    Code.CONTENT_POLICY: (Effect.NONE, Effect.NONE),
    Code.AUTH: (Effect.DISABLE_OFFER, Effect.DISABLE_CHANNEL),
    Code.ARREARS: (Effect.DISABLE_OFFER, Effect.DISABLE_CHANNEL),
    Code.NOT_AVAILABLE: (Effect.DISABLE_OFFER, Effect.DISABLE_CHANNEL),
    Code.RATE_LIMITED: (Effect.COOL, Effect.COOL),
    Code.OVERLOADED: (Effect.FAULT, Effect.FAULT),
    Code.UNREACHABLE: (Effect.FAULT, Effect.FAULT),
    Code.TIMEOUT: (Effect.FAULT, Effect.FAULT),
    Code.CONNECTION_LOST: (Effect.FAULT, Effect.FAULT),
    Code.TASK_FAILED: (Effect.FAULT, Effect.FAULT),
    Code.TASK_LOST: (Effect.FAULT, Effect.FAULT),
    Code.BAD_RESPONSE: (Effect.FAULT, Effect.FAULT),
}
DISABLING = frozenset({Effect.DISABLE_OFFER, Effect.DISABLE_CHANNEL})


def find_effect(code: str, scope: str, billed: str = Billed.NO) -> Effect:
    """The effect of one failure. A code that is none of the contract's is trouble of our own: a full disk, say."""
    if code not in _TABLE or scope == Scope.REQUEST:
        return Effect.NONE
    effect = _TABLE[Code(code)][scope == Scope.CHANNEL]
    # Whoever took the order, or may have, did not refuse our key, our account or the model.
    if effect in DISABLING and billed in (Billed.YES, Billed.UNKNOWN):
        return Effect.FAULT
    return effect
