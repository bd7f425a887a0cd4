"""`manage.py bench`: what the hot path costs, beside a relay that makes the same upstream calls and nothing else.

`manage.py bench routing`: how good the schedule is.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError

from crazyrouter.management.bench.plan import POSTGRESQL, QUICK, SQLITE, Plan
from crazyrouter.management.bench.routing import run_routing_bench
from crazyrouter.management.bench.run import explain_refusal, run_bench

THROUGHPUT, ROUTING = "throughput", "routing"


class Command(BaseCommand):
    help = (
        "Measure the production server against a minimal relay on SQLite and PostgreSQL: throughput, CPU, latency, "
        "memory. Uses databases of its own. Exit 1 if any load leaves books that are not exact."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "what",
            nargs="?",
            choices=[THROUGHPUT, ROUTING],
            default=THROUGHPUT,
            help="routing: decisions a second, waits beside an ideal schedule, looks at tasks beside their budget",
        )
        parser.add_argument("--seconds", type=read_seconds, help="of each load (default: 5)")
        parser.add_argument("--rounds", type=read_count, help="of product and relay in turn (default: 3)")
        parser.add_argument("--clients", type=read_count, help="at once, each on a kept connection (default: 32)")
        parser.add_argument("--in-flight", type=read_counts, metavar="N,N", help="default: 1000,2000; 0 for none")
        parser.add_argument("--hold", type=read_seconds, dest="hold_s", help="s, how long those take (default: 10)")
        parser.add_argument("--only", choices=[SQLITE, POSTGRESQL], help="one database instead of both")
        parser.add_argument("--database-url", default="", help="a PostgreSQL to make an own database on, for a time")
        parser.add_argument("--hot-account", action="store_true", help="all keys belong to one account")
        parser.add_argument("--quick", action="store_true", help="small loads: does it run?")
        parser.add_argument("--json", type=Path, metavar="FILE", help="every figure, for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == ROUTING:
            code, figures = run_routing_bench(say=self.stderr.write, write=self.stdout.write)
            if options["json"]:
                options["json"].write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
            if code:
                raise SystemExit(code)
            return
        refusal = explain_refusal()
        if refusal:
            raise CommandError(refusal)
        code = run_bench(
            read_plan(options),
            say=self.stderr.write,
            write=self.stdout.write,
            json=options["json"],
        )
        if code:
            raise SystemExit(code)


def read_plan(options: dict[str, Any]) -> Plan:
    given = {name: options[name] for name in ("seconds", "rounds", "clients", "in_flight", "hold_s")}
    plan = replace(QUICK if options["quick"] else Plan(), **{k: v for k, v in given.items() if v is not None})
    if options["only"]:
        plan = replace(plan, databases=(options["only"],))
    if options["hot_account"]:
        plan = replace(plan, accounts=1)
    return replace(plan, database_url=options["database_url"])


def read_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 600:
        raise ArgumentTypeError("between 0 and 600 seconds")
    return seconds


def read_count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 10_000:
        raise ArgumentTypeError("between 1 and 10000")
    return count


def read_counts(text: str) -> tuple[int, ...]:
    return () if text == "0" else tuple(read_count(part) for part in text.split(","))
