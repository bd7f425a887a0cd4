"""Everything that can be made to go wrong, and where it is asked for.

A fault is `{"name": …, option: …}`. It comes from a rule of the scenario (which may match the key or the account, so
that one channel of several is bad), from a control URL while the simulator runs, from the header
`X-Sim-Fault: {"name": "error", "status": 503}` (an object or a list of them), or from the prompt:
`a cat [[sim: failed code=InternalError.Algo]]`. Header and prompt concern that order and all that follows from it: its
task, its pictures.

Answers (at the order; `at=poll|result|image|cancel|list` moves them there; result is where a queue hands out what it
made):
    error status= code= message= retry_after=   an error answer of the protocol; code and status each imply the other
    throttle code= retry_after=                 429
    moderation_input late=true                  the prompt is refused; late: as a FAILED task
    html status= | empty status= | code200 code= message= | hang | reset
    truncated how=json|body                     half of the JSON, or a connection that closes half way
    drip seconds=                               the answer in small pieces
    `billed=true` on any of them: the work is done and charged, and then the answer goes wrong. Without it nothing was
    accepted; truncated and drip always come after the work.
Outcomes: latency seconds= | failed code= message= | moderation_output | partial ok= of= code= message= |
    never_ends status= | no_results | no_data | image_count count= | image_url url= | image_expires seconds= |
    image_flagged (fal says so of each picture) | task_object (resellers)
    (`billed=true` on no_results, no_data: pictures were made and are charged)
Polls: status value=
Pictures: image_broken how=truncated|crc|html|empty | image_oversized bytes= chunked= |
    image_size width= height= | image_format format=jpeg|webp|gif | image_redirect location=
Short forms: image_error, image_slow, poll_error, poll_throttle.

There are no callbacks. DashScope has none for a request: its EventBridge is set up in a console for a whole account,
and nothing here receives events, so one that is delivered twice would strike nothing. A task that has ended may be
asked for again, and says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from providers.simulator.errors import ScenarioError


class Endpoint(StrEnum):
    """What was called, in the words of a rule's `match`: who takes orders first, then what is asked afterwards."""

    ASYNC = "async"
    SYNC = "sync"
    RESELLER = "reseller"
    RELAY = "relay"
    FAL = "fal"
    SILICONFLOW = "siliconflow"
    TASKS = "tasks"
    RESULT = "result"
    CANCEL = "cancel"
    LIST = "list"
    MODELS = "models"
    IMAGE = "image"


class Stage(StrEnum):
    """When a fault strikes."""

    SUBMIT = "submit"
    POLL = "poll"
    RESULT = "result"
    CANCEL = "cancel"
    LIST = "list"
    IMAGE = "image"


STAGE_OF: dict[Endpoint, Stage] = {
    Endpoint.ASYNC: Stage.SUBMIT,
    Endpoint.SYNC: Stage.SUBMIT,
    Endpoint.RESELLER: Stage.SUBMIT,
    Endpoint.RELAY: Stage.SUBMIT,
    Endpoint.FAL: Stage.SUBMIT,
    Endpoint.SILICONFLOW: Stage.SUBMIT,
    Endpoint.TASKS: Stage.POLL,
    Endpoint.RESULT: Stage.RESULT,
    Endpoint.CANCEL: Stage.CANCEL,
    Endpoint.LIST: Stage.LIST,
    Endpoint.MODELS: Stage.LIST,
    Endpoint.IMAGE: Stage.IMAGE,
}

