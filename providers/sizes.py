"""Sizes that an offer renders: `["1328x1328", …]`, empty for every size. Pure functions over the catalog's facts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from models_registry.catalog import PublicModel
from models_registry.limits import choose_render_size, fits_range

Size = tuple[int, int]

WRITTEN = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)


def split_sizes(text: str) -> list[str]:
    """As people write them, `1328x1328, 1664*928`: one notation, in their order, each once."""
    return list(dict.fromkeys(word.lower().replace("*", "x") for word in re.split(r"[\s,;]+", text) if word))


def list_render_sizes(model: PublicModel) -> tuple[Size, ...]:
    """What an upstream is asked for when customers ask for the listed sizes or for none: in the order of the list."""
    asked = (model.default_size, *model.sizes)
    return tuple(dict.fromkeys(choose_render_size(model, size) for size in asked))


def find_size_faults(sizes: Any, model: PublicModel) -> list[str]:
    """What is wrong with an offer's sizes, a sentence each."""
    if not isinstance(sizes, list):
        return ['a list like ["1328x1328"] is meant']
    faults = [fault for text in sizes if (fault := find_fault(text, model))]
    return faults + (["a size stands there twice"] if len(set(map(str, sizes))) < len(sizes) else [])


def find_fault(text: Any, model: PublicModel) -> str:
    match = WRITTEN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return f"{str(text)[:20]!r} is not a size: write WIDTHxHEIGHT"
    size = int(match[1]), int(match[2])
    rendered = list_render_sizes(model)
    if size in rendered or (model.size_range and fits_range(size, model.size_range)):
        return ""
    others = " and any size of its range" if model.size_range else ""
    return f"{text} is never rendered for {model.name}: {name_sizes(rendered)}{others} are"


def find_missing_sizes(sizes: Sequence[str], model: PublicModel) -> tuple[Size, ...]:
    """Listed sizes (and the default one) that an offer of these sizes cannot render."""
    rendered = frozenset(sizes)
    return tuple(size for size in list_render_sizes(model) if rendered and name_size(size) not in rendered)


def name_size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def name_sizes(sizes: Iterable[Size]) -> str:
    return ", ".join(map(name_size, sizes))
