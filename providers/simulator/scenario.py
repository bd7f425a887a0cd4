"""What a scenario file says: accounts, latency, limits, the reseller's ways, and the rules for faults.

    {"accounts": {"acme": ["sk-one", "sk-two"]}, "latency_s": {"default": 1.0, "qwen-image-max": 3.0, "async": 20},
     "limits": "documented", "late_validation": true, "rules": [{"match": {…}, "fault": {…}, "times": 1}]}

Keys that begin with `sk-sim-` need no entry: `sk-sim-NAME.ANYTHING` belongs to account NAME, any other
to an account of its own. Limits hold for each account by itself; `accounts` gives one limits of its own, in the same
words, instead of those that all others have:

    "limits": {"submits": {"qwen-image-max": [2, 60], "*": [2, 1]}, "async_concurrency": 2, "when_full": "throttle",
               "queries_per_s": 20, "accounts": {"acme": "documented", "shop": {}}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from providers.simulator.errors import ScenarioError
from providers.simulator.faults import Endpoint
from providers.simulator.rules import Rule, read_rule

OPEN_PREFIX = "sk-sim-"

#: Limits per account as the vendor documents them: submits as (count, seconds) by model.
DOCUMENTED: dict[str, Any] = {
    "submits": {
        "qwen-image-plus": [2, 1.0],
        "qwen-image": [2, 1.0],
        "qwen-image-max": [2, 60.0],
        "qwen-image-2.0": [2, 1.0],
        "qwen-image-2.0-pro": [2, 60.0],
    },
    "async_concurrency": 2,
    "when_full": "throttle",
    "queries_per_s": 20,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Absent means off. `when_full`: whether a third task is refused (`throttle`) or waits as PENDING (`queue`)."""

    submits: Mapping[str, tuple[int, float]]
    async_concurrency: int | None = None
    when_full: str = "throttle"
    queries_per_s: int | None = None

    def find_rate(self, model: str) -> tuple[int, float] | None:
        """(count, seconds) for the submits of a model; `*` stands for all that have no line of their own."""
        return self.submits.get(model, self.submits.get("*"))


@dataclass(frozen=True, slots=True)
class ResellerWays:
    """How this reseller deviates: keys beside `sk-sim-…`, size spelling `any|x|*`, a rewrite in the answer, and what
    its task objects look like, `flat|wrapped`.
    """

    keys: tuple[str, ...] = ()
    size_separator: str = "any"
    revised_prompt: bool = False
    task_style: str = "flat"


@dataclass(slots=True)
class Scenario:
    """One way for the simulator to behave; `raw` is what it was read from. `rules` count down as they strike.

    `link_life_s` None leaves each carrier's links their own life.
    """

    raw: dict[str, Any]
    accounts: Mapping[str, str]
    latency_s: Mapping[str, float]
    limits: Limits
    account_limits: Mapping[str, Limits]
    late_validation: bool
    link_life_s: float | None
    reseller: ResellerWays
    rules: list[Rule]

    def find_account(self, key: str) -> str | None:
        """The account that a key belongs to; None for a key of nobody."""
        known = self.accounts.get(key)
        if known is not None or not key.startswith(OPEN_PREFIX) or key == OPEN_PREFIX:
            return known
        name, dot, _ = key.removeprefix(OPEN_PREFIX).partition(".")
        return name if dot and name else f"sim-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    def get_limits(self, account: str) -> Limits:
        return self.account_limits.get(account, self.limits)

    def get_latency(self, model: str, endpoint: Endpoint) -> float:
        """Seconds for one call; the most specific entry counts: `model/endpoint`, model, endpoint, default."""
        for name in (f"{model}/{endpoint}", model, endpoint.value):
            if name in self.latency_s:
                return self.latency_s[name]
        return self.latency_s.get("default", 1.0)


def read_scenario(raw: Any) -> Scenario:
    """Raises ScenarioError that names the entry."""
    if not isinstance(raw, Mapping):
        raise ScenarioError("a scenario is an object")
    known = {"accounts", "latency_s", "limits", "late_validation", "link_life_s", "reseller", "rules"}
    if unknown := sorted(set(raw) - known):
        raise ScenarioError(f"a scenario has no entry {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    try:
        return Scenario(
            raw=dict(raw),
            accounts={key: name for name, keys in raw.get("accounts", {}).items() for key in keys},
            latency_s=_read_latency(raw.get("latency_s", 1.0)),
            limits=_read_limits(_leave_out_accounts(raw.get("limits", {}))),
            account_limits={name: _read_limits(own) for name, own in _list_account_limits(raw).items()},
            late_validation=bool(raw.get("late_validation", True)),
            link_life_s=None if raw.get("link_life_s") is None else float(raw["link_life_s"]),
            reseller=_read_reseller(raw.get("reseller", {})),
            rules=[read_rule(rule) for rule in raw.get("rules", [])],
        )
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ScenarioError(f"this scenario cannot be read: {error}") from error


def load_scenario(path: Path) -> Scenario:
    """Raises ScenarioError, also for a file that cannot be read."""
    try:
        return read_scenario(orjson.loads(path.read_bytes()))
    except (OSError, orjson.JSONDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from error


def _read_latency(raw: Any) -> dict[str, float]:
    entries = raw if isinstance(raw, Mapping) else {"default": raw}
    return {name: float(seconds) for name, seconds in entries.items()}


def _list_account_limits(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    limits = raw.get("limits", {})
    accounts = limits.get("accounts", {}) if isinstance(limits, Mapping) else {}
    if not isinstance(accounts, Mapping):
        raise ScenarioError("limits.accounts is an object by account")
    return accounts


def _leave_out_accounts(raw: Any) -> Any:
    return {name: entry for name, entry in raw.items() if name != "accounts"} if isinstance(raw, Mapping) else raw


def _read_limits(raw: Any) -> Limits:
    if isinstance(raw, str) and raw != "documented":
        raise ScenarioError('limits are "documented" or an object')
    entries = dict(DOCUMENTED if raw == "documented" else raw)
    submits = {model: (int(count), float(seconds)) for model, (count, seconds) in entries.pop("submits", {}).items()}
    if entries.get("when_full", "throttle") not in {"throttle", "queue"}:
        raise ScenarioError('limits.when_full is "throttle" or "queue"')
    return Limits(submits=submits, **entries)


def _read_reseller(raw: Any) -> ResellerWays:
    entries = dict(raw)
    if entries.get("size_separator", "any") not in {"any", "x", "*"}:
        raise ScenarioError('reseller.size_separator is "any", "x" or "*"')
    if entries.get("task_style", "flat") not in {"flat", "wrapped"}:
        raise ScenarioError('reseller.task_style is "flat" or "wrapped"')
    return ResellerWays(**{**entries, "keys": tuple(entries.get("keys", ()))})
