from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import RunningServer
from tests.shop import Customer


@pytest.fixture
def server(customer: Customer) -> Iterator[RunningServer]:
    with RunningServer() as running:
        yield running
