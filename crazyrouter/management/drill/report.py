"""What the drill says in the end: a table, what was expected and whether it held, and the same for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crazyrouter.management.drill.chapters import ALWAYS, Chapter
from crazyrouter.management.drill.expectations import Expectation, Verdict

COLUMNS = ("chapter", "orders", "images", "p50 ms", "p99 ms", "charged", "billed", "possible", "alerts", "answers")
#: Columns of words, which begin at the left.
WORDS = {"chapter", "answers"}


@dataclass(frozen=True, slots=True)
class Played:
    """One chapter with all that came of it. `examples` are orders that were not served as they should have been."""

    chapter: Chapter
    figures: Mapping[str, Any]
    verdicts: Sequence[Verdict]
    events: Sequence[str] = ()
    examples: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def is_kept(self) -> bool:
        return all(verdict.kept for verdict in self.verdicts)


@dataclass(slots=True)
class Findings:
    """`ends` are the proofs behind the last chapter, in the words of `Verdict`; `notes` say what was not drilled."""

    played: list[Played] = field(default_factory=list)
    ends: list[Verdict] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def broken(self) -> int:
        verdicts = [verdict for played in self.played for verdict in played.verdicts]
        return sum(not verdict.kept for verdict in [*verdicts, *self.ends])


def render(findings: Findings) -> str:
    parts = [*render_table(findings.played), ""]
    for played in findings.played:
        parts += render_chapter(played)
    parts += ["In every chapter", *(render_everywhere(one, findings.played) for one in ALWAYS), ""]
    parts += ["The books and the bill", *map(render_verdict, findings.ends)]
    parts += [f"      {line}" for line in findings.lines]
    parts += ["", *findings.notes, render_end(findings)]
    return "\n".join(parts)


def render_table(played: Sequence[Played]) -> Iterator[str]:
    rows = [COLUMNS, *(make_row(one) for one in played)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        cells = [
            text.ljust(width) if name in WORDS else text.rjust(width)
            for name, text, width in zip(COLUMNS, row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def make_row(played: Played) -> tuple[str, ...]:
    seen = played.figures
    answers = ", ".join(f"{count} x {label}" for label, count in sorted(seen["answers"].items()))
    numbers = ("p50_ms", "p99_ms", "charged", "billed", "possible", "alerts")
    return (
        played.chapter.name,
        str(seen["orders"]),
        f"{seen['delivered']}/{seen['asked']}",
        *(str(seen[name]) for name in numbers),
        answers,
    )


def render_chapter(played: Played) -> Iterator[str]:
    yield f"{played.chapter.name}: {played.chapter.title} ({played.seconds:.0f} s)"
    yield from (render_verdict(one) for one in played.verdicts if one.expectation not in ALWAYS or not one.kept)
    if not played.is_kept:
        yield from (f"      {line}" for line in played.examples)
    yield from (f"      {event}" for event in played.events)
    yield ""


def render_everywhere(expectation: Expectation, played: Sequence[Played]) -> str:
    """One line for what is expected of all of them; those that broke it have told the rest."""
    broken = [
        one.chapter.name
        for one in played
        if any(verdict.expectation == expectation and not verdict.kept for verdict in one.verdicts)
    ]
    return f"  {'BROKEN' if broken else 'kept  '}  {expectation.words}{': not in ' * bool(broken)}{', '.join(broken)}"


def render_verdict(verdict: Verdict) -> str:
    word = "kept  " if verdict.kept else "BROKEN"
    return f"  {word}  {verdict.expectation.words}: {verdict.said}"


def render_end(findings: Findings) -> str:
    count = sum(len(played.verdicts) for played in findings.played) + len(findings.ends)
    if findings.broken:
        return f"{findings.broken} of {count} expectations BROKEN"
    return f"all {count} expectations kept"


def describe(findings: Findings) -> dict[str, Any]:
    return {
        "broken": findings.broken,
        "chapters": [
            {
                "name": one.chapter.name,
                "seconds": round(one.seconds, 1),
                "figures": dict(one.figures),
                "expectations": [describe_verdict(verdict) for verdict in one.verdicts],
                "events": list(one.events),
                "examples": list(one.examples),
            }
            for one in findings.played
        ],
        "ends": [describe_verdict(verdict) for verdict in findings.ends],
        "lines": findings.lines,
        "notes": findings.notes,
    }


def describe_verdict(verdict: Verdict) -> dict[str, Any]:
    expectation = verdict.expectation
    return {
        "words": expectation.words,
        "condition": expectation.condition,
        "kept": verdict.kept,
        "said": verdict.said,
    }
