"""`manage.py drill`: a scripted bad day, and a table of what customers saw of it."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections import defaultdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from crazyrouter.management.bench.processes import ChildFailed
from crazyrouter.management.drill.chapters import NAMES
from crazyrouter.management.drill.clerk import DeedFailed
from crazyrouter.management.drill.expectations import Expectation, NotAnExpectation, read_expectation
from crazyrouter.management.drill.plan import POSTGRESQL, SQLITE, Plan
from crazyrouter.management.drill.run import run_drill
from crazyrouter.management.drill.site import SiteFailed
from crazyrouter.management.drill.upstream import UpstreamFailed

#: Nothing was found out, which is something else than a broken expectation.
NOT_DRILLED = 2


class Command(BaseCommand):
    help = (
        "Throttling, an outage, slow tasks, a revoked key, lost replies, wrong pictures, a killed process and a swap, "
        "each under load, then the books. On a server of its own, or on one that runs. Exit 1 if anything that is "
        "expected does not hold."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--ready-file",
            type=Path,
            metavar="FILE",
            help="of a running quickstart, whose customers meet the faults too",
        )
        parser.add_argument("--env-file", type=Path, metavar="FILE", help="of that server (default: .env beside it)")
        parser.add_argument(
            "--chapters", type=read_chapters, default=(), metavar="A,B", help=f"of {', '.join(NAMES)}; default: all"
        )
        parser.add_argument("--seconds", type=read_seconds, help="of load in each chapter (default: 15)")
        parser.add_argument("--rate", type=read_rate, help="orders a second (default: 3)")
        parser.add_argument("--seed", type=int, default=1, help="the same seed orders the same things (default: 1)")
        parser.add_argument("--quick", action="store_true", help="short chapters; pauses of circuits are ended by hand")
        parser.add_argument("--database", choices=[SQLITE, POSTGRESQL], default=SQLITE, help="of the server of its own")
        parser.add_argument("--database-url", default="", help="a PostgreSQL to make an own database on, for a time")
        parser.add_argument(
            "--expect", action="append", default=[], metavar="TEXT", help="as well, like 'quiet: p99_ms at most 4000'"
        )
        parser.add_argument("--json", type=Path, metavar="FILE", help="every figure, for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            code = run_drill(read_plan(options), say=self.stderr.write, write=self.stdout.write, json=options["json"])
        except (SiteFailed, DeedFailed, UpstreamFailed, ChildFailed) as error:
            raise CommandError(f"drill: {error}", returncode=NOT_DRILLED) from error
        if code:
            raise SystemExit(code)


def read_plan(options: dict[str, Any]) -> Plan:
    quick = {"seconds": 2.0, "latency_s": 0.3, "hasten": True} if options["quick"] else {}
    given = {name: options[name] for name in ("seconds", "rate") if options[name] is not None}
    return Plan(
        **{**quick, **given},
        seed=options["seed"],
        chapters=options["chapters"],
        database=options["database"],
        database_url=options["database_url"],
        ready_file=options["ready_file"],
        env_file=options["env_file"],
        expected=read_expected(options["expect"]),
    )


def read_expected(texts: list[str]) -> dict[str, tuple[Expectation, ...]]:
    found: defaultdict[str, list[Expectation]] = defaultdict(list)
    for text in texts:
        try:
            chapter, expectation = read_expectation(text)
        except NotAnExpectation as error:
            raise CommandError(f"--expect: {error}") from error
        if chapter not in NAMES:
            raise CommandError(f"--expect: there is no chapter {chapter}; there are {', '.join(NAMES)}")
        found[chapter].append(expectation)
    return {chapter: tuple(expectations) for chapter, expectations in found.items()}


def read_chapters(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in NAMES]:
        raise ArgumentTypeError(f"there is no chapter {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return names


def read_seconds(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 600:
        raise ArgumentTypeError("between 1 and 600 seconds")
    return seconds


def read_rate(text: str) -> float:
    rate = float(text)
    if not 0.1 <= rate <= 50:
        raise ArgumentTypeError("between 0.1 and 50 orders a second")
    return rate
