"""Whether a client has what it asks for already."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.http import parse_etags


def knows(request: HttpRequest, etag: str) -> bool:
    """If-None-Match, by weak comparison: an edge that compresses makes our tag a weak one."""
    tags = [tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))]
    return etag in tags or "*" in tags
