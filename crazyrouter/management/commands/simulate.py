"""The simulated upstream alone: DashScope, resellers, fal, SiliconFlow, and their faults, without any real carrier."""

from __future__ import annotations

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError

from providers.simulator.app import create_app
from providers.simulator.errors import ScenarioError
from providers.simulator.scenario import Scenario, load_scenario, read_scenario
from providers.simulator.server import bind, build_server, get_base_url

SERVED = "DashScope: /api/v1, resellers: /v1 and /relay/v1, fal: /fal, SiliconFlow: /siliconflow/v1"
MORE = """
Faults are asked for by prompt ([[sim: failed code=InternalError.Algo]]), by the header X-Sim-Fault, by rules of the
scenario (which may match key or account), or while it runs:
  POST /_sim/rules     {"match": {"account": "acme"}, "fault": {"name": "html"}, "times": 3}
  POST /_sim/outages   {"match": {"account": "acme"}, "seconds": 60}; DELETE ends them
  POST /_sim/scenario  {"limits": "documented", "latency_s": 5}
  GET  /_sim/bill      what it would charge, and what was throttled; manage.py reconcile --upstream compares it
Any key that begins with sk-sim- is taken; sk-sim-NAME.ANYTHING belongs to account NAME. providers/simulator/faults.py
lists the faults, scenario.py what a scenario says.
"""


class Command(BaseCommand):
    help = f"Run the simulated upstream ({SERVED}, control: /_sim)."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = MORE
        parser.add_argument("--port", type=int, required=True, help="0 takes any free one")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--scenario", type=Path, help="a JSON file: accounts, latency_s, limits, rules, …")
        parser.add_argument("--ready-file", type=Path, help="written as JSON when the port answers")
        parser.add_argument("--public-base-url", default="", help="where links to pictures point")
        parser.add_argument("--control-key", default=os.environ.get("SIMULATOR_KEY", ""), help="else SIMULATOR_KEY")

    def handle(self, *args: Any, **options: Any) -> None:
        scenario = _load(options["scenario"])
        try:
            listener = bind(options["host"], options["port"])
        except (OSError, OverflowError) as error:
            raise CommandError(f"cannot listen on {options['host']}:{options['port']}: {error}") from error
        with listener:
            base_url = options["public_base_url"] or get_base_url(listener)
            app = create_app(scenario, control_key=options["control_key"], public_base_url=base_url)

            def announce() -> None:
                self.stdout.write(f"Simulated upstream on {base_url} ({SERVED})")
                self.stdout.flush()
                if options["ready_file"]:
                    write_ready_file(options["ready_file"], {"simulator_url": base_url, "pid": os.getpid()})

            build_server(app, on_ready=announce).run(sockets=[listener])


def _load(path: Path | None) -> Scenario:
    try:
        return load_scenario(path) if path else read_scenario({})
    except ScenarioError as error:
        raise CommandError(str(error)) from error


def write_ready_file(path: Path, facts: dict[str, Any]) -> None:
    """Appears whole or not at all."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(orjson.dumps(facts))
    unfinished.replace(path)
