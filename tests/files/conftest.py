from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from crazyrouter.files.executors import close_executors
from crazyrouter.files.models import StoredImage
from crazyrouter.files.names import new_name
from crazyrouter.files.rows import forget_rows
from crazyrouter.files.storage import LocalStorage, get_storage


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Nothing remembered, no thread of the test before, and none left behind."""
    forget_rows()
    yield
    close_executors()


@pytest.fixture
def storage(settings: Any, tmp_path: Path) -> LocalStorage:
    settings.FILE_STORAGE_URL = (tmp_path / "files").as_uri()
    found = get_storage()
    assert isinstance(found, LocalStorage)
    return found


@pytest.fixture
def stored(database: None, storage: LocalStorage) -> Callable[..., StoredImage]:
    """Write bytes and their row: `stored(b"…", age=…, ttl=…)`, both timedeltas."""

    def make(data: bytes, *, age: timedelta = timedelta(), ttl: timedelta = timedelta(hours=72)) -> StoredImage:
        name = new_name()
        storage.write(name, data)
        created_at = timezone.now() - age
        return StoredImage.objects.create(
            name=name,
            generation_id=f"gen_{secrets.token_hex(8)}",
            slot=0,
            width=1,
            height=1,
            bytes=len(data),
            sha256=sha256(data).hexdigest(),
            created_at=created_at,
            expires_at=created_at + ttl,
        )

    return make
