"""The shop of the drill: two carriers for each model, told apart by their accounts at the simulated upstream.

`A` is asked first and meets the trouble, `B` stands behind it and stays well. Each side is two channels, since one
protocol orders tasks and another waits for pictures; their limits are those that the simulator is told to enforce.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from crazyrouter.management.configuration.secrets import name_secret

ACCOUNT = "drill"
#: What every channel of the drill is called.
PREFIX = "drill "

TASKS, FIRST, SECOND = "qwen-image-plus", "qwen-image-2.0", "qwen-image-max"
MODELS = (TASKS, FIRST, SECOND)

QUERIES_PER_S = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one model at one account: submits a second, and calls at a time."""

    submits_per_s: int
    most_running: int


#: So little that whoever comes has to wait.
NARROW = Limits(2, 2)


def choose_limits(*, rate: float) -> Limits:
    """Room for the load at `rate` orders a second, of three pictures each and ten seconds long, if need be."""
    return Limits(min(100, max(12, math.ceil(4 * rate))), max(30, math.ceil(10 * rate)))


@dataclass(frozen=True, slots=True)
class Door:
    """One way into a side: a channel as `config apply` makes it. `offers` says how many pictures one call makes."""

    name: str
    kind: str
    path: str
    offers: Mapping[str, int]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Side:
    """One carrier. `account` is its name at the simulator, whose keys begin with it."""

    letter: str
    account: str
    doors: tuple[Door, ...]

    @property
    def label(self) -> str:
        return f"{PREFIX}{self.letter}"

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(door.name for door in self.doors)

    @property
    def key_prefix(self) -> str:
        return f"sk-sim-{self.account}."

    def make_key(self) -> str:
        return self.key_prefix + secrets.token_hex(8)

    def find_channel(self, model: str) -> str:
        return next(door.name for door in self.doors if model in door.offers)


A = Side(
    "A",
    "drill-a",
    (
        Door("drill A tasks", "dashscope_async", "/api/v1", {TASKS: 1}, {"poll_interval_s": 0.5}),
        Door("drill A pictures", "dashscope_sync", "/api/v1", {FIRST: 1, SECOND: 1}, {}),
    ),
)
B = Side(
    "B",
    "drill-b",
    (
        Door("drill B tasks", "openai_images_tasks", "/relay/v1", {TASKS: 1}, {"poll_interval_s": 0.5}),
        Door("drill B pictures", "openai_images", "/v1", {FIRST: 3, SECOND: 1}, {"extra_fields": True}),
    ),
)
SIDES = (A, B)
CHANNELS = (*A.channels, *B.channels)


def build_document(*, simulator_url: str, first_priority: int, limits: Limits) -> str:
    """For `config apply`; the keys are read from the variables that `name_secrets` names."""
    document = {
        "schema": 1,
        "accounts": {
            side.label: {
                "polls_per_s": QUERIES_PER_S,
                "capacities": {
                    model: {"submits": f"{limits.submits_per_s} per 1s", "max_running": limits.most_running}
                    for model in MODELS
                },
            }
            for side in SIDES
        },
        "channels": {
            door.name: describe_door(door, side, url=simulator_url, priority=first_priority + place)
            for place, side in enumerate(SIDES)
            for door in side.doors
        },
    }
    return yaml.safe_dump(document, sort_keys=False)


def describe_door(door: Door, side: Side, *, url: str, priority: int) -> dict[str, Any]:
    return {
        "kind": door.kind,
        "base_url": url + door.path,
        "account": side.label,
        "credential": f"${{{name_secret(door.name)}}}",
        "enabled": True,
        "simulated": True,
        "options": dict(door.options),
        "note": "Made by `manage.py drill`; disabled when it ends.",
        "offers": [
            {"model": model, "priority": priority, "max_n": max_n, "enabled": True}
            for model, max_n in door.offers.items()
        ],
    }


def list_secrets(keys: Mapping[str, str]) -> dict[str, str]:
    """Variable -> key, from the keys by the side's letter."""
    return {name_secret(door.name): keys[side.letter] for side in SIDES for door in side.doors}


def build_limits(limits: Limits) -> dict[str, Any]:
    """The same limits in the words of the simulator's scenario, by account."""
    words = {
        "submits": {model: [limits.submits_per_s, 1.0] for model in MODELS},
        "async_concurrency": limits.most_running,
        "when_full": "throttle",
        "queries_per_s": QUERIES_PER_S,
    }
    return {side.account: words for side in SIDES}
