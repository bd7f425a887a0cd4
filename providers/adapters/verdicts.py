"""What a status, or a code that many carriers use, means where a carrier's own documentation says no more.

Whoever stands between us and a model maker may have made and billed what a 5xx hides; so may a timeout.
"""

from __future__ import annotations

from providers.adapters.base import (
    ARREARS,
    AUTH,
    BAD_REQUEST,
    BAD_RESPONSE,
    CONTENT_POLICY,
    NOT_AVAILABLE,
    OVERLOADED,
    RATE_LIMITED,
    TIMEOUT,
    Verdict,
)
from providers.contract import Billed

MAYBE_BILLED = OVERLOADED._replace(billed=Billed.UNKNOWN)

_BY_STATUS = {
    400: BAD_REQUEST,
    401: AUTH,
    402: ARREARS,
    403: NOT_AVAILABLE,
    404: NOT_AVAILABLE,
    408: TIMEOUT,
    413: BAD_REQUEST,
    422: BAD_REQUEST,
    429: RATE_LIMITED,
    504: TIMEOUT,
}
_MODERATION = frozenset(
    {"content_policy_violation", "moderation_blocked", "data_inspection_failed", "datainspectionfailed"}
    | {"ipinfringementsuspect", "content_filter"}
)


def judge_status(status: int, *, named: bool) -> Verdict:
    """What an error answer means. `named`: it is the carrier's own envelope, no proxy's page and no empty body."""
    if status >= 500 and status != 504 and named:
        return MAYBE_BILLED
    return _BY_STATUS.get(status, BAD_RESPONSE)


def find_moderation(code: str) -> Verdict | None:
    """The verdict of a code by which moderation is known; None for any other."""
    return CONTENT_POLICY if code.lower() in _MODERATION else None
