"""The table and the targets, as plain text. It says what is, also where it falls short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from crazyrouter.management.bench.figures import Busy, Findings, Held, Round
from crazyrouter.management.bench.plan import POSTGRESQL, SQLITE, Plan

NONE = "-"
MOST_ERRORS = 5
KB = 1024
MIB = 1024 * 1024
#: The targets: throughput as a share of the relay's, added ms, bytes and threads for each generation in flight.
TARGET_RATIO = {POSTGRESQL: 0.50, SQLITE: 0.33}
TARGET_IN_FLIGHT = 1000
TARGET_P50_MS, TARGET_P99_MS = 10.0, 150.0
TARGET_BYTES = 80 * KB
#: "Far fewer than one thread each".
TARGET_THREADS = 0.05

Row = tuple[str, Callable[[Findings], str]]


def render(plan: Plan, findings: Sequence[Findings], *, about: Sequence[str]) -> str:
    rows = list(list_rows(plan))
    labels = [label for label, _ in rows]
    columns = [[found.database, *(write(found) for _, write in rows)] for found in findings]
    lines = [*about, "", *align([["", *labels], *columns]), ""]
    for found in findings:
        lines += [f"{found.database}: NOT EXACT: {fault}" for fault in found.faults]
        lines += [f"{found.database}: {note}" for note in [*found.notes, *quote_errors(found)]]
    return "\n".join([*lines, *judge(plan, findings)])


def quote_errors(found: Findings) -> list[str]:
    """The most frequent kinds of errors."""
    total: Counter[str] = Counter()
    for errors in found.list_errors():
        total.update(errors)
    return [f"{count} errors: {what}" for what, count in total.most_common(MOST_ERRORS)]


def align(columns: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]


def list_rows(plan: Plan) -> Iterable[Row]:
    yield "requests/s per core, product", over_rounds(lambda one: one.product.rate, "{:.0f}")
    yield "requests/s per core, relay", over_rounds(lambda one: one.relay.rate, "{:.0f}")
    yield "ratio, median of rounds [range]", over_rounds(lambda one: one.ratio, "{:.3f}")
    yield "CPU ms/request, product", over_rounds(lambda one: one.product.cpu, "{:.3f}")
    yield "CPU ms/request, relay", over_rounds(lambda one: one.relay.cpu, "{:.3f}")
    yield "CPU ms/request, PostgreSQL", over_rounds(lambda one: one.product.database_cpu, "{:.3f}")
    yield "upstream alone, p50/p99 ms, 1 client", latency(lambda one: one.upstream, added=False)
    yield "upstream alone, requests/s", lambda found: show(found.upstream_rate, "{:.0f}")
    yield "added p50/p99 ms, 1 client, product", latency(lambda one: one.product_alone)
    yield "added p50/p99 ms, 1 client, relay", latency(lambda one: one.relay_alone)
    yield f"added p50/p99 ms, {plan.clients} clients, product", latency(lambda one: one.product)
    yield f"added p50/p99 ms, {plan.clients} clients, relay", latency(lambda one: one.relay)
    for count in plan.in_flight:
        yield from list_held_rows(count, plan.hold_s)
    yield "errors", lambda found: str(sum(sum(errors.values()) for errors in found.list_errors()))
    yield "lines in the product's log", lambda found: str(found.log_lines)
    yield "loads proved exact / images charged", lambda found: f"{found.loads} / {found.charged}"


def list_held_rows(count: int, hold_s: float) -> Iterable[Row]:
    def write(show_held: Callable[[Held], str]) -> Callable[[Findings], str]:
        return lambda found: show_held(held) if (held := found.find_held(count)) else NONE

    label = f"{count:,} in flight of {hold_s:g} s"
    yield f"{label}: added p50/p99 ms", write(lambda held: f"{held.p50:.1f} / {held.p99:.1f}")
    yield f"{label}: MiB idle, peak", write(lambda held: f"{held.idle_bytes / MIB:.0f}, {held.peak_bytes / MIB:.0f}")
    yield f"{label}: KB each", write(lambda held: f"{held.bytes_each / KB:.1f}")
    yield f"{label}: threads idle, peak", write(lambda held: f"{held.idle_threads}, {held.peak_threads}")
    yield f"{label}: CPU ms/request", write(lambda held: f"{held.cpu:.3f}")


def over_rounds(pick: Callable[[Round], float | None], form: str) -> Callable[[Findings], str]:
    def write(found: Findings) -> str:
        values = [value for value in map(pick, found.rounds) if value is not None]
        if not values:
            return NONE
        text = form.format(median(values))
        return text if len(values) == 1 else f"{text} [{form.format(min(values))}..{form.format(max(values))}]"

    return write


def latency(pick: Callable[[Round], Busy], *, added: bool = True) -> Callable[[Findings], str]:
    """Medians over the rounds; `added` is what came on top of the upstream's own, one client calling it directly."""

    def write(found: Findings) -> str:
        if not found.rounds:
            return NONE
        p50, p99 = median_of(found, lambda one: pick(one).p50), median_of(found, lambda one: pick(one).p99)
        if added:
            p50 -= median_of(found, lambda one: one.upstream.p50)
            p99 -= median_of(found, lambda one: one.upstream.p99)
        return f"{p50:.2f} / {p99:.2f}"

    return write


def median_of(found: Findings, pick: Callable[[Round], float]) -> float:
    return median(map(pick, found.rounds))


def show(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)


# --- targets -----------------------------------------------------------------------------------------------------


def judge(plan: Plan, findings: Sequence[Findings]) -> list[str]:
    """One line a target."""
    return [
        "half of the relay's throughput on PostgreSQL (target 0.50): " + judge_ratio(findings, POSTGRESQL),
        "a third of it on SQLite (target 0.33, reported): " + judge_ratio(findings, SQLITE),
        f"added p50/p99 with {TARGET_IN_FLIGHT:,} in flight under {TARGET_P50_MS:.0f}/{TARGET_P99_MS:.0f} ms: "
        + judge_held(findings, write_added, lambda held: held.p50 < TARGET_P50_MS and held.p99 < TARGET_P99_MS),
        f"under {TARGET_BYTES // KB} KB and far fewer than one thread each: "
        + judge_held(
            findings,
            write_needs,
            lambda held: held.bytes_each < TARGET_BYTES and held.peak_threads < TARGET_THREADS * held.in_flight,
        ),
    ]


def judge_ratio(findings: Sequence[Findings], kind: str) -> str:
    ratio = next((found.ratio for found in findings if found.kind == kind), None)
    return "not measured" if ratio is None else f"{ratio:.2f}, {name_verdict(ratio >= TARGET_RATIO[kind])}"


def judge_held(findings: Sequence[Findings], write: Callable[[Held], str], reached: Callable[[Held], bool]) -> str:
    lines = [
        f"{found.database} {write(held)}, {name_verdict(reached(held))}"
        for found in findings
        for held in found.held
        if held.in_flight == TARGET_IN_FLIGHT
    ]
    return "; ".join(lines) or "not measured"


def write_added(held: Held) -> str:
    return f"{held.p50:.1f}/{held.p99:.1f}"


def write_needs(held: Held) -> str:
    return f"{held.bytes_each / KB:.1f} KB, {held.peak_threads} threads"


def name_verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def describe(plan: Plan, findings: Sequence[Findings], *, about: Sequence[str]) -> dict[str, Any]:
    """Every figure, for machines."""
    return {
        "about": list(about),
        "plan": {name: value for name, value in asdict(plan).items() if name != "database_url"},
        "databases": [asdict(found) | {"ratio": found.ratio} for found in findings],
        "targets": judge(plan, findings),
    }
