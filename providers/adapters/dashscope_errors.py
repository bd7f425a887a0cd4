"""Alibaba Cloud Model Studio's error codes and what they mean here (Model Studio error code reference, 2026).

Codes come in PascalCase and snake_case, at submit, in a FAILED task and per picture; their texts carry
links, blanks and typos. So rows are found by the code's letters and digits alone.
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
from providers.contract import Billed, Code, Scope

_NOT_OPENED = Verdict(Code.NOT_AVAILABLE, Billed.NO, Scope.CHANNEL)
_TASK_TOO_LONG = Verdict(Code.TIMEOUT, Billed.NO, Scope.OFFER)
_NOT_FOR_IMAGES = Verdict(Code.BAD_RESPONSE, Billed.NO, Scope.OFFER)
# The free quota is counted per model: the account may still sell the others.
_FREE_QUOTA_USED = Verdict(Code.ARREARS, Billed.NO, Scope.OFFER)

_TABLE: dict[Verdict, str] = {
    BAD_REQUEST: (
        "InvalidParameter invalid_parameter_error BadRequest.EmptyInput BadRequest.EmptyParameters"
        " BadRequest.IllegalInput BadRequest.TooLarge InvalidURL InvalidParameter.DataInspection"
    ),
    CONTENT_POLICY: (
        "DataInspectionFailed data_inspection_failed IPInfringementSuspect CustomRoleBlocked FaqRuleBlocked"
    ),
    # The last three arrive as 429, which generic clients wait out in vain.
    ARREARS: "Arrearage CommodityNotPurchased PrepaidBillOverdue PostpaidBillOverdue",
    _FREE_QUOTA_USED: "AllocationQuota.FreeTierOnly",
    AUTH: "InvalidApiKey invalid_api_key NotAuthorized",
    NOT_AVAILABLE: (
        "AccessDenied AccessDenied.Unpurchased Model.AccessDenied Endpoint.AccessDenied ModelNotFound model_not_found"
        " model_not_supported NotFound"
    ),
    _NOT_OPENED: "Workspace.AccessDenied App.AccessDenied WorkSpaceNotFound",
    # "insufficient_quota" is this carrier's alias of a concurrency quota, not of an empty purse.
    RATE_LIMITED: (
        "Throttling Throttling.RateQuota LimitRequests limit_requests Throttling.BurstRate limit_burst_rate"
        " Throttling.AllocationQuota insufficient_quota Throttling.ServiceOverloaded"
    ),
    OVERLOADED: (
        "InternalError internal_error InternalError.Algo InternalError.Upload SystemError ModelServiceFailed"
        " RewriteFailed ModelServingError ModelUnavailable ServiceUnavailable GatewayTimeout"
    ),
    # Nothing says whether a picture that came too late is billed.
    TIMEOUT: "RequestTimeOut",
    _TASK_TOO_LONG: "InternalError.Timeout",
    _NOT_FOR_IMAGES: "UnsupportedOperation Conflict",
}


def normalise(code: str) -> str:
    """A code's letters and digits in lower case: `Throttling.RateQuota` is `throttlingratequota`."""
    return "".join(sign for sign in code.lower() if sign.isalnum())


_VERDICTS = {normalise(code): verdict for verdict, codes in _TABLE.items() for code in codes.split()}
# The one exception to "never by the text": a wrong model or endpoint shares its code with a wrong field.
_MISCONFIGURED = ("model not exist", "url error")

_BY_STATUS = {
    401: AUTH,
    403: NOT_AVAILABLE,
    404: NOT_AVAILABLE,
    408: TIMEOUT,
    429: RATE_LIMITED,
    504: TIMEOUT,
}


def find_verdict(code: str, message: str) -> Verdict | None:
    """The row of a code, or of its family (`Throttling.New` is a Throttling); None if neither is known."""
    name = normalise(code)
    if name in ("invalidparameter", "invalidparametererror") and any(
        text in message.lower() for text in _MISCONFIGURED
    ):
        return NOT_AVAILABLE
    return _VERDICTS.get(name) or _VERDICTS.get(normalise(code.partition(".")[0]))


def judge(status: int, code: str, message: str) -> Verdict:
    """What an error answer means. An empty `code` is a body that names none: a proxy's page, or nothing."""
    if code and (verdict := find_verdict(code, message)):
        return verdict
    if code and status in (400, 413, 422):
        return BAD_REQUEST
    if code and status >= 500:
        return OVERLOADED
    return _BY_STATUS.get(status, BAD_RESPONSE)
