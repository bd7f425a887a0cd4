"""The whole drill: a site, a shop, chapter after chapter, the proofs, and everything as it was before."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from crazyrouter.management.drill import proofs, report
from crazyrouter.management.drill.chapters import ALWAYS, CHAPTERS, Chapter
from crazyrouter.management.drill.clerk import Clerk, open_desk
from crazyrouter.management.drill.customers import Customers, Seen
from crazyrouter.management.drill.expectations import judge_all
from crazyrouter.management.drill.figures import Evidence, count_all
from crazyrouter.management.drill.plan import Plan
from crazyrouter.management.drill.report import Findings, Played
from crazyrouter.management.drill.shop import SIDES
from crazyrouter.management.drill.site import Site, open_site
from crazyrouter.management.drill.stage import EFFECTIVE_S, Stage
from crazyrouter.management.drill.upstream import Upstream
from crazyrouter.management.drill.watch import Watch

Say = Callable[[str], None]
#: Orders that were not served as they should have been, told in full.
MOST_EXAMPLES = 8


@dataclass(frozen=True, slots=True)
class Drill:
    """What all chapters share. `name` stands in every prompt of this drill, and of no other."""

    plan: Plan
    site: Site
    clerk: Clerk
    upstream: Upstream
    name: str
    api_key: str
    deadline_s: float
    keys: dict[str, str]

    def make_stage(self, chapter: Chapter) -> Stage:
        hidden = [urlsplit(self.site.simulator_url).netloc]
        customers = Customers(self.site.base_urls, self.api_key, self.deadline_s + 30.0, hidden)
        return Stage(
            plan=self.plan,
            site=self.site,
            clerk=self.clerk,
            upstream=self.upstream,
            watch=Watch(self.clerk),
            customers=customers,
            tag=f"{self.name}-{chapter.name}-",
            keys=self.keys,
            directive=chapter.directive,
        )


def run_drill(plan: Plan, *, say: Say, write: Say, json: Path | None) -> int:
    """The exit code: 1 if anything that was expected did not hold. Raises KeyboardInterrupt for SIGTERM, too."""
    try:
        findings = asyncio.run(drill(plan, say))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    write(report.render(findings))
    if json is not None:
        json.write_bytes(orjson.dumps(report.describe(findings), option=orjson.OPT_INDENT_2) + b"\n")
    return 1 if findings.broken else 0


async def drill(plan: Plan, say: Say) -> Findings:
    """Raises SiteFailed, DeedFailed, UpstreamFailed."""
    end_on_sigterm()
    findings = Findings()
    say("starting a server" if plan.ready_file is None else f"drilling the server of {plan.ready_file}")
    async with open_site(plan) as site, open_drill(plan, site) as opened:
        for chapter in choose_chapters(plan, site, findings):
            played = await play(opened, chapter)
            findings.played.append(played)
            say(f"{chapter.name}: {'kept' if played.is_kept else 'BROKEN'} after {played.seconds:.0f} s")
        say("looking at every picture, at the books and at the bill")
        await proofs.prove(findings, site, opened.clerk, tag=f"{opened.name}-")
    return findings


def end_on_sigterm() -> None:
    """As Ctrl-C does: what was changed is put back, what was started is stopped."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def choose_chapters(plan: Plan, site: Site, findings: Findings) -> list[Chapter]:
    chosen = [chapter for chapter in CHAPTERS if not plan.chapters or chapter.name in plan.chapters]
    for chapter in chosen:
        if chapter.own and not site.is_own:
            findings.notes.append(f"{chapter.name} was left out: it hurts a server that is not the drill's own")
    return [chapter for chapter in chosen if site.is_own or not chapter.own]


