"""What must hold of a chapter, as data: a figure, a relation, a bound. `judge` says whether it did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Figures = Mapping[str, Any]
#: A number, the name of another figure, or, for `ONLY`, the names that may be counted at all.
Bound = int | str | tuple[str, ...]


class Relation(StrEnum):
    IS = "is"
    AT_LEAST = "at least"
    AT_MOST = "at most"
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class Expectation:
    """`words` are for people; the rest is what is looked at."""

    words: str
    figure: str
    relation: Relation
    bound: Bound

    @property
    def condition(self) -> str:
        bound = ", ".join(self.bound) if isinstance(self.bound, tuple) else self.bound
        return f"{self.figure} {self.relation} {bound}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`said` is what the figure was, and what a bound that is a figure was."""

    expectation: Expectation
    kept: bool
    said: str


class NotAnExpectation(Exception):
    """Its message is for people."""


def judge(expectation: Expectation, figures: Figures) -> Verdict:
    """A figure that is missing keeps nothing."""
    seen = figures.get(expectation.figure)
    if seen is None:
        return Verdict(expectation, kept=False, said=f"{expectation.figure} is not known")
    if expectation.relation is Relation.ONLY:
        return judge_names(expectation, seen)
    bound = figures.get(expectation.bound) if isinstance(expectation.bound, str) else expectation.bound
    if not isinstance(bound, int | float) or not isinstance(seen, int | float):
        return Verdict(expectation, kept=False, said=f"{expectation.condition} compares no numbers")
    kept = {Relation.IS: seen == bound, Relation.AT_LEAST: seen >= bound, Relation.AT_MOST: seen <= bound}
    named = f" ({expectation.bound} is {bound:g})" if isinstance(expectation.bound, str) else ""
    return Verdict(expectation, kept=kept[expectation.relation], said=f"{expectation.figure} is {seen:g}{named}")


def judge_names(expectation: Expectation, seen: Any) -> Verdict:
    if not isinstance(seen, Mapping) or not isinstance(expectation.bound, tuple):
        return Verdict(expectation, kept=False, said=f"{expectation.condition} compares no names")
    others = {name: count for name, count in seen.items() if name not in expectation.bound}
    said = ", ".join(f"{count} x {name}" for name, count in (others or seen).items()) or "none"
    return Verdict(expectation, kept=not others and bool(seen), said=f"{expectation.figure}: {said}")


def judge_all(expectations: Iterable[Expectation], figures: Figures) -> tuple[Verdict, ...]:
    return tuple(judge(one, figures) for one in expectations)


_WRITTEN = re.compile(r"\s*([a-z_]+)\s*:\s*([a-z0-9_]+)\s+(is|at least|at most)\s+(-?\d+|[a-z][a-z0-9_]*)\s*")


def read_expectation(text: str) -> tuple[str, Expectation]:
    """Of the command line, `quiet: p99_ms at most 4000`: the chapter's name and what is expected of it.

    Raises NotAnExpectation.
    """
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise NotAnExpectation(f"{text!r} is not `CHAPTER: FIGURE is|at least|at most NUMBER`")
    chapter, figure, relation, bound = match.groups()
    number = int(bound) if bound.lstrip("-").isdigit() else bound
    return chapter, Expectation("as the command line says", figure, Relation(relation), number)
