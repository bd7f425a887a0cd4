"""Style sheets and scripts: stored under names with a digest, served whole, collected again only if one changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage

DIGEST = "collected.sha256"


class StaticStorage(CompressedManifestStaticFilesStorage):
    """Names carry a digest, also where one script imports another."""

    support_js_module_import_aggregation = True


class StaticFiles(WhiteNoiseMiddleware):
    """Answers with whole bytes: Django's ASGI handler reads a file at once in any case, and warns that it has to."""

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponse:
        found = static_file.get_response(request.method, request.META)
        body = b""
        if found.file is not None:
            with found.file as file:
                body = file.read()
        response = HttpResponse(body, status=int(found.status))
        del response["Content-Type"]
        for name, value in found.headers:
            response[name] = value
        return response


def collect_static() -> bool:
    """Whether anything had to be collected. Raises OSError."""
    root = Path(settings.STATIC_ROOT)
    stamp = root / DIGEST
    sources = find_sources()
    digest = describe(sources)
    if stamp.is_file() and stamp.read_text() == digest:
        return False
    root.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    for path in sources:
        # collectstatic goes by time and leaves a target that is younger, but a package installed from a cache is as
        # old as the cache.
        (root / path).unlink(missing_ok=True)
    call_command("collectstatic", interactive=False, verbosity=0, skip_checks=True)
    stamp.write_text(digest)
    return True


def find_sources() -> dict[str, Path]:
    """Every static file by the path under which it is collected; the first finder that has one wins."""
    found: dict[str, Path] = {}
    for finder in get_finders():
        for path, storage in finder.list([]):
            found.setdefault(str(Path(getattr(storage, "prefix", None) or "") / path), Path(storage.path(path)))
    return found


def describe(sources: Mapping[str, Path]) -> str:
    """Changes with the place, size or time of any source, and with how they are stored."""
    digest = hashlib.sha256(repr(settings.STORAGES["staticfiles"]).encode())
    for path, source in sorted(sources.items()):
        facts = source.stat()
        digest.update(f"{path}\0{source}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
