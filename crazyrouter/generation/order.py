"""The values that travel through a generation; immutable, no I/O."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from billing.money import quote
from crazyrouter.files.store import StoredPicture
from providers.contract import Job, Pending
from providers.routing import Decision, Route, Wish

#: Options of an order that must be passed on, by the names of `Job`.
PASSED_ON = frozenset({"negative_prompt", "seed", "prompt_extend", "watermark"})


@dataclass(frozen=True, slots=True)
class Idempotency:
    """An Idempotency-Key and the hashes of the body that it stands for (see `crazyrouter.api.preferences`)."""

    key: str
    body_hash: str
    order_hash: str


@dataclass(frozen=True, slots=True)
class Order:
    """One validated request of one key, with everything frozen that must not change while it runs.

    `unit_price_micros` is what an image costs this account; the versions say why.
    """

    id: str
    account_id: int
    api_key_id: int
    key_prefix: str
    model_id: int
    model_name: str
    unit_price_micros: int
    price_version: int
    account_price_version: int | None
    prompt: str
    options: Mapping[str, Any]
    size: tuple[int, int]
    render_size: tuple[int, int]
    n: int
    response_format: str
    request_hash: str = ""
    #: From 0 to 1: whether it meets a canary. 1 meets none.
    luck: float = 1.0
    #: Whether its account agreed that it may be copied to carriers on trial.
    shadow_allowed: bool = False
    idempotency: Idempotency | None = None

    @property
    def amount_micros(self) -> int:
        """What the whole order would cost."""
        return quote(unit_micros=self.unit_price_micros, images=self.n)

    @property
    def wish(self) -> Wish:
        """What an offer must be able to do for it."""
        return Wish(self.render_size, frozenset(self.options) & PASSED_ON)

    @property
    def size_text(self) -> str:
        return f"{self.size[0]}x{self.size[1]}"

    def make_job(self, route: Route, n: int) -> Job:
        """The upstream call for n of the images, in the carrier's name for the model."""
        options = self.options
        return Job(
            model=route.upstream_model,
            prompt=self.prompt,
            width=self.render_size[0],
            height=self.render_size[1],
            n=n,
            negative_prompt=options.get("negative_prompt"),
            seed=options.get("seed"),
            prompt_extend=options.get("prompt_extend"),
            watermark=options.get("watermark"),
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """Slots for which upstream calls are wanted: over any of the candidates, in as many calls as they need.

    Its calls get the numbers from `number` on, one at most for each slot. `tried` are offers that are not to be asked
    again, and `reason` says why there is a choice at all. `since` is in `time.monotonic()` seconds.
    """

    order: Order
    number: int
    slots: tuple[int, ...]
    decision: Decision
    reason: str = "the first choice"
    tried: frozenset[int] = frozenset()
    paid_tries: int = 0
    since: float = field(default_factory=time.monotonic)

    @property
    def capacity_ids(self) -> tuple[int, ...]:
        """Of the candidates, the first choice first, each once: channels of one account may share one."""
        ids = (route.capacity_id for route in self.decision.candidates)
        return tuple(dict.fromkeys(one for one in ids if one is not None))


@dataclass(frozen=True, slots=True)
class Call:
    """One upstream call: these slots over this route. `number` counts within the generation.

    `tried` are the offers that earlier calls for these slots went to, and `paid_tries` counts those of them that an
    upstream may have charged for. One that another process has submitted has its task in `accepted`, and is only
    polled, for `patience_s` more seconds. `granted_ms` is when room was taken, by the database's clock in epoch
    milliseconds, `granted_at` the same moment in `time.monotonic()` seconds. `routing` is what the attempt keeps of
    the choice.
    """

    number: int
    slots: tuple[int, ...]
    route: Route
    tried: frozenset[int] = frozenset()
    paid_tries: int = 0
    accepted: Pending | None = None
    patience_s: float = 0.0
    granted_ms: int = 0
    routing: Mapping[str, Any] = field(default_factory=dict)
    granted_at: float = 0.0

    @property
    def late_ms(self) -> int:
        """How long ago it was granted, by a clock that nobody sets."""
        return int((time.monotonic() - self.granted_at) * 1000) if self.granted_ms else 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why some slots got nothing: what the attempt row keeps of a ProviderError.

    Without `slots` it speaks for all slots of the call that have neither a picture nor a failure of their own.
    """

    code: str
    billed: str
    scope: str
    detail: str = ""
    upstream_id: str = ""
    slots: tuple[int, ...] = ()
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class CallResult:
    """How one call ended: the state of its attempt, the pictures stored, what was refused or failed.

    `booked` says that attempt and pictures are in the database already; the charges never are before the finish.
    `capacity_id` is whose room the call gives back, `took_ms` how long it had it.
    """

    number: int
    state: str
    pictures: tuple[StoredPicture, ...] = ()
    failures: tuple[Failure, ...] = ()
    upstream_id: str = ""
    revised_prompts: Mapping[int, str] = field(default_factory=dict)
    booked: bool = False
    capacity_id: int | None = None
    took_ms: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended, as the API answers it. `failure` is a public code, empty on success.

    `retry_after_s` is known where it failed for want of room.
    """

    id: str
    failure: str
    pictures: tuple[StoredPicture, ...]
    response_format: str
    revised_prompts: Mapping[int, str] = field(default_factory=dict)
    retry_after_s: int | None = None