_ANSWERS: dict[str, tuple[str, ...]] = {
    "error": ("status", "code", "message", "retry_after"),
    "throttle": ("code", "retry_after"),
    "moderation_input": ("late",),
    "html": ("status",),
    "empty": ("status",),
    "code200": ("code", "message"),
    "hang": (),
    "reset": (),
    "truncated": ("how",),
    "drip": ("seconds",),
}
_OUTCOMES: dict[str, tuple[str, ...]] = {
    "latency": ("seconds",),
    "failed": ("code", "message"),
    "moderation_output": (),
    "partial": ("ok", "of", "code", "message"),
    "never_ends": ("status",),
    "no_results": ("billed",),
    "no_data": ("billed",),
    "image_count": ("count",),
    "image_url": ("url",),
    "image_expires": ("seconds",),
    "image_flagged": (),
    "task_object": (),
}
_POLLS: dict[str, tuple[str, ...]] = {"status": ("value",)}
_PICTURES: dict[str, tuple[str, ...]] = {
    "image_broken": ("how",),
    "image_oversized": ("bytes", "chunked"),
    "image_size": ("width", "height"),
    "image_format": ("format",),
    "image_redirect": ("location",),
}
_FIXED_STAGE = {
    **dict.fromkeys(_OUTCOMES, Stage.SUBMIT),
    **dict.fromkeys(_POLLS, Stage.POLL),
    **dict.fromkeys(_PICTURES, Stage.IMAGE),
}
_OPTIONS = {name: (*own, "at", "billed") for name, own in _ANSWERS.items()} | _OUTCOMES | _POLLS | _PICTURES
_SHORT: dict[str, tuple[str, Stage]] = {
    "image_error": ("error", Stage.IMAGE),
    "image_slow": ("drip", Stage.IMAGE),
    "poll_error": ("error", Stage.POLL),
    "poll_throttle": ("throttle", Stage.POLL),
}
#: All that a fault may be called.
NAMES = frozenset({*_OPTIONS, *_SHORT})


def _read_flag(value: Any) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


_READ: dict[str, Callable[[Any], Any]] = {
    "at": Stage,
    **dict.fromkeys(("retry_after", "seconds"), float),
    **dict.fromkeys(("status", "ok", "of", "count", "bytes", "width", "height"), int),
    **dict.fromkeys(("late", "billed", "chunked"), _read_flag),
}
#: Options that take one of a few words; `never_ends` names a task status, not an HTTP status.
_CHOICES: dict[tuple[str, str], dict[str, str]] = {
    ("truncated", "how"): {"json": "json", "body": "body"},
    ("image_broken", "how"): {"truncated": "truncated", "crc": "crc", "html": "html", "empty": "empty"},
    ("image_format", "format"): {"jpeg": "jpeg", "webp": "webp", "gif": "gif"},
    ("never_ends", "status"): {"PENDING": "PENDING", "RUNNING": "RUNNING"},
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. Options are of the right type already."""

    name: str
    stage: Stage | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_answer(self) -> bool:
        return self.name in _ANSWERS

    @property
    def refuses(self) -> bool:
        """Whether a call that it meets ends there: nothing was accepted, no work is done."""
        works_first = self.options.get("billed", False) or self.options.get("late", False)
        return self.is_answer and not works_first and self.name not in {"truncated", "drip"}

    def get(self, option: str, default: Any) -> Any:
        return self.options.get(option, default)


def read_fault(raw: Any) -> Fault:
    """From JSON or a directive. Raises ScenarioError that names what is unknown."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
        raise ScenarioError('a fault is an object with a "name"')
    name, stage = _SHORT.get(raw["name"], (raw["name"], None))
    if name not in _OPTIONS:
        raise ScenarioError(f"unknown fault {name!r}; there are {', '.join(sorted(NAMES))}")
    options = {key: value for key, value in raw.items() if key != "name"}
    unknown = sorted(set(options) - set(_OPTIONS[name]))
    if unknown:
        raise ScenarioError(f"fault {name!r} has no option {', '.join(unknown)}")
    typed = {key: _read_option(name, key, value) for key, value in options.items()}
    return Fault(name, stage or typed.pop("at", None) or _FIXED_STAGE.get(name), typed)


def _read_option(name: str, key: str, value: Any) -> Any:
    try:
        if (name, key) in _CHOICES:
            return _CHOICES[name, key][value]
        return _READ.get(key, str)(value)
    except (KeyError, TypeError, ValueError):
        raise ScenarioError(f"fault {name!r}: {key}={value!r} is not possible") from None


class Struck:
    """The faults that meet one call; of a kind, the first counts."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._by_name: dict[str, Fault] = {}
        for fault in faults:
            self._by_name.setdefault(fault.name, fault)

    def get(self, name: str) -> Fault | None:
        return self._by_name.get(name)

    @property
    def answer(self) -> Fault | None:
        return next((fault for fault in self._by_name.values() if fault.is_answer), None)
