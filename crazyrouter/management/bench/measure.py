"""The loads, one after the other, each followed by its proof.

Inexact     a load after which the counts or the books do not agree: none of its figures is given
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crazyrouter.management.bench.figures import Busy, Findings, Held, Round
from crazyrouter.management.bench.load import Result
from crazyrouter.management.bench.plan import ALONE, PRODUCT, RELAY, Plan
from crazyrouter.management.bench.processes import ChildFailed, Pinning, Usage, raise_descriptor_limit
from crazyrouter.management.bench.site import Site, open_site

#: The product's descriptors: a client, an upstream call and a picture for each generation, and some of its own.
DESCRIPTORS_EACH, DESCRIPTORS_MORE = 3, 200
#: Requests before a held load: enough to load every module and start every thread.
WARM_UP_REQUESTS = 20

Say = Callable[[str], None]


class Inexact(Exception):
    """Carries what does not agree, in words."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def measure(kind: str, plan: Plan, *, folder: Path, pinning: Pinning, say: Say) -> Findings:
    """Everything on one database. What goes wrong is in the findings; only interruptions are raised."""
    folder.mkdir()
    findings = Findings(kind, kind)
    try:
        with open_site(kind, plan, folder=folder, pinning=pinning) as site:
            findings.database = site.database_name
            try:
                Bench(site, findings, say).run()
            except Inexact as inexact:
                findings.faults += inexact.faults
            findings.log_lines, end = site.read_log()
            if end:
                findings.notes.append(f"the product's log ends with:{end}")
    except ChildFailed as error:
        findings.faults.append(str(error))
    return findings


class Bench:
    """One site's loads in order; fills the findings as it goes."""

    def __init__(self, site: Site, findings: Findings, say: Say) -> None:
        self.site = site
        self.plan = site.plan
        self.findings = findings
        self.name = findings.database
        self.say = say

    def run(self) -> None:
        with self.site.run_product(), self.site.run_relay():
            for number in range(1, self.plan.rounds + 1):
                self.say(f"{self.name}: round {number} of {self.plan.rounds}")
                self.findings.rounds.append(self.take_round())
            self.findings.upstream_rate = self.load(ALONE, clients=self.plan.clients, seconds=self.plan.lone_s).rate
        for in_flight in self.plan.in_flight:
            self.hold(in_flight)

    def take_round(self) -> Round:
        many, lone_s = self.plan.clients, self.plan.lone_s
        return Round(
            product=self.load(PRODUCT, clients=many, seconds=self.plan.seconds),
            relay=self.load(RELAY, clients=many, seconds=self.plan.seconds),
            product_alone=self.load(PRODUCT, clients=1, seconds=lone_s),
            relay_alone=self.load(RELAY, clients=1, seconds=lone_s),
            upstream=self.load(ALONE, clients=1, seconds=lone_s),
        )

    def load(self, side: str, *, clients: int, seconds: float) -> Busy:
        """Warm up, load, prove."""
        self.site.load(side, clients=clients, seconds=self.plan.warm_up_s)
        with self.count_cpu(side) as spent:
            result = self.site.load(side, clients=clients, seconds=seconds)
        self.prove(side)
        return Busy(
            rate=result.in_time / seconds,
            p50=result.p50_ms,
            p99=result.p99_ms,
            answered=result.answered,
            errors=result.errors,
            early=result.early_ms,
            late=result.late_ms,
            **share(spent, result),
        )

    def hold(self, in_flight: int) -> None:
        """A fresh server, whose memory no earlier load has grown; then each client waits for two generations."""
        limit, needed = raise_descriptor_limit(), DESCRIPTORS_EACH * in_flight + DESCRIPTORS_MORE
        if needed > limit:
            note = f"{in_flight} in flight need {needed} open files, this user may have {limit} (ulimit -n)"
            self.findings.notes.append(f"not measured: {note}")
            return
        self.say(f"{self.name}: {in_flight} in flight of {self.plan.hold_s:g} s")
        with self.site.run_product():
            self.site.set_delay(0)
            self.site.load(PRODUCT, clients=self.plan.clients, each=WARM_UP_REQUESTS)
            self.site.set_delay(self.plan.hold_s)
            self.findings.held.append(self.take_held(in_flight))
            self.site.set_delay(0)

    def take_held(self, in_flight: int) -> Held:
        idle = self.site.read_usage(PRODUCT)
        seen: list[Usage] = [idle]
        with self.count_cpu(PRODUCT) as spent:
            result = self.site.load(
                PRODUCT,
                meanwhile=lambda: seen.append(self.site.read_usage(PRODUCT)),
                clients=in_flight,
                each=2,
                ramp_s=self.plan.hold_s,
                patience_s=2 * self.plan.hold_s + 60.0,
            )
        self.prove(PRODUCT)
        return Held(
            in_flight=in_flight,
            p50=result.p50_ms - self.plan.hold_s * 1000,
            p99=result.p99_ms - self.plan.hold_s * 1000,
            answered=result.answered,
            errors=result.errors,
            idle_bytes=idle.rss_bytes,
            peak_bytes=max(one.rss_bytes for one in seen),
            idle_threads=idle.threads,
            peak_threads=max(one.threads for one in seen),
            **share(spent, result),
        )

    @contextmanager
    def count_cpu(self, side: str) -> Iterator[dict[str, float | None]]:
        """CPU seconds of the server and of the database, filled when the block ends."""
        spent: dict[str, float | None] = {}
        server, database = self.site.read_usage(side).cpu_s, self.site.read_database_cpu()
        yield spent
        spent["cpu"] = self.site.read_usage(side).cpu_s - server
        after = self.site.read_database_cpu()
        spent["database_cpu"] = after - database if after is not None and database is not None else None

    def prove(self, side: str) -> None:
        """Raises Inexact."""
        faults = self.site.find_faults(side)
        if faults:
            raise Inexact(faults)
        self.findings.loads += 1
        self.findings.charged = self.site.answered[PRODUCT]


def share(spent: dict[str, float | None], result: Result) -> dict[str, Any]:
    """CPU seconds as ms per answered request."""
    count = max(1, result.answered)
    return {name: None if seconds is None else seconds * 1000 / count for name, seconds in spent.items()}
