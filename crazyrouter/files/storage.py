"""Where the bytes of delivered pictures lie: written durably, read in ranges, deleted once, listed for the sweep.

A write that returned survives a power cut; a write that raised leaves nothing under its name. All
calls block and may run in any thread.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from crazyrouter.files.errors import NotStored, StorageError, StorageUnavailable
from crazyrouter.files.names import NAME, shard_of

#: Beside its final place, hidden, and never a name that is served.
TEMPORARY = re.compile(r"\.(" + NAME.pattern + r")\.[0-9a-f]{16}\.part")
_SHARD = re.compile(r"[a-z2-7]{2}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What the sweep sees. `modified` is in seconds since the epoch; a temporary has the name it was to get."""

    name: str
    modified: float
    temporary: bool
    path: str


class Storage(Protocol):
    """Every method raises InvalidName before the medium is touched, and StorageUnavailable when it fails."""

    def write(self, name: str, data: bytes) -> None: ...

    def open(self, name: str) -> FileIO:
        """The bytes, to read; they stay readable while open, even if deleted. Raises NotStored."""
        ...

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        """A range, or everything from `start`; short only at the end of the file. Raises NotStored."""
        ...

    def size(self, name: str) -> int:
        """In bytes. Raises NotStored."""
        ...

    def touch(self, name: str) -> None:
        """Make it as young as if it were written now: the sweep leaves it alone. Raises NotStored."""
        ...

    def delete(self, name: str) -> None:
        """Gone afterwards, whether or not it was there."""
        ...

    def iterate(self) -> Iterator[StoredFile]:
        """Everything of ours on the medium, including temporaries of writers that died."""
        ...

    def discard(self, file: StoredFile, *, older_than: float) -> bool:
        """Remove what `iterate` listed unless it was written or touched since; whether it was removed."""
        ...


class LocalStorage:
    """A folder on this machine, with a sub-folder for each of 1,024 beginnings of the random part."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, data: bytes) -> None:
        folder = f"{self.root}/{shard_of(name)}"
        temporary = f"{folder}/.{name}.{secrets.token_hex(8)}.part"
        try:
            _write_synced(temporary, data, root=self.root)
            _rename(temporary, f"{folder}/{name}")
            _sync_folder(folder)
        except OSError as error:
            raise _translate(error, name) from error

    def open(self, name: str) -> FileIO:
        path = self._path(name)
        with _translated(name):
            return FileIO(path)

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        with self.open(name) as file, _translated(name):
            file.seek(start)
            return file.read(-1 if length is None else length) or b""

    def size(self, name: str) -> int:
        path = self._path(name)
        with _translated(name):
            return path.stat().st_size

    def touch(self, name: str) -> None:
        path = self._path(name)
        with _translated(name):
            os.utime(path)

    def delete(self, name: str) -> None:
        path = self._path(name)
        with _translated(name):
            path.unlink(missing_ok=True)

    def iterate(self) -> Iterator[StoredFile]:
        with _translated("the listing"):
            if not self.root.is_dir():
                return
            for shard in sorted(path for path in self.root.iterdir() if _SHARD.fullmatch(path.name)):
                yield from _list_shard(shard)

    def discard(self, file: StoredFile, *, older_than: float) -> bool:
        path = Path(file.path)
        with _translated(file.name), suppress(FileNotFoundError):
            if path.stat().st_mtime < older_than:
                path.unlink()
                return True
        return False

    def _path(self, name: str) -> Path:
        return self.root / shard_of(name) / name


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """The operating system's errors as ours."""
    try:
        yield
    except OSError as error:
        raise _translate(error, name) from error


def _translate(error: OSError, name: str) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return NotStored(name)
    return StorageUnavailable(f"{name}: {error.strerror or type(error).__name__}")


# Writing is on the hot path, in threads that contend with the event loop for the interpreter: plain system
# calls cost half the CPU of pathlib and file objects here.


def _write_synced(path: str, data: bytes, *, root: Path) -> None:
    """All of `data`, durable under `path`, or no file."""
    try:
        descriptor = _create(path)
    except FileNotFoundError:
        _make_folder(Path(path).parent, root=root)
        descriptor = _create(path)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except BaseException:
        _remove_quietly(path)
        raise
    finally:
        os.close(descriptor)


def _rename(path: str, target: str) -> None:
    try:
        os.rename(path, target)  # noqa: PTH104 - see above
    except BaseException:
        _remove_quietly(path)
        raise


def _remove_quietly(path: str) -> None:
    """Best effort: the error that led here is the one to report, and the sweep takes what stays."""
    with suppress(OSError):
        Path(path).unlink()


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _make_folder(folder: Path, *, root: Path) -> None:
    """Durably: a synced file in a folder that a power cut forgets would be lost with it."""
    root.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    _sync_folder(root.parent)
    _sync_folder(root)


def _sync_folder(folder: str | Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _list_shard(shard: Path) -> Iterator[StoredFile]:
    with os.scandir(shard) as entries:
        for entry in entries:
            temporary = TEMPORARY.fullmatch(entry.name)
            if temporary is None and NAME.fullmatch(entry.name) is None:
                continue  # not ours: never touched
            try:
                modified = entry.stat(follow_symlinks=False).st_mtime
            except FileNotFoundError:
                continue  # renamed or deleted meanwhile
            name = entry.name if temporary is None else temporary[1]
            yield StoredFile(name=name, modified=modified, temporary=temporary is not None, path=entry.path)


def get_storage() -> Storage:
    """The storage that `FILE_STORAGE_URL` names. Raises ImproperlyConfigured."""
    with _opening:
        return _open_storage(settings.FILE_STORAGE_URL)


_opening = threading.Lock()


@lru_cache(maxsize=8)
def _open_storage(url: str) -> Storage:
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise ImproperlyConfigured(
            f"FILE_STORAGE_URL: only file:///absolute/path is known, not {parts.scheme or url!r}"
        )
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.strip("/"):
        raise ImproperlyConfigured("FILE_STORAGE_URL must be file:///absolute/path; write # and ? as %23 and %3F")
    return LocalStorage(path)
