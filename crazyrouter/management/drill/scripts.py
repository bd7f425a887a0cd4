"""What happens in each chapter, while its load runs."""

from __future__ import annotations

from crazyrouter.management.drill.shop import CHANNELS, FIRST, MODELS, SIDES, TASKS, A, B
from crazyrouter.management.drill.stage import EFFECTIVE_S, Stage

#: As DashScope says it (its error code reference).
REFUSED_KEY = {"name": "error", "status": 401, "code": "InvalidApiKey"}
#: Where an order is taken, in the simulator's words.
TASKS_DOOR, PICTURES_DOOR = "async", "sync"
#: Ways to spoil a picture, and ways that look bad and do no harm, each for an order of 512x512.
SPOILT = (
    "image_broken how=truncated",
    "image_broken how=crc",
    "image_broken how=html",
    "image_size width=64 height=64",
)
HARMLESS = ("image_format format=jpeg", "image_size width=520 height=520", "image_error status=500 times=1")
#: How much slower the slow chapter is.
SLOWER = 10.0
LOST_REPLIES = 2
#: Orders that are under way when a process dies, half of them there, and how much longer than others they take.
IN_FLIGHT = 8
LONG_S = 3.0
#: What a process may take beyond its lease until somebody has its work, and as long again for pictures and answers.
TAKEOVER_S = 20.0
#: How many come at once in a rush, beside the load.
RUSH = 12


async def pass_quietly(stage: Stage) -> None:
    async with stage.load():
        await stage.pass_time()


async def rush(stage: Stage) -> None:
    """Room for fewer calls than come at once: they wait for their turn, and none is refused upstream."""
    async with stage.narrow(), stage.load():
        for _ in range(RUSH):
            stage.order(model=FIRST, n=1)
        await stage.pass_time()


async def throttle(stage: Stage) -> None:
    """429 with a Retry-After: refused are the first calls, and one look by each offer and process after each pause."""
    retry_after_s = max(1.0, round(stage.plan.seconds / 4))
    await stage.upstream.plant(A, {"name": "throttle", "retry_after": retry_after_s})
    async with stage.load():
        await stage.pass_time()
        await stage.upstream.clear()
    rounds = int(stage.plan.seconds / retry_after_s) + 2
    in_flight = int(stage.plan.rate * 3 * EFFECTIVE_S)
    stage.extra["most_refusals"] = rounds * len(MODELS) * len(stage.site.base_urls) + in_flight
    await stage.wait_until(lambda: not stage.watch.is_cooling())


async def throttle_all(stage: Stage) -> None:
    """Whoever comes waits for the end of a pause, and for the next."""
    for side in SIDES:
        await stage.upstream.plant(side, {"name": "throttle", "retry_after": 1})
    async with stage.load():
        await stage.pass_time(0.6)
        await stage.upstream.clear()
        await stage.pass_time(0.4)
    await stage.wait_until(lambda: not stage.watch.is_cooling())


async def break_down(stage: Stage) -> None:
    """Everything is refused, questions for tasks as well, at least until a circuit has opened."""
    async with stage.load():
        await stage.pass_time(0.2)
        async with stage.upstream.outage({"account": A.account}):
            await stage.pass_time(0.4)
            await stage.wait_until(stage.watch.list_unclosed)
        await stage.recover()
        stage.mark("recovered")
        await stage.pass_time(0.4, least_s=EFFECTIVE_S + 2.0)
    stage.extra["unclosed"] = len(stage.watch.list_unclosed())


async def slow_down(stage: Stage) -> None:
    """Where the server is our own its deadline is short enough to be missed."""
    stage.extra["sent_overdue"] = 0
    await stage.upstream.plant(A, {"name": "latency", "seconds": stage.plan.latency_s * SLOWER})
    async with stage.load():
        if stage.site.is_own:
            for _ in range(2):
                stage.order(directive=f"[[sim: latency seconds={stage.plan.overdue_s:g}]]", model=TASKS, n=1)
            stage.extra["sent_overdue"] = 2
        await stage.pass_time()
        await stage.upstream.clear()


async def revoke_key(stage: Stage) -> None:
    """Until both channels are found out; then an operator appends a new key and enables them."""
    old = {"key": stage.keys[A.letter]}
    async with stage.load():
        await stage.pass_time(0.2)
        async with stage.upstream.outage(old, REFUSED_KEY):
            await stage.pass_time(0.4)
            await stage.wait_until(lambda: stage.watch.counts["channels_disabled"] >= len(A.channels))
            await stage.replace_keys(A)
            stage.mark("replaced")
            await stage.pass_time(0.4, least_s=EFFECTIVE_S + 2.0)


async def revoke_all(stage: Stage) -> None:
    """Until nobody is left; customers are turned away, and told when to come again."""
    old = [{"key": stage.keys[side.letter]} for side in SIDES]
    async with stage.load():
        await stage.pass_time(0.2)
        async with stage.upstream.outage(old[0], REFUSED_KEY), stage.upstream.outage(old[1], REFUSED_KEY):
            await stage.pass_time(0.4)
            await stage.wait_until(lambda: stage.watch.counts["channels_disabled"] >= len(CHANNELS))
            await stage.wait_until(lambda: any(seen.is_turned_away for seen in stage.customers.seen))
            await stage.replace_keys(A, B)
            stage.mark("replaced")
            await stage.pass_time(0.4, least_s=EFFECTIVE_S + 2.0)


async def lose_replies(stage: Stage) -> None:
    for door in (TASKS_DOOR, PICTURES_DOOR):
        await stage.upstream.plant(A, {"name": "reset", "billed": True}, times=LOST_REPLIES, endpoint=door)
    async with stage.load():
        for model in (TASKS, FIRST):
            stage.order(model=model, n=1)
        await stage.pass_time()


async def spoil_pictures(stage: Stage) -> None:
    """By directives of single orders: the load around them must not be touched."""
    async with stage.load():
        for fault in (*SPOILT, *HARMLESS):
            stage.order(directive=f"[[sim: {fault}]]", model=FIRST, n=1, size=(512, 512))
        await stage.pass_time()
    stage.extra["struck"] = len(SPOILT)


async def kill_process(stage: Stage) -> None:
    """SIGKILL with calls in flight; whoever waited there asks again elsewhere."""
    async with stage.load():
        await stage.pass_time(0.4)
        for number in range(IN_FLIGHT):
            directive = f"[[sim: latency seconds={stage.plan.latency_s + LONG_S:g}]]"
            stage.order(directive=directive, model=FIRST if number < IN_FLIGHT // 2 else TASKS, n=1)
        await stage.wait_for_running(lambda running: running >= IN_FLIGHT)
        stage.site.kill_second()
        await stage.pass_time(0.1, least_s=1.0)
        await stage.site.start_second()
        await stage.pass_time(0.4)
    # Its lease runs out, somebody looks, and then the pictures take their time.
    stage.extra["takeover_limit_s"] = int(stage.plan.lease_s + TAKEOVER_S)


async def swap_carriers(stage: Stage) -> None:
    async with stage.load():
        await stage.pass_time(0.3)
        made = await stage.swap(A, B)
        stage.mark("swapped")
        await stage.pass_time(0.4, least_s=EFFECTIVE_S + 2.0)
        await stage.clerk.ask("swap_back", ids=made)
        stage.mark("back")
        await stage.pass_time(0.3, least_s=EFFECTIVE_S + 2.0)
