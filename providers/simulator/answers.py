"""Wrong answers: what a struck call gets instead of, or made from, its proper one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from providers.simulator.errors import CODE_OF_STATUS, Refusal
from providers.simulator.faults import Fault, Struck
from providers.simulator.orders import refuse_input
from providers.simulator.wire import Manner, Reply

Produce = Callable[[], Awaitable[Reply]]

#: How a protocol words an error: (refusal) -> Reply.
Envelope = Callable[[Refusal], Reply]

_HTML = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


async def answer(struck: Struck, produce: Produce, *, envelope: Envelope) -> Reply:
    """The proper answer, or what a fault makes of it. A Refusal from `produce` becomes an error answer."""
    fault = struck.answer
    if fault and fault.refuses:
        return build_wrong(fault, envelope)
    try:
        proper = await produce()
    except Refusal as refusal:
        return envelope(refusal)
    return spoil(proper, fault, envelope=envelope)


def spoil(proper: Reply, fault: Fault | None, *, envelope: Envelope) -> Reply:
    if fault is None or fault.get("late", False):
        return proper
    if fault.name == "drip":
        return replace(proper, manner=Manner.DRIP, seconds=fault.get("seconds", 2.0))
    if fault.name == "truncated" and fault.get("how", "json") == "body":
        return replace(proper, manner=Manner.CUT)
    if fault.name == "truncated":
        return replace(proper, body=proper.body[: len(proper.body) // 2])
    return build_wrong(fault, envelope)


def build_wrong(fault: Fault, envelope: Envelope) -> Reply:
    """An answer that has nothing to do with the proper one."""
    if fault.name == "hang":
        return Reply(manner=Manner.HANG)
    if fault.name == "reset":
        return Reply(manner=Manner.RESET)
    if fault.name == "html":
        return Reply(fault.get("status", 502), _HTML, {"content-type": "text/html"})
    if fault.name == "empty":
        return Reply(fault.get("status", 200), b"", {"content-type": "application/json"})
    refusal = build_refusal(fault)
    wrong = envelope(refusal)
    return replace(wrong, status=200) if fault.name == "code200" else wrong


def build_refusal(fault: Fault) -> Refusal:
    """The error that `error`, `throttle`, `moderation_input` and `code200` stand for."""
    if fault.name == "moderation_input":
        return refuse_input()
    standard = 429 if fault.name == "throttle" else fault.get("status", 500)
    retry_after = fault.get("retry_after", None)
    return Refusal(
        fault.get("code", CODE_OF_STATUS.get(standard, "InternalError")),
        fault.get("message", ""),
        status=fault.get("status", None),
        headers={} if retry_after is None else {"retry-after": f"{retry_after:g}"},
    )
