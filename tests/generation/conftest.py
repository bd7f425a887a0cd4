from __future__ import annotations

import httpx
import pytest

from tests.generation.trial import agree_async
from tests.shop import Customer


@pytest.fixture
async def willing(gateway: httpx.AsyncClient, customer: Customer) -> httpx.AsyncClient:
    """A customer who agreed."""
    await agree_async(customer)
    return gateway
