"""The object store behind the links: serves pictures, and refuses in XML."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from xml.sax.saxutils import escape

from providers.simulator.answers import answer
from providers.simulator.errors import Refusal
from providers.simulator.faults import Endpoint, Stage, Struck
from providers.simulator.links import LinkError, Picture
from providers.simulator.rules import HEADER, read_directives
from providers.simulator.state import State
from providers.simulator.wire import Reply, Request

_TWO_KEYS = "Only one auth mechanism allowed; the Signature query string parameter or the Authorization header."


async def serve(state: State, request: Request) -> Reply:
    """A picture under the link that was given out, unchanged and without any credential."""
    if "authorization" in request.headers:
        return _reply_xml(400, "InvalidArgument", _TWO_KEYS)
    try:
        picture = state.shelf.find(raw_path=request.raw_path, raw_query=request.raw_query)
        own = read_directives(header=request.headers.get(HEADER, ""), stage=Stage.IMAGE)
    except LinkError as error:
        return _reply_xml(error.status, error.code, error.message)
    except Refusal as refusal:
        return _envelope(refusal)
    facts = replace(picture.facts, endpoint=Endpoint.IMAGE)
    struck = state.strike(facts, [*own, *picture.directives])
    return await answer(struck, lambda: _send(state, picture, struck), envelope=_envelope)


async def _send(state: State, picture: Picture, struck: Struck) -> Reply:
    elsewhere = struck.get("image_redirect")
    if elsewhere:
        return Reply(302, b"", {"location": elsewhere.get("location", "http://127.0.0.1:1/")})
    print_ = await state.studio.print(picture.drawing, struck)
    headers = {
        "server": "AliyunOSS",
        "content-type": print_.content_type,
        "etag": f'"{hashlib.md5(print_.body, usedforsecurity=False).hexdigest().upper()}"',
        "x-oss-request-id": uuid.uuid4().hex[:24].upper(),
        "x-oss-object-type": "Normal",
    }
    if not print_.grown_to:
        return Reply(200, print_.body, headers)
    oversized = struck.get("image_oversized")
    announced = None if oversized and oversized.get("chunked", False) else max(print_.grown_to, len(print_.body) + 12)
    return Reply(200, b"", headers, stream=print_.inflate(), length=announced)


def _envelope(refusal: Refusal) -> Reply:
    """Errors asked for by a fault: 403 and 404 go by the store's own names."""
    code = {403: "AccessDenied", 404: "NoSuchKey"}.get(refusal.status, refusal.code)
    return _reply_xml(refusal.status, code, refusal.message)


def _reply_xml(status: int, code: str, message: str) -> Reply:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n'
        f"  <Code>{escape(code)}</Code>\n  <Message>{escape(message)}</Message>\n"
        f"  <RequestId>{uuid.uuid4().hex[:24].upper()}</RequestId>\n"
        "  <HostId>dashscope-result-sim.oss-cn-beijing.aliyuncs.com</HostId>\n</Error>\n"
    )
    return Reply(status, body.encode(), {"server": "AliyunOSS", "content-type": "application/xml"})
