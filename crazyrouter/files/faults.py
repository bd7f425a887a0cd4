"""What `/files` answers where it has no picture: the envelope of the API, whose own errors stand a layer above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

METHODS = ("GET", "HEAD")
UNREADABLE = "The file cannot be read at the moment. Try again shortly."


@dataclass(frozen=True, slots=True)
class Fault:
    """`headers` come with it always; others may be added where it is answered."""

    status: int
    message: str
    type: str = "invalid_request_error"
    headers: Mapping[str, str] = field(default_factory=dict)


FAULTS: Mapping[str, Fault] = {
    "not_found": Fault(404, "There is no such file, or it has expired."),
    "method_not_allowed": Fault(405, "Only GET and HEAD are allowed here.", headers={"Allow": ", ".join(METHODS)}),
    "range_not_satisfiable": Fault(416, "The requested range lies outside the file."),
    "storage_unavailable": Fault(503, UNREADABLE, "service_unavailable", {"Retry-After": "5"}),
    "service_unavailable": Fault(503, UNREADABLE, "service_unavailable", {"Retry-After": "5"}),
}


def describe_fault(code: str) -> dict[str, Any]:
    fault = FAULTS[code]
    return {"error": {"message": fault.message, "type": fault.type, "param": None, "code": code}}
