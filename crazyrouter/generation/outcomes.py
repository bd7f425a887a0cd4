"""What a generation came to, judged from its calls: one public code for each way to fail.

HTTP statuses and words for customers stand in `crazyrouter.api.errors`; what follows for money is in `engine`.

    OrderRefused    nothing was opened, nothing written; `failure` says why
    LeaseLost       another process drives this generation now; this one writes nothing more
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from crazyrouter.generation.order import CallResult
from providers.contract import Code, Scope


class Failure(StrEnum):
    """Public codes; stored in `Generation.failure`."""

    INSUFFICIENT_QUOTA = "insufficient_quota"
    NO_CHANNEL = "no_channel_available"
    RATE_LIMITED = "rate_limit_exceeded"
    MODERATION = "moderation_blocked"
    INVALID = "invalid_value"
    UPSTREAM = "upstream_failed"
    STORAGE = "storage_unavailable"
    TIMEOUT = "generation_timeout"


#: Ours, not a carrier's: the picture came, and our own disk refused it.
STORAGE_CODE = "storage_unavailable"
#: Nobody took the order: channels that cannot be reached or used at all.
NOBODY_THERE = frozenset({Code.AUTH, Code.ARREARS, Code.NOT_AVAILABLE, Code.UNREACHABLE})


class OrderRefused(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class LeaseLost(Exception):
    """The row is no longer ours."""


def judge(results: Sequence[CallResult]) -> str:
    """The public code of an ended generation; empty when at least one picture is stored."""
    if any(result.pictures for result in results):
        return ""
    failures = [failure for result in results for failure in result.failures]
    codes = {failure.code for failure in failures}
    if Code.CONTENT_POLICY in codes:
        return Failure.MODERATION
    if any(failure.scope == Scope.REQUEST for failure in failures):
        return Failure.INVALID
    if STORAGE_CODE in codes:
        return Failure.STORAGE
    if codes and codes <= {Code.RATE_LIMITED}:
        return Failure.RATE_LIMITED
    if codes and codes <= NOBODY_THERE | {Code.RATE_LIMITED}:
        return Failure.NO_CHANNEL
    return Failure.UPSTREAM
