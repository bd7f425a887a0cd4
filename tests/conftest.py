"""Fixtures for every suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_socket

from tests.reset import reset_database


@pytest.fixture(autouse=True, scope="session")
def closed_sockets() -> None:
    """No test reaches further than this machine."""
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture
def database(django_db_setup: Any, django_db_blocker: Any) -> Iterator[None]:
    """A migrated database that every thread sees, emptied afterwards: for what commits for itself."""
    with django_db_blocker.unblock():
        yield
        reset_database()
