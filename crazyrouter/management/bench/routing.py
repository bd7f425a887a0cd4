"""`bench routing`: decisions a second, waits against an ideal schedule, looks at tasks against their budget."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from crazyrouter.generation.allocation import Allocator
from crazyrouter.generation.order import Ask
from crazyrouter.management.bench.looks import Looks, measure_looks
from crazyrouter.management.bench.schedule import ORDER, POOLS, TEMPLATE, Waits, run_hours
from providers.capacity import Room
from providers.routing import Exclusion, Listing, Route, Wish, choose

CHANNELS = 50
DECISIONS = 20_000


def run_routing_bench(*, say: Callable[[str], None], write: Callable[[str], None]) -> tuple[int, dict[str, Any]]:
    """Exit code and every figure. 1 where a carrier would have throttled anything."""
    say("decisions ...")
    decisions = measure_decisions()
    say("an hour of traffic in simulated time ...")
    hours = {pool.model: describe_waits(product, ideal) for pool, product, ideal in run_hours()}
    say("looks at 500 tasks over one account with 20 a second ...")
    looks = measure_looks()
    figures = {"decisions": decisions, "hour": hours, "looks": describe_looks(looks)}
    write("\n".join(render(figures)))
    faulty = looks.densest > looks.budget or any(hour["throttled"] for hour in hours.values())
    return int(faulty), figures


# --- decisions ---


def measure_decisions() -> dict[str, float]:
    """One decision: whoever may serve a request among 50 channels, in its order, and the room taken at the first."""
    listing = make_listing()
    wish = Wish((1024, 1024), frozenset({"seed"}))
    rooms = {one: Room(one, None, 1, 10**9) for one in range(CHANNELS)}
    draw = random.Random(1)  # noqa: S311 - no secret
    order = replace(ORDER, size=(1024, 1024), render_size=(1024, 1024))
    began = time.perf_counter()
    for _ in range(DECISIONS):
        decision = choose(listing, wish, luck=draw.random(), draw=draw)
        calls, _rest = Allocator(1, rooms).start(Ask(order, 1, (0,), decision))
        if not calls:
            raise AssertionError("no room was found where there is plenty")
    seconds = time.perf_counter() - began
    return {"channels": CHANNELS, "per_s": DECISIONS / seconds, "us_each": seconds / DECISIONS * 1e6}


def make_listing() -> Listing:
    """Of 50 channels some are out of service, some do not render the size or take the fields; priorities and weights
    are mixed."""
    routes: list[Route] = []
    excluded: list[Exclusion] = []
    for one in range(CHANNELS):
        if one % 10 == 9:
            excluded.append(Exclusion(one, f"channel {one}", "the channel is disabled: test"))
            continue
        routes.append(
            replace(
                TEMPLATE,
                offer_id=one,
                channel_id=one,
                channel_name=f"channel {one}",
                priority=one // 10,
                weight=1 + one % 3,
                capacity_id=one,
                sizes=frozenset({(512, 512)}) if one % 7 == 0 else frozenset(),
                unsupported=frozenset({"seed"}) if one % 11 == 0 else frozenset(),
                canary_percent=5 if one == 25 else None,
            )
        )
    return Listing(tuple(routes), tuple(excluded))


# --- words ---


def describe_waits(product: Waits, ideal: Waits) -> dict[str, Any]:
    ours, theirs = product.list_all(), ideal.list_all()
    return {
        "requests": len(ours),
        "p50_s": pick(ours, 0.50),
        "p99_s": pick(ours, 0.99),
        "ideal_p50_s": pick(theirs, 0.50),
        "ideal_p99_s": pick(theirs, 0.99),
        "p99_ratio": pick(ours, 0.99) / max(pick(theirs, 0.99), 0.001),
        "throttled": product.throttled,
    }


def pick(ordered_ms: Sequence[int], share: float) -> float:
    """A percentile of sorted milliseconds, in seconds."""
    return ordered_ms[min(len(ordered_ms) - 1, int(len(ordered_ms) * share))] / 1000


def describe_looks(looks: Looks) -> dict[str, Any]:
    return {
        "tasks": looks.tasks,
        "seconds": looks.seconds,
        "budget_per_s": looks.budget,
        "mean_per_s": looks.count / looks.seconds,
        "densest_second": looks.densest,
    }


def render(figures: dict[str, Any]) -> list[str]:
    decisions, looks = figures["decisions"], figures["looks"]
    lines = [
        f"Decisions with {decisions['channels']} channels: {decisions['per_s']:,.0f} a second on one core "
        f"({decisions['us_each']:.0f} us each)",
        "",
        f"Waits in a simulated hour of mixed traffic at {len(POOLS)} models, beside an ideal schedule:",
        f"{'model':<18}{'requests':>9}{'p50 s':>9}{'p99 s':>9}{'ideal p50':>11}{'ideal p99':>11}{'p99 ratio':>11}"
        f"{'throttled':>11}",
    ]
    lines += [
        f"{model:<18}{hour['requests']:>9}{hour['p50_s']:>9.2f}{hour['p99_s']:>9.2f}{hour['ideal_p50_s']:>11.2f}"
        f"{hour['ideal_p99_s']:>11.2f}{hour['p99_ratio']:>11.2f}{hour['throttled']:>11}"
        for model, hour in figures["hour"].items()
    ]
    lines += [
        "",
        f"Looks at {looks['tasks']} tasks over {looks['seconds']:.0f} s: {looks['mean_per_s']:.1f} a second, "
        f"{looks['densest_second']} in the densest; the budget is {looks['budget_per_s']}",
    ]
    return lines
