from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import httpx
import pytest

from tests.simulator.running import RunningSimulator

KEY = "sk-sim-acme.one"
TEXT2IMAGE = "/api/v1/services/aigc/text2image/image-synthesis"
MULTIMODAL = "/api/v1/services/aigc/multimodal-generation/generation"
FAL_APP = "fal-ai/qwen-image-2/text-to-image"
FAL_HEADERS = {"Authorization": f"Key {KEY}"}
PLAIN: dict[str, Any] = {
    "accounts": {"configured": ["sk-configured"]},
    "latency_s": 0,
    "limits": {},
    "late_validation": True,
    "link_life_s": None,
    "reseller": {"keys": ["sk-reseller"]},
    "rules": [],
}


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[RunningSimulator]:
    with RunningSimulator(PLAIN) as running:
        yield running


@pytest.fixture
def simulator(shared_simulator: RunningSimulator) -> RunningSimulator:
    shared_simulator.set_scenario(**PLAIN)
    shared_simulator.reset()
    return shared_simulator


@pytest.fixture(scope="session")
def bare() -> Iterator[httpx.Client]:
    """A client without a key, as object stores want it. One for all: opening one loads every root certificate."""
    with httpx.Client(trust_env=False, timeout=5) as opened:
        yield opened


@pytest.fixture(scope="session")
def keyed(shared_simulator: RunningSimulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=shared_simulator.base_url, headers=headers, trust_env=False, timeout=5) as opened:
        yield opened


@pytest.fixture
def client(simulator: RunningSimulator, keyed: httpx.Client) -> httpx.Client:
    """A client with the key of account `acme`, of a simulator that has forgotten the last test."""
    return keyed


class Submit(Protocol):
    """Places an order; what is not named here becomes a parameter of it."""

    def __call__(
        self, prompt: str = ..., *, model: str = ..., headers: Any = ..., timeout: float = ..., **parameters: Any
    ) -> httpx.Response: ...


@pytest.fixture
def submit(client: httpx.Client) -> Submit:
    """Order a task."""

    def call(
        prompt: str = "a cat",
        *,
        model: str = "qwen-image-plus",
        headers: Any = None,
        timeout: float = 5,
        **parameters: Any,
    ) -> httpx.Response:
        body = {"model": model, "input": {"prompt": prompt}, "parameters": parameters}
        wanted = {"X-DashScope-Async": "enable", **(headers or {})}
        return client.post(TEXT2IMAGE, json=body, headers=wanted, timeout=timeout)

    return call


@pytest.fixture
def generate(client: httpx.Client) -> Submit:
    """Order by the sync shape; small pictures where the model has them."""

    def call(
        prompt: str = "a cat",
        *,
        model: str = "qwen-image-2.0",
        headers: Any = None,
        timeout: float = 5,
        **parameters: Any,
    ) -> httpx.Response:
        small = {"size": "512*512"} if model.startswith("qwen-image-2.0") else {}
        messages = [{"role": "user", "content": [{"text": prompt}]}]
        body = {"model": model, "input": {"messages": messages}, "parameters": {**small, **parameters}}
        return client.post(MULTIMODAL, json=body, headers=headers, timeout=timeout)

    return call


@pytest.fixture
def resell(client: httpx.Client) -> Submit:
    """Order from the reseller."""

    def call(
        prompt: str = "a cat",
        *,
        model: str = "qwen-image-2.0",
        headers: Any = None,
        timeout: float = 5,
        **parameters: Any,
    ) -> httpx.Response:
        body = {"model": model, "size": "512x512", "prompt": prompt, **parameters}
        return client.post("/v1/images/generations", json=body, headers=headers, timeout=timeout)

    return call


@pytest.fixture
def relay(client: httpx.Client) -> Submit:
    """Order from the reseller that answers with tasks."""

    def call(
        prompt: str = "a cat",
        *,
        model: str = "qwen-image-2.0",
        headers: Any = None,
        timeout: float = 5,
        **parameters: Any,
    ) -> httpx.Response:
        body = {"model": model, "size": "512x512", "prompt": prompt, **parameters}
        return client.post("/relay/v1/images/generations", json=body, headers=headers, timeout=timeout)

    return call


@pytest.fixture
def enqueue(client: httpx.Client) -> Submit:
    """Put a request into fal's queue; small pictures."""

    def call(
        prompt: str = "a cat",
        *,
        model: str = FAL_APP,
        headers: Any = None,
        timeout: float = 5,
        **parameters: Any,
    ) -> httpx.Response:
        body = {"prompt": prompt, "image_size": "square", **parameters}
        return client.post(f"/fal/{model}", json=body, headers={**FAL_HEADERS, **(headers or {})}, timeout=timeout)

    return call


@pytest.fixture
def flow(client: httpx.Client) -> Submit:
    """Order from SiliconFlow."""

    def call(
        prompt: str = "a cat",
        *,
        model: str = "Qwen/Qwen-Image",
        headers: Any = None,
        timeout: float = 5,
        **parameters: Any,
    ) -> httpx.Response:
        body = {"model": model, "image_size": "1328x1328", "prompt": prompt, **parameters}
        return client.post("/siliconflow/v1/images/generations", json=body, headers=headers, timeout=timeout)

    return call
