"""What is proved when all is over: pictures that were paid are there, the books add up, the bill agrees."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from crazyrouter.management.drill.clerk import Clerk
from crazyrouter.management.drill.expectations import Expectation, Relation, judge
from crazyrouter.management.drill.pictures import find_deep_fault
from crazyrouter.management.drill.report import Findings
from crazyrouter.management.drill.site import Site
from crazyrouter.management.drill.wire import Unanswered, call

#: Pictures that are fetched and decoded; of more, a sample.
MOST_PICTURES = 600
AT_ONCE = 4
FETCH_TIMEOUT_S = 60.0
RECONCILE_TIMEOUT_S = 600.0
#: Of each proof, lines that say what is wrong.
MOST_LINES = 20

WHOLE = Expectation("every picture that was charged is a PNG of the size asked for", "bad_pictures", Relation.IS, 0)
SOME = Expectation("pictures were charged and fetched", "fetched", Relation.AT_LEAST, 1)
BOOKS = Expectation("reconcile finds no violation, in the books or beside the bill", "reconcile", Relation.IS, 0)
CALM = Expectation("no process met an error that it did not expect", "tracebacks", Relation.IS, 0)
#: Who stumbles over the broker is started again, and rows are the truth: told, and not held against the day.
BROKER = " celery."


async def prove(findings: Findings, site: Site, clerk: Clerk, *, tag: str) -> None:
    """Add to the findings."""
    charged = await clerk.ask("list_charged", tag=tag)
    sample = charged if len(charged) <= MOST_PICTURES else random.Random(tag).sample(charged, MOST_PICTURES)  # noqa: S311
    faults = await fetch_all(site.base_urls[0], sample)
    figures: dict[str, Any] = {"fetched": len(sample), "bad_pictures": len(faults)}
    if any(played.figures["charged"] for played in findings.played):
        findings.ends.append(judge(SOME, figures))
    findings.ends.append(judge(WHOLE, figures))
    findings.lines += faults[:MOST_LINES]
    await reconcile(findings, site)
    if site.is_own:
        errors = list_tracebacks(site.read_log())
        ours = [error for error in errors if BROKER not in error]
        findings.ends.append(judge(CALM, {"tracebacks": len(ours)}))
        findings.lines += ours[:MOST_LINES]
        findings.notes += [f"the worker: {error}" for error in errors if BROKER in error][:MOST_LINES]


async def fetch_all(base_url: str, charged: Sequence[Sequence[Any]]) -> list[str]:
    """What is wrong with them; `charged` as the desk lists it."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def look(name: str, width: int, height: int, generation: str, slot: int) -> str:
        async with turn:
            fault = await fetch(f"{base_url}/files/{name}", (width, height)) if name else "no stored picture"
        return f"{generation} slot {slot}: {fault}" if fault else ""

    return [fault for fault in await asyncio.gather(*(look(*row) for row in charged)) if fault]


async def fetch(url: str, size: tuple[int, int]) -> str:
    try:
        answer = await call("GET", url, timeout_s=FETCH_TIMEOUT_S)
    except Unanswered as error:
        return str(error)
    if answer.status != 200 or answer.headers.get("content-type") != "image/png":
        return f"{answer.status} {answer.headers.get('content-type')}"
    return find_deep_fault(answer.body, size)


async def reconcile(findings: Findings, site: Site) -> None:
    """The product's own proof, as an operator runs it. Notices explain themselves and are not shown."""
    options = ("--files", "--upstream", site.simulator_url, "--control-key", site.simulator_key)
    status, lines = await site.run_command("reconcile", *options, timeout_s=RECONCILE_TIMEOUT_S)
    findings.ends.append(judge(BOOKS, {"reconcile": status}))
    told = [line for line in lines if not line.startswith("notice")]
    findings.lines += told[:MOST_LINES]


def list_tracebacks(lines: Sequence[str]) -> list[str]:
    """The last line of each, which says what it was."""
    found = []
    for at, line in enumerate(lines):
        if line.startswith("Traceback"):
            end = next((other for other in lines[at + 1 :] if other and not other.startswith((" ", "\t"))), "")
            found.append(f"{lines[at - 1] if at else ''} | {end}")
    return found
