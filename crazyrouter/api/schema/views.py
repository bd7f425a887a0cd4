"""GET /openapi.json: the document that is checked in, with the address of this very service."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from crazyrouter.api.errors import render_bytes
from crazyrouter.api.schema.words import PLACEHOLDER_URL
from crazyrouter.api.views import OpenView
from crazyrouter.files.etags import knows
from crazyrouter.generation.ids import new_id


class OpenapiView(OpenView):
    """GET /openapi.json"""

    async def get(self, request: HttpRequest) -> HttpResponse:
        content, etag = read_document(settings.BASE_DIR / "openapi.json", settings.PUBLIC_BASE_URL)
        response = render_unchanged() if knows(request, etag) else render_bytes(content)
        response["ETag"] = etag
        response["Cache-Control"] = "no-cache"
        return response


@lru_cache(maxsize=2)
def read_document(path: Path, base_url: str) -> tuple[bytes, str]:
    """The document and its ETag; it changes with a release, never under a running process."""
    text = path.read_text(encoding="utf-8").replace(PLACEHOLDER_URL, json.dumps(base_url)[1:-1])
    content = text.encode()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def render_unchanged() -> HttpResponse:
    response = HttpResponse(status=304, headers={"x-request-id": new_id("req"), "X-Content-Type-Options": "nosniff"})
    del response["Content-Type"]
    return response
