"""The admin's style sheets and scripts: collected again only if one of them changed, since that takes seconds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

DIGEST = "collected.sha256"


def collect_static() -> bool:
    """Whether anything had to be collected. Raises OSError."""
    root = Path(settings.STATIC_ROOT)
    stamp = root / DIGEST
    digest = describe_sources()
    if stamp.is_file() and stamp.read_text() == digest:
        return False
    root.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    call_command("collectstatic", interactive=False, verbosity=0, skip_checks=True)
    stamp.write_text(digest)
    return True


def describe_sources() -> str:
    """Changes with the path, size or time of any source file, and with how they are stored."""
    digest = hashlib.sha256(repr(settings.STORAGES["staticfiles"]).encode())
    for finder in get_finders():
        for path, storage in sorted(finder.list([]), key=lambda found: found[0]):
            facts = Path(storage.path(path)).stat()
            digest.update(f"{storage.path(path)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