@asynccontextmanager
async def open_drill(plan: Plan, site: Site) -> AsyncIterator[Drill]:
    """The shop is open meanwhile; afterwards its channels are disabled and the simulator is as it was."""
    upstream = Upstream(site.simulator_url, site.simulator_key)
    keys = {side.letter: side.make_key() for side in SIDES}
    async with AsyncExitStack() as stack:
        clerk = await stack.enter_async_context(open_desk(site.environment, log=site.folder / "desk.log"))
        stack.push_async_callback(clerk.ask, "close_shop")
        opened = await clerk.ask(
            "open_shop", simulator_url=site.simulator_url, keys=keys, alone=site.is_own, **asdict(plan.limits)
        )
        stack.push_async_callback(upstream.restore)
        await upstream.prepare(plan.limits, latency_s=plan.latency_s)
        yield Drill(
            plan=plan,
            site=site,
            clerk=clerk,
            upstream=upstream,
            name=f"day-{secrets.token_hex(3)}",
            api_key=opened["api_key"],
            deadline_s=opened["deadline_s"],
            keys=keys,
        )


async def play(drill: Drill, chapter: Chapter) -> Played:
    """One chapter, from calm to calm."""
    if await drill.clerk.ask("calm"):
        await asyncio.sleep(EFFECTIVE_S)
    stage = drill.make_stage(chapter)
    await stage.watch.begin()
    throttled, strikes = await drill.upstream.count_throttled(), await drill.upstream.count_strikes()
    began = time.monotonic()
    watching = asyncio.create_task(stage.watch.run())
    try:
        await chapter.script(stage)
        stage.extra["still_running"] = await stage.settle()
        await stage.watch.look()
    finally:
        await stage.customers.leave()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    stage.extra.setdefault("struck", await drill.upstream.count_strikes() - strikes)
    stage.extra["throttled"] = await drill.upstream.count_throttled() - throttled
    await drill.upstream.clear()
    evidence = await gather(drill, stage)
    figures = count_all(evidence) | stage.extra
    expectations = (*ALWAYS, *chapter.expectations, *drill.plan.expected.get(chapter.name, ()))
    return Played(
        chapter,
        figures,
        judge_all(expectations, figures),
        events=stage.watch.events,
        examples=list_examples(evidence),
        seconds=time.monotonic() - began,
    )


async def gather(drill: Drill, stage: Stage) -> Evidence:
    tally = await drill.clerk.ask("read_tally", tag=stage.tag)
    return Evidence(
        seen=stage.customers.seen,
        generations=tally["generations"],
        attempts=tally["attempts"],
        bill=[order for order in await drill.upstream.read_bill() if stage.tag in order.prompt],
        marks=stage.marks,
        counts=stage.watch.counts,
    )


def list_examples(evidence: Evidence) -> list[str]:
    """Orders that went wrong, each with what was tried for it."""
    told = {one.generation for one in evidence.seen}
    odd = [one for one in evidence.seen if not one.is_served or one.faults or one.leaks or one.images != one.order.n]
    lines = [line for one in odd[:MOST_EXAMPLES] for line in tell_order(one, evidence)]
    for pk in sorted(evidence.generations.keys() - told)[:MOST_EXAMPLES]:
        lines += [f"{pk} nobody was told of: {evidence.generations[pk]}", *tell_attempts(pk, evidence.attempts)]
    return lines


def tell_order(seen: Seen, evidence: Evidence) -> list[str]:
    order = seen.order
    row = evidence.generations.get(seen.generation, {})
    size = "{}x{}".format(*order.size)
    said = f"{seen.generation or 'no id'} {order.model} {order.n} x {size} {order.response_format}"
    took = f"{seen.label} with {seen.images} after {seen.took_s:.1f} s, {row.get('charged', 0)} charged"
    more = f", {seen.broken} broken" * bool(seen.broken) + f", key {order.key}" * bool(order.key)
    return [
        f"{said}: {took}{more}",
        *(f"  {fault}" for fault in (*seen.faults, *(f"leaks {word}" for word in seen.leaks))),
        *tell_attempts(seen.generation, evidence.attempts),
    ]


def tell_attempts(generation: str, attempts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"  #{one['number']} {one['channel']}: {one['state']} {one['code']} {one['detail']}".rstrip()
        for one in attempts
        if one["generation"] == generation
    ]
