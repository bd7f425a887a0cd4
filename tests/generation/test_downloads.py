"""Downloads say by whom they were named, so that the guard can tell a stranger."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from providers.transport import Transport
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"


@pytest.mark.parametrize("model", ["qwen-image-plus", "qwen-image-max"])
async def test_a_download_names_the_carrier_whose_answer_led_there(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    original, sources = Transport.fetch, []

    async def fetch(self: Transport, url: str, **options: Any) -> bytes:
        sources.append((url.startswith(simulator.base_url), options["source"]))
        return await original(self, url, **options)

    monkeypatch.setattr(Transport, "fetch", fetch)
    answer = await gateway.post(URL, json={"model": model, "prompt": "a cat"})
    assert answer.status_code == 200
    assert sources == [(True, f"{simulator.base_url}/api/v1")]
