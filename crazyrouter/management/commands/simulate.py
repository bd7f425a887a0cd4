"""The simulated upstream alone: DashScope, a reseller, and their faults, without any real carrier."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError

from providers.simulator.app import create_app
from providers.simulator.errors import ScenarioError
from providers.simulator.scenario import Scenario, load_scenario, read_scenario
from providers.simulator.server import bind, build_server, get_base_url


class Command(BaseCommand):
    help = "Run the simulated upstream (DashScope under /api/v1, a reseller under /v1, control under /_sim)."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
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
                self.stdout.write(f"Simulated upstream on {base_url} (DashScope: /api/v1, reseller: /v1)")
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
