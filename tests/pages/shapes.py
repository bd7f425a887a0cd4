"""Whether an answer is what a page shows: the same members and types, and the same words where they are not chance.

Words are compared exactly, except for what differs from one order to the next: ids by their prefix, URLs without their
last part, times, dates and amounts as such. So are whole numbers, except Unix times and counts of images. A shown text
that ends in an ellipsis stands for all that begin so. Of a long list, a page may show a part.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.pages.answers import Answer, read_head

#: Where these stand in a text, they stand for each other.
CHANCE = (
    (re.compile(r"\b(gen|req)_[A-Za-z0-9_-]+"), r"\1_*"),
    (re.compile(r"\bsk-cr-[A-Za-z0-9_-]+"), "sk-cr-*"),
    (re.compile(r"(https?://\S*/)[^/\s]+"), r"\1*"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "*time*"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "*day*"),
    (re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"), "*clock*"),
    (re.compile(r"^-?\d+\.\d+$"), "*amount*"),
    (re.compile(r"^\d+$"), "*number*"),
)
ELLIPSES = ("…", "...")
#: Whole numbers from here on are Unix times.
FIRST_TIME = 10**9
COUNTS = (".images",)


def compare_text(shown: str, real: object) -> list[str]:
    """The faults of a JSON document that a page shows. `real` is None where no answer came before it."""
    try:
        document = json.loads(shown)
    except ValueError as error:
        return [f"it is not JSON: {error}"]
    if real is None:
        return ["no example before it printed a JSON answer"]
    return compare(document, real, "answer")


def compare_headers(shown: str, answer: Answer | None) -> list[str]:
    """Headers that a page shows, with or without a status line above them."""
    if answer is None:
        return ["no example before it showed the headers of its answer"]
    has_status = shown.startswith("HTTP/")
    status, headers = read_head(shown if has_status else f"HTTP/1.1 {answer.status}\n{shown}")
    faults = [f"the status is {answer.status}, not {status}"] if status != answer.status else []
    for name, value in headers.items():
        if name not in answer.headers:
            faults.append(f"there is no header {name}")
        else:
            faults += compare(value, answer.headers[name], name)
    return faults


def compare(shown: Any, real: Any, path: str) -> list[str]:
    if name_type(shown) != name_type(real):
        return [f"{path} is {name_type(real)}, shown as {name_type(shown)}"]
    if isinstance(shown, dict):
        return compare_members(shown, real, path)
    if isinstance(shown, list):
        return compare_items(shown, real, path)
    same = is_alike(shown, real) if isinstance(shown, str) else shown == real or is_chance(shown, real, path)
    return [] if same else [f"{path} is {real!r:.160}, shown as {shown!r:.160}"]


def compare_members(shown: dict[str, Any], real: dict[str, Any], path: str) -> list[str]:
    faults = [f"{path}.{name} is shown, and is not there" for name in shown if name not in real]
    faults += [f"{path}.{name} is there, and not shown" for name in real if name not in shown]
    for name in shown.keys() & real.keys():
        faults += compare(shown[name], real[name], f"{path}.{name}")
    return sorted(faults)


def compare_items(shown: list[Any], real: list[Any], path: str) -> list[str]:
    if bool(shown) != bool(real) or len(shown) > len(real):
        return [f"{path} has {len(real)} items, {len(shown)} are shown"]
    if len(shown) == len(real):
        return [fault for index, item in enumerate(shown) for fault in compare(item, real[index], f"{path}[{index}]")]
    return [fault for index, item in enumerate(shown) for fault in find_item(item, real, f"{path}[{index}]")]


def find_item(item: Any, real: list[Any], path: str) -> list[str]:
    """The faults against the item that is most like it."""
    return min((compare(item, candidate, path) for candidate in real), key=len)


def is_alike(shown: str, real: str) -> bool:
    for ellipsis in ELLIPSES:
        if shown.endswith(ellipsis):
            return real.startswith(shown.removesuffix(ellipsis))
    return blur(shown) == blur(real)


def blur(text: str) -> str:
    for pattern, stand_in in CHANCE:
        text = pattern.sub(stand_in, text)
    return text


def is_chance(shown: Any, real: Any, path: str) -> bool:
    """Of two numbers, or two truth values."""
    if isinstance(shown, bool):
        return False
    return path.endswith(COUNTS) or min(shown, real) >= FIRST_TIME


def name_type(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    return names.get(type(value), "an array" if isinstance(value, list) else "an object")
