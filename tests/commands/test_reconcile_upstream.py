"""`manage.py reconcile --upstream`: a simulator's bill beside our attempts, and each side tampered with."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.utils import timezone

from crazyrouter.generation.models import Attempt
from crazyrouter.generation.upstream_bill import reading
from models_registry.models import ImageModel
from providers.models import Channel, Offer, add_credential
from providers.simulator.bill import Submission
from tests.shop import Customer
from tests.simulator.conftest import FAL_APP, MULTIMODAL
from tests.simulator.running import CONTROL_KEY, RunningSimulator

Said = tuple[list[str], str, int]


def run(simulator: RunningSimulator) -> Said:
    """Lines on standard output, standard error, exit code."""
    out, err, code = StringIO(), StringIO(), 0
    options = ("--upstream", simulator.base_url, "--control-key", CONTROL_KEY)
    try:
        call_command("reconcile", *options, stdout=out, stderr=err)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return out.getvalue().splitlines(), err.getvalue(), code


run_async = sync_to_async(run)


async def order(gateway: httpx.AsyncClient, prompt: str = "a cat", **fields: Any) -> httpx.Response:
    body = {"model": "qwen-image-2.0", "prompt": prompt, "size": "1328x1328", **fields}
    return await gateway.post("/v1/images/generations", json=body)


@sync_to_async
def open_channel(base_url: str, kind: str, upstream_model: str, key: str, shape: str) -> None:
    """One that is asked before those of the shop."""
    channel = Channel.objects.create(name=kind, kind=kind, base_url=base_url, simulated=True)
    add_credential(channel, key)
    model = ImageModel.objects.get(name="qwen-image-2.0")
    Offer.objects.create(channel=channel, model=model, upstream_model=upstream_model, shape=shape, priority=-1)


@sync_to_async
def tamper(**changes: Any) -> str:
    """Change the newest attempt; its name."""
    attempt = Attempt.objects.latest("id")
    Attempt.objects.filter(pk=attempt.pk).update(**changes)
    return str(attempt)


def find_order(simulator: RunningSimulator) -> tuple[Submission, str]:
    """The only order on the simulator's bill, and its name."""
    (entry,) = [entry for entry in simulator.app.state.bill._entries if isinstance(entry, Submission)]
    return entry, f"order {entry.id} ({entry.task_id or entry.request_id})"


async def find_differences(simulator: RunningSimulator) -> list[str]:
    """What was named as a violation by the bill's rules; the books have theirs."""
    lines, errors, code = await run_async(simulator)
    found = [line.removeprefix("VIOLATION  ") for line in lines if line.startswith("VIOLATION")]
    assert (errors, code) == (f"{len(found)} violation(s)\n", 1)
    return [line for line in found if not line.startswith("delivered-picture-has-an-attempt")]


