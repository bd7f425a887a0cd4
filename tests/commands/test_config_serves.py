"""What `config apply` makes of an empty database is a shop: pictures are ordered, limited, drawn and paid for."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command

from billing.models import LedgerEntry
from crazyrouter.generation.models import Attempt
from providers.models import Capacity
from tests.commands.test_config_apply import EXAMPLE
from tests.shop import Customer, open_customer
from tests.simulator.running import RunningSimulator


@pytest.fixture
def customer(database: None, simulator: RunningSimulator, settings: Any, tmp_path: Path, monkeypatch: Any) -> Customer:
    """Somebody with money, at the shop of the example, whose carrier is the simulator."""
    settings.EGRESS_ALLOW = [f"127.0.0.1:{simulator.port}"]
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-sim-test-credential")
    text = EXAMPLE.read_text().replace("https://dashscope.aliyuncs.com", simulator.base_url)
    (tmp_path / "shop.yaml").write_text(text.replace("poll_interval_s: 5", "poll_interval_s: 0.2"))
    call_command("config", "apply", str(tmp_path / "shop.yaml"), stdout=StringIO())
    return open_customer()


@pytest.mark.parametrize(("model", "size", "micros"), [
    ("qwen-image-plus", "1024x1024", -200_000),
    ("qwen-image-2.0-pro", "768x512", -500_000),
])  # fmt: skip
async def test_a_picture_is_ordered_and_paid(
    gateway: httpx.AsyncClient, customer: Customer, model: str, size: str, micros: int
) -> None:
    answer = await gateway.post("/v1/images/generations", json={"model": model, "prompt": "a fox", "size": size})
    assert (answer.status_code, len(answer.json()["data"])) == (200, 1), answer.text
    assert await sync_to_async(read_books)() == [(micros, model)]
    assert await sync_to_async(read_room)(model) == [(model, 0, 1)]


def read_books() -> list[tuple[int, str]]:
    entries = LedgerEntry.objects.filter(kind="charge")
    return [(entry.amount_micros, entry.model) for entry in entries]


def read_room(model: str) -> list[tuple[str, int, int]]:
    """The capacity that the attempt took: given back, and its submit remembered."""
    taken = Attempt.objects.get().capacity
    assert taken == Capacity.objects.get(upstream_model=model)
    return [(taken.upstream_model, taken.running, len(taken.starts))]
