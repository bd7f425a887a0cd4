"""An offer on trial beside those that serve: copies of requests as processes make and leave them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
from asgiref.sync import sync_to_async

from billing.models import Account, LedgerEntry
from crazyrouter.files.models import StoredImage
from crazyrouter.generation.journal.finishing import Finish, finish_generations
from crazyrouter.generation.journal.shadows import Copy
from crazyrouter.generation.lane import Entry, write_batch
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.generation.order import Ask, CallResult, Failure, Order
from crazyrouter.generation.outcomes import judge
from crazyrouter.generation.runtime import get_runtime
from providers.contract import Billed, Code, Scope
from providers.models import Capacity, Channel, Offer, UpstreamAccount, add_credential
from providers.routing import Listing, choose, load_routes
from tests.generation.test_recovery import build_orders, open_orders
from tests.shop import Customer, open_channel
from tests.simulator.running import RunningSimulator

URL = "/v1/images/generations"
MODEL, PLUS = "qwen-image-2.0", "qwen-image-plus"
SMALL = {"model": MODEL, "prompt": "a cat", "size": "512x512"}
TRIAL_KEY = "sk-sim-trial"
TRIAL = {"key": TRIAL_KEY}


def agree(customer: Customer, *, allowed: bool = True) -> None:
    Account.objects.filter(pk=customer.account.pk).update(shadow_allowed=allowed)


def open_trial(
    simulator: RunningSimulator,
    kind: str = "openai_images",
    model: str = MODEL,
    *,
    name: str = "trial",
    percent: int = 100,
    per_day: int = 1000,
    max_n: int = 4,
) -> Offer:
    """A channel with a key of its own, whose one offer is a shadow."""
    base = f"{simulator.base_url}{'/v1' if kind == 'openai_images' else '/api/v1'}"
    channel = open_channel(base, kind, {model: max_n}, name=name)
    add_credential(channel, TRIAL_KEY)
    Offer.objects.filter(channel=channel).update(shadow_percent=percent, shadow_per_day=per_day)
    return Offer.objects.get(channel=channel)


def limit(channel_name: str, **values: Any) -> Capacity:
    account = UpstreamAccount.objects.create(name=f"account of {channel_name}")
    Channel.objects.filter(name=channel_name).update(account=account)
    return Capacity.objects.create(account=account, **values)


agree_async = sync_to_async(agree)
open_trial_async = sync_to_async(open_trial)
limit_async = sync_to_async(limit)


async def order(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post(URL, json=SMALL | changes)


async def await_copies() -> None:
    """Until this process makes none any more."""
    shadows = get_runtime().engine._shadows
    async with asyncio.timeout(20):
        while shadows._copying:
            await asyncio.wait(shadows._copying)


async def order_and_copy(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    response = await order(client, **changes)
    await await_copies()
    return response


def read_copies() -> list[Attempt]:
    return list(Attempt.objects.filter(purpose="shadow").order_by("generation_id", "number"))


read_copies_async = sync_to_async(read_copies)


def read_orders(simulator: RunningSimulator) -> list[dict[str, Any]]:
    return [entry for entry in simulator.bill()["entries"] if entry["kind"] == "submission"]


def count_trials(simulator: RunningSimulator) -> int:
    return sum(entry["key_last4"] == TRIAL_KEY[-4:] for entry in read_orders(simulator))


def make_copies(customer: Customer, count: int, *, number: int = 1001, shared: bool = False) -> list[Copy]:
    """Of generations that have ended."""
    orders = build_orders(customer, count)
    open_orders(orders)
    write(finish_generations, [make_finish(one) for one in orders])
    return [make_copy(one, number=number, shared=shared) for one in orders]


def make_finish(order: Order) -> Finish:
    """Its one call failed."""
    failure = Failure(Code.OVERLOADED, Billed.NO, Scope.OFFER)
    result = CallResult(1, Attempt.State.FAILED, failures=(failure,))
    return Finish(order, "gone", judge([result]), (give_room_back(order, result),), {})


def give_room_back(order: Order, result: CallResult) -> CallResult:
    [capacity_id] = Attempt.objects.filter(generation_id=order.id, number=1).values_list("capacity_id", flat=True)
    return replace(result, capacity_id=capacity_id, took_ms=1_000)


def make_copy(order: Order, *, number: int = 1001, shared: bool = False) -> Copy:
    [route] = load_routes()[order.model_name].shadows
    return Copy(Ask(order, number, (0,), choose(Listing((route,)), order.wish)), shared)


def write(operation: Any, items: Sequence[Any]) -> list[Any]:
    """As one batch of a process's lane."""
    batch = [Entry(operation, item, None) for item in items]
    write_batch(batch)
    assert [entry.error for entry in batch] == [None] * len(batch)
    return [entry.result for entry in batch]


def open_shared_trial(simulator: RunningSimulator, **values: Any) -> Capacity:
    """The shadow is at the upstream account that serves customers, and of the same model."""
    offer = open_trial(simulator, "dashscope_sync", name="trial")
    account = UpstreamAccount.objects.create(name="one account")
    Channel.objects.filter(name__in=["trial", "dashscope_sync-0"]).update(account=account)
    return Capacity.objects.create(account=account, upstream_model=offer.upstream_model, **values)


def read_customer_side() -> dict[str, Any]:
    """All that a copy must leave as it is."""
    return {
        "generations": list(
            Generation.objects.order_by("id").values_list("state", "failure", "delivered", "n", "takeovers")
        ),
        "attempts": list(
            Attempt.objects.filter(purpose="customer").order_by("id").values_list("number", "state", "code", "images")
        ),
        "images": list(StoredImage.objects.order_by("slot").values_list("slot", "width", "height")),
        "entries": list(LedgerEntry.objects.order_by("id").values_list("kind", "amount_micros", "line")),
        "account": Account.objects.values_list("balance_micros", "held_micros", "sequence").get(),
    }


read_customer_side_async = sync_to_async(read_customer_side)