async def test_bills_that_agree(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    assert (await order(gateway, n=3)).status_code == 200
    assert (await order(gateway, model="qwen-image-plus")).status_code == 200
    assert (await order(gateway, "a [[sim: partial ok=2]]", n=3)).status_code == 200
    assert (await order(gateway, "a [[sim: moderation_input]]")).status_code == 400
    assert (await order(gateway, "a [[sim: failed]]", model="qwen-image-plus")).status_code == 502
    assert (await order(gateway, "a [[sim: image_broken how=html]]")).status_code == 502
    lines, errors, code = await run_async(simulator)
    assert lines == [
        f"{simulator.base_url}: 6 order(s), 7 picture(s) charged; here: 6 attempt(s), 7 picture(s)",
        "the books are right, and so is the bill",
    ]
    assert (errors, code) == ("", 0)


async def test_what_is_unknown_is_explained(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    directives = ("reset", "reset billed=true", "html billed=true", "truncated")
    for directive in directives:
        await order(gateway, f"a [[sim: {directive}]]")
    lines, errors, code = await run_async(simulator)
    assert (errors, code, lines[-1]) == ("", 0, "the books are right, and so is the bill")
    assert lines[-2] == f"{simulator.base_url}: 4 order(s), 3 picture(s) charged; here: 4 attempt(s), 0 to 4 picture(s)"
    assert len(lines) == 6
    assert all(line.startswith("notice  attempt-may-be-charged  gen_") for line in lines[:4])
    assert sum("the bill charges 1 picture(s)" in line for line in lines) == 3


@pytest.mark.parametrize(
    ("path", "kind", "upstream_model", "key", "shape"),
    [
        ("/fal", "fal_queue", FAL_APP, "sk-sim-fal.id:secret", "async"),
        ("/relay/v1", "openai_images_tasks", "qwen-image-2.0", "sk-sim-shop.one", "async"),
        ("/v1", "openai_images", "qwen-image-2.0", "sk-sim-shop.one", "sync"),
    ],
)
async def test_every_carrier_is_found_on_the_bill(
    gateway: httpx.AsyncClient,
    simulator: RunningSimulator,
    path: str,
    kind: str,
    upstream_model: str,
    key: str,
    shape: str,
) -> None:
    await open_channel(simulator.base_url + path, kind, upstream_model, key, shape)
    assert (await order(gateway)).status_code == 200
    assert (await order(gateway, "a [[sim: failed]]")).status_code == 502
    attempt = await Attempt.objects.select_related("channel").aearliest("id")
    assert (attempt.channel.kind, attempt.state) == (kind, "succeeded")
    lines, _, code = await run_async(simulator)
    assert (lines[-1], code) == ("the books are right, and so is the bill", 0)


async def test_an_order_behind_our_back(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    body = {"model": "qwen-image-max", "input": {"messages": [{"role": "user", "content": [{"text": "a dog"}]}]}}
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": "Bearer sk-sim-stray.wxyz"}) as stray:
        await stray.post(simulator.base_url + MULTIMODAL, json=body)
    _, name = find_order(simulator)
    said = f"{name}: no attempt knows it: 1 of qwen-image-max by key …wxyz, accepted, 1 picture(s) charged"
    assert await find_differences(simulator) == [f"order-has-an-attempt  {said}"]


async def test_an_attempt_of_which_nobody_knows(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await order(gateway, model="qwen-image-plus")
    _, stray = find_order(simulator)
    name = await tamper(task_id="elsewhere", upstream_id="")
    assert await find_differences(simulator) == [
        f"order-has-an-attempt  {stray}: no attempt knows it: 1 of qwen-image-plus by key …tial, accepted, "
        "1 picture(s) charged",
        f"attempt-is-on-the-bill  {name}: is succeeded (elsewhere), the bill has no such order",
    ]


@pytest.mark.parametrize(
    ("changes", "rule", "said"),
    [
        ({"images": 2}, "charged-is-counted", "the bill charges 1 picture(s) for {}, we count 2"),
        ({"images": 0}, "charged-is-counted", "the bill charges 1 picture(s) for {}, we count 0"),
        (
            {"upstream_model": "qwen-image-max"},
            "model-is-the-same",
            "asked for qwen-image-max, the bill has qwen-image-2.0 for {}",
        ),
        ({"slots": [0, 1]}, "count-is-the-same", "asked for 2 picture(s), the bill has 1 for {}"),
        ({"state": "rejected", "billed": "no"}, "end-is-the-same", "rejected, the bill says accepted for {}"),
    ],
)
async def test_our_side_is_tampered_with(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, changes: dict[str, Any], rule: str, said: str
) -> None:
    await order(gateway)
    _, there = find_order(simulator)
    name = await tamper(**changes)
    assert await find_differences(simulator) == [f"{rule}  {name}: {said.format(there)}"]


@pytest.mark.parametrize(
    ("changes", "rule", "said"),
    [
        ({"model": "qwen-image"}, "model-is-the-same", "asked for qwen-image-2.0, the bill has qwen-image for {}"),
        ({"n": 4}, "count-is-the-same", "asked for 1 picture(s), the bill has 4 for {}"),
        ({"key_last4": "wxyz"}, "key-is-the-same", "sent with key …tial, the bill has …wxyz for {}"),
        (
            {"accepted": False, "code": "Throttling"},
            "end-is-the-same",
            "succeeded, the bill says refused (Throttling) for {}",
        ),
    ],
)
async def test_the_bill_is_tampered_with(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, changes: dict[str, Any], rule: str, said: str
) -> None:
    await order(gateway)
    name, (entry, there) = await tamper(), find_order(simulator)
    for field, value in changes.items():
        setattr(entry, field, value)
    assert await find_differences(simulator) == [f"{rule}  {name}: {said.format(there)}"]


async def test_it_charges_what_was_not_made(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await order(gateway)
    name, (entry, there) = await tamper(), find_order(simulator)
    simulator.app.state.bill.charge(entry, images=1, price_fen=20, at=0)
    said = f"{name}: the bill charges 2 picture(s) for {there}, we count 1"
    assert await find_differences(simulator) == [f"charged-is-counted  {said}"]


async def test_an_order_under_another_account(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    for prompt in ("a cat", "a dog", "a fox"):
        await order(gateway, prompt)
    name = await tamper()
    entry = [entry for entry in simulator.app.state.bill._entries if isinstance(entry, Submission)][-1]
    own, entry.account = entry.account, "somebody"
    credential = (await Attempt.objects.alatest("id")).credential_id
    said = (
        f"{name}: of credential {credential}, whose orders are those of {own} there, the bill has somebody for "
        f"order {entry.id} ({entry.request_id})"
    )
    assert await find_differences(simulator) == [f"account-is-the-same  {said}"]


async def test_a_bill_that_was_begun_later(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    """A simulator that starts again has forgotten everything; what was ordered before cannot be on its bill."""
    await order(gateway)
    simulator.call("DELETE", "/bill")
    await order(gateway, "a dog")
    first = await Attempt.objects.aearliest("id")
    await Attempt.objects.filter(pk=first.pk).aupdate(created_at=timezone.now() - timedelta(hours=2))
    lines, _, code = await run_async(simulator)
    assert (lines[0].endswith(": 1 older attempt(s) cannot be on it, and are not compared"), code) == (True, 0)
    assert lines[1] == f"{simulator.base_url}: 1 order(s), 1 picture(s) charged; here: 1 attempt(s), 1 picture(s)"


async def test_it_is_read_in_pages(
    gateway: httpx.AsyncClient, simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 2)
    await order(gateway, n=5)
    await order(gateway, "a dog", n=2)
    lines, _, code = await run_async(simulator)
    said = f"{simulator.base_url}: 2 order(s), 7 picture(s) charged; here: 2 attempt(s), 7 picture(s)"
    assert (lines, code) == ([said, "the books are right, and so is the bill"], 0)


async def test_other_addresses_are_not_compared(gateway: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    await order(gateway)
    await tamper(base_url=f"{simulator.base_url}1/api/v1", upstream_id="theirs")
    assert [line.split("  ")[0] for line in await find_differences(simulator)] == ["order-has-an-attempt"]


@pytest.mark.parametrize(
    ("key", "allowed", "said"),
    [
        ("wrong", True, r"/_sim/bill\?entries=0 answered 401 .*the control key is needed"),
        (CONTROL_KEY, False, r"does not answer: egress refused: .* \(EGRESS_ALLOW must name it\)"),
    ],
)
def test_a_bill_that_cannot_be_read(
    customer: Customer, simulator: RunningSimulator, settings: Any, key: str, allowed: bool, said: str
) -> None:
    settings.EGRESS_ALLOW = settings.EGRESS_ALLOW if allowed else []
    with pytest.raises(CommandError, match=said) as caught:
        call_command("reconcile", "--upstream", simulator.base_url, "--control-key", key, stdout=StringIO())
    assert caught.value.returncode == 2


def test_something_else_than_a_bill(customer: Customer, simulator: RunningSimulator) -> None:
    with pytest.raises(CommandError, match=r"/fal/_sim/bill\?entries=0 answered 404"):
        call_command("reconcile", "--upstream", f"{simulator.base_url}/fal", stdout=StringIO())


def test_it_is_not_recorded(database: None) -> None:
    with pytest.raises(CommandError, match="leave --upstream out"):
        call_command("reconcile", "--record", "--upstream", "http://127.0.0.1:1")
