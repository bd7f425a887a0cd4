"""What DashScope refuses with: codes, statuses and wording of its error table.

SimulatorError
  Refusal          the caller gets an error answer of the protocol that it speaks
  ScenarioError    a scenario, rule or directive that cannot be obeyed
"""

from __future__ import annotations

from collections.abc import Mapping

SYNC_UNSUPPORTED = "current user api does not support synchronous calls."
ASYNC_UNSUPPORTED = "Current user api does not support asynchronous calls."
MODEL_UNKNOWN = "Model not exist."
#: The exclamation mark is the full-width one.
WRONG_URL = "url error, please check url！"
INPUT_REFUSED = "Input data may contain inappropriate content."
OUTPUT_REFUSED = "Output data may contain inappropriate content."

_RATE = "Requests rate limit exceeded, please try again later."
_ARREARS = "Access denied, please make sure your account is in good standing."
_DENIED = "Access denied."

#: code -> (status where it is the answer to a call, wording). DashScope error code reference.
KNOWN: dict[str, tuple[int, str]] = {
    "InvalidParameter": (400, "Required parameter(s) missing or invalid, please check the request parameters."),
    "BadRequest.EmptyInput": (400, 'Required field "input" missing from request body.'),
    "BadRequest.EmptyParameters": (400, 'Required field "parameters" missing from request body.'),
    "BadRequest.IllegalInput": (400, "The input parameter requires json format."),
    "BadRequest.TooLarge": (413, "Payload Too Large"),
    "DataInspectionFailed": (400, OUTPUT_REFUSED),
    "IPInfringementSuspect": (400, "Input data is suspected of being involved in IP infringement."),
    "CustomRoleBlocked": (400, "Input or output data may contain inappropriate content with custom rule."),
    "FaqRuleBlocked": (400, "Input or output data is blocked by faq rule."),
    "InvalidURL": (400, "The provided URL does not appear to be valid."),
    "InvalidParameter.DataInspection": (400, "Unable to download the media resource during the data inspection."),
    "Arrearage": (400, _ARREARS),
    "UnsupportedOperation": (
        400,
        "Failed to cancel the task, please confirm if the task is in PENDING status.",
    ),
    "InvalidApiKey": (401, "Invalid API-key provided."),
    "AccessDenied": (403, ASYNC_UNSUPPORTED),
    "AccessDenied.Unpurchased": (403, "Access to model denied. Please make sure you are eligible for using the model."),
    "Model.AccessDenied": (403, "Model access denied."),
    "Workspace.AccessDenied": (403, "Workspace access denied."),
    "App.AccessDenied": (403, "App access denied."),
    "Endpoint.AccessDenied": (403, "Endpoint access denied."),
    "AllocationQuota.FreeTierOnly": (403, "The free tier of the model has been exhausted."),
    "ModelNotFound": (404, "Model can not be found."),
    "model_not_supported": (404, "The model is not supported."),
    "WorkSpaceNotFound": (404, "WorkSpace can not be found."),
    "NotFound": (404, "Not found!"),
    "Conflict": (409, "The request conflicts with an existing resource."),
    "Throttling": (429, "Requests throttling triggered."),
    "Throttling.RateQuota": (429, _RATE),
    "Throttling.BurstRate": (429, "Request rate increased too quickly. Please adjust your client to scale smoothly."),
    "Throttling.AllocationQuota": (429, "Allocated quota exceeded, please increase your quota limit."),
    "Throttling.ServiceOverloaded": (429, "Too many requests. The service is being throttled due to overload."),
    "CommodityNotPurchased": (429, "Commodity has not purchased yet."),
    "PrepaidBillOverdue": (429, "The prepaid bill is overdue."),
    "PostpaidBillOverdue": (429, "The postpaid bill is overdue."),
    "InternalError": (500, "An internal error has occured, please try again later or contact service support."),
    "InternalError.Algo": (500, "An internal error has occured during algorithm execution."),
    "InternalError.Upload": (500, "Failed to upload result."),
    "InternalError.Timeout": (500, "An internal timeout error has occured during execution."),
    "SystemError": (500, "An system error has occured, please try again later."),
    "ModelServiceFailed": (500, "Failed to request model service."),
    "RequestTimeOut": (500, "Request timed out, please try again later."),
    "RewriteFailed": (500, "Failed to rewrite content for prompt."),
    "ModelServingError": (503, "Too many requests. Your requests are being throttled due to system capacity limits."),
    "ModelUnavailable": (503, "Model is unavailable, please try again later."),
    "ServiceUnavailable": (503, "Service is unavailable, please try again later."),
    "GatewayTimeout": (504, "The gateway timed out."),
}

#: Other spellings that the vendor uses for the same (snake_case in its compatible mode, and older names).
ALIASES: dict[str, str] = {
    "invalid_parameter_error": "InvalidParameter",
    "data_inspection_failed": "DataInspectionFailed",
    "invalid_api_key": "InvalidApiKey",
    "model_not_found": "ModelNotFound",
    "LimitRequests": "Throttling.RateQuota",
    "limit_requests": "Throttling.RateQuota",
    "limit_burst_rate": "Throttling.BurstRate",
    "insufficient_quota": "Throttling.AllocationQuota",
    "internal_error": "InternalError",
}
#: What a status alone stands for, where a fault names no code.
CODE_OF_STATUS: dict[int, str] = {
    400: "InvalidParameter",
    401: "InvalidApiKey",
    403: "AccessDenied",
    404: "NotFound",
    408: "RequestTimeOut",
    409: "Conflict",
    413: "BadRequest.TooLarge",
    429: "Throttling.RateQuota",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
#: Codes of moderation, whatever a carrier makes of them.
MODERATION = frozenset({"DataInspectionFailed", "IPInfringementSuspect", "CustomRoleBlocked", "FaqRuleBlocked"})
#: Codes that say that our account there must be paid for.
ARREARS = frozenset({"Arrearage", "CommodityNotPurchased", "PrepaidBillOverdue", "PostpaidBillOverdue"})


class SimulatorError(Exception):
    """Everything that this package raises on purpose."""


class ScenarioError(SimulatorError):
    """Says what in a scenario, rule or directive is wrong."""


class Refusal(SimulatorError):
    """An error answer. `status` and `message` default to what the code's row in the error table says."""

    def __init__(
        self, code: str, message: str = "", *, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        known_status, known_message = KNOWN.get(ALIASES.get(code, code), (400, code))
        super().__init__(message or known_message)
        self.code = code
        self.message = message or known_message
        self.status = status or known_status
        self.headers = dict(headers or {})
