"""The README's recipe for a new carrier, followed to the letter: nothing but what it names, and it sells a picture."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from asgiref.sync import sync_to_async

from billing.models import LedgerEntry
from crazyrouter.generation.models import Attempt
from providers.adapters import ADAPTERS, get_adapter_class, kinds
from providers.contract import Adapter, Shape
from tests.books import count_rows_async, read_violations_async
from tests.files.samples import decode, make_png
from tests.providers.upstream import Received, Upstream, build_reply
from tests.shop import open_channel

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = Path(__file__).parent / "recipe"
KIND, LINE = "postcard", '    "postcard": "providers.adapters.postcard.Postcard",\n'
COPIED = ("billing", "crazyrouter", "models_registry", "providers", "templates", "tests", "manage.py", "pyproject.toml")
MAX_ADAPTER_LINES = 200
PER_CARRIER = "test_every_carrier_is_as_the_recipe_says"


def read_recipe() -> str:
    readme = (ROOT / "README.md").read_text()
    return readme.partition("## Add a carrier\n")[2].partition("\n## ")[0]


def test_the_recipe_names_all_that_an_adapter_promises():
    promised = {name for name in vars(Adapter) if not name.startswith("_")} | set(Adapter.__annotations__)
    assert promised - set(re.findall(r"`(\w+)`", read_recipe())) == set()


def test_the_recipe_names_files_that_are_there():
    named = re.findall(r"`((?:providers|tests)/[\w/.<>]+)`", read_recipe())
    assert len(named) == 6
    assert [path for path in named if "<kind>" not in path and not (ROOT / path).exists()] == []
    for kind in kinds():
        assert [path for path in named if not (ROOT / path.replace("<kind>", kind)).exists()] == []


@pytest.mark.parametrize("kind", kinds())
def test_every_carrier_is_as_the_recipe_says(kind: str):
    assert ADAPTERS[kind].startswith(f"providers.adapters.{kind}.")
    lines = (ROOT / f"providers/adapters/{kind}.py").read_text().splitlines()
    assert len(lines) < MAX_ADAPTER_LINES
    adapter = get_adapter_class(kind)
    files = {"carrier.json", "errors.json", "submit.json"}
    files |= {"poll.json"} if adapter.shape is Shape.ASYNC else set()
    files |= {"probe.json"} if adapter.free_probe else set()
    assert {path.name for path in (ROOT / "tests/providers/wire" / kind).iterdir()} == files


def test_one_adapter_one_line_and_wire_data_pass_the_contract_suite(tmp_path: Path):
    for name in COPIED:
        source, target = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    add_carrier(tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CRAZYROUTER_", "PYTEST"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", KIND]
    run = subprocess.run(
        [*command, "tests/providers/test_contract.py", f"tests/providers/test_recipe.py::{PER_CARRIER}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) > count_recorded()


def count_recorded() -> int:
    """The exchanges and error codes of the made-up carrier; the suite plays them all, and more."""
    files = {path.stem: orjson.loads(path.read_bytes()) for path in (RECIPE / "wire" / KIND).iterdir()}
    return len(files["submit"]) + len(files["probe"]) + len(files["errors"]["rows"])


def add_carrier(root: Path) -> None:
    """The steps of the recipe, and no other."""
    shutil.copy(RECIPE / f"{KIND}.py", root / f"providers/adapters/{KIND}.py")
    registry = root / "providers/adapters/__init__.py"
    registry.write_text(registry.read_text().replace("ADAPTERS = {\n", "ADAPTERS = {\n" + LINE))
    shutil.copytree(RECIPE / "wire" / KIND, root / f"tests/providers/wire/{KIND}")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of the registry, for as long as a test runs."""
    monkeypatch.setitem(ADAPTERS, KIND, "tests.providers.recipe.postcard.Postcard")


async def print_cards(request: Received, writer: asyncio.StreamWriter) -> None:
    """The print shop itself: two cards an order, which anybody may look at."""
    if request.method == "GET":
        writer.write(build_reply(make_png((512, 512)), headers={"Content-Type": "image/png"}))
        return
    order = orjson.loads(request.body)
    cards = [f"http://{request.headers['host']}/wall/{number}.png" for number in range(order["copies"])]
    slip = {"number": "c-77", "printed": len(cards), "cards": cards}
    writer.write(build_reply(orjson.dumps(slip), headers={"Content-Type": "application/json"}))


async def test_it_sells_a_picture(registered: None, gateway: httpx.AsyncClient, settings: Any) -> None:
    async with Upstream(print_cards) as shop:
        settings.EGRESS_ALLOW = [*settings.EGRESS_ALLOW, shop.pair]
        await sync_to_async(open_channel)(shop.url, KIND, {"qwen-image-2.0": 2}, priority=-1)
        body = {"model": "qwen-image-2.0", "prompt": "a cat", "size": "512x512", "n": 2}
        answer = await gateway.post("/v1/images/generations", json=body)
        assert answer.status_code == 200, answer.text
        ordered = [orjson.loads(request.body) for request in shop.received if request.method == "POST"]
        looked_at = [request for request in shop.received if request.method == "GET"]
    assert ordered == [{"motif": "qwen-image-2.0", "text": "a cat", "wide": 512, "high": 512, "copies": 2}]
    # The stamp goes to the shop alone, not to where the pictures are.
    assert [request.headers.get("x-stamp") for request in looked_at] == [None, None]
    for item in answer.json()["data"]:
        picture = await gateway.get(item["url"].removeprefix("http://127.0.0.1:8000"))
        assert decode(picture.content).size == (512, 512)
    attempt = await Attempt.objects.aget()
    assert (attempt.state, attempt.upstream_id) == ("succeeded", "c-77")
    assert await count_rows_async() == {"generations": 1, "attempts": 1, "images": 2, "charges": 2, "held": 0}
    assert await LedgerEntry.objects.filter(kind="charge").acount() == 2
    assert await read_violations_async() == []
