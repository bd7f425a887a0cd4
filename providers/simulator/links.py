"""Signed links as the vendor's object store makes them, and the shelf of pictures behind them.

A link is checked byte for byte as it was sent: whoever re-encodes the query string, reorders it or
drops a parameter gets 403, as from the real store. The signature always holds %2B, %2F and %3D.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote

from providers.simulator.clock import Clock
from providers.simulator.errors import SimulatorError
from providers.simulator.pictures import Drawing
from providers.simulator.rules import Facts, Rule

PREFIX = "/oss/dashscope-result-sim/"
FAL_PREFIX = "/fal/files/sim/"
SILICONFLOW_PREFIX = "/siliconflow/outputs/"
PREFIXES = (PREFIX, FAL_PREFIX, SILICONFLOW_PREFIX)
ACCESS_KEY_ID = "LTAI5tSimulatorOnly"
#: Pictures that can still be fetched; the oldest go first. A picture is a few hundred bytes until it is drawn.
KEPT = 20_000


class LinkError(SimulatorError):
    """The store's own error: an HTTP status and a code in an XML body."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on the shelf: how to draw it, and which faults its order brought along."""

    path: str
    link: str
    drawing: Drawing
    facts: Facts
    directives: list[Rule] = field(default_factory=list)


class Shelf:
    """Gives out links and finds the pictures that they name."""

    def __init__(self, clock: Clock, *, public_base_url: str) -> None:
        self._clock = clock
        self._base_url = public_base_url.rstrip("/")
        self._secret = secrets.token_bytes(32)
        self._pictures: OrderedDict[str, Picture] = OrderedDict()

    def clear(self) -> None:
        self._pictures.clear()

    def put(
        self, drawing: Drawing, *, facts: Facts, directives: list[Rule], expires: float, prefix: str = PREFIX
    ) -> Picture:
        path, query = self._sign_telling(f"{prefix}{drawing.name}-{drawing.index + 1}", expires=int(expires))
        picture = Picture(path, f"{self._base_url}{path}?{query}", drawing, facts, directives)
        self._pictures[path] = picture
        if len(self._pictures) > KEPT:
            self._pictures.popitem(last=False)
        return picture

    def find(self, *, raw_path: bytes, raw_query: bytes) -> Picture:
        """Raises LinkError."""
        path = raw_path.decode("latin-1")
        if not raw_query:
            raise LinkError(403, "AccessDenied", "You have no right to access this object because of bucket acl.")
        expires = parse_qs(raw_query.decode("latin-1")).get("Expires", [""])[0]
        if not expires.isdigit() or not hmac.compare_digest(self._sign(path, int(expires)).encode(), raw_query):
            raise LinkError(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        if int(expires) < self._clock.now():
            raise LinkError(403, "AccessDenied", "Request has expired.")
        if path not in self._pictures:
            raise LinkError(404, "NoSuchKey", "The specified key does not exist.")
        return self._pictures[path]

    def _sign_telling(self, stem: str, *, expires: int) -> tuple[str, str]:
        """A link whose signature needs escapes, so that whoever touches them is found out every time."""
        while True:
            path = f"{stem}-{secrets.token_hex(6)}.png"
            query = self._sign(path, expires)
            if "%2B" in query and "%2F" in query:
                return path, query

    def _sign(self, path: str, expires: int) -> str:
        text = f"GET\n\n\n{expires}\n{path}".encode()
        signature = base64.b64encode(hmac.new(self._secret, text, hashlib.sha1).digest()).decode()
        return f"Expires={expires}&OSSAccessKeyId={ACCESS_KEY_ID}&Signature={quote(signature, safe='')}"
