"""The values that travel through a generation; immutable, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from billing.money import quote
from crazyrouter.files.store import StoredPicture
from providers.contract import Job, Pending
from providers.routing import Route


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
    candidates: tuple[Route, ...]
    request_hash: str = ""
    idempotency: Idempotency | None = None

    @property
    def amount_micros(self) -> int:
        """What the whole order would cost."""
        return quote(unit_micros=self.unit_price_micros, images=self.n)

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
class Call:
    """One upstream call: these slots over the first of these candidates. `number` counts within the generation.

    `paid_tries` counts earlier calls for these slots that an upstream may have charged for. One that another process
    has submitted has its task in `accepted`, and is only polled, for `patience_s` more seconds.
    """

    number: int
    slots: tuple[int, ...]
    candidates: tuple[Route, ...]
    paid_tries: int = 0
    accepted: Pending | None = None
    patience_s: float = 0.0

    @property
    def route(self) -> Route:
        return self.candidates[0]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why some slots got nothing: what the attempt row keeps of a ProviderError."""

    code: str
    billed: str
    scope: str
    detail: str = ""
    upstream_id: str = ""


@dataclass(frozen=True, slots=True)
class CallResult:
    """How one call ended: the state of its attempt, the pictures stored, what was refused or failed.

    `booked` says that attempt and pictures are in the database already; the charges never are before the finish.
    """

    number: int
    state: str
    pictures: tuple[StoredPicture, ...] = ()
    failures: tuple[Failure, ...] = ()
    upstream_id: str = ""
    revised_prompts: Mapping[int, str] = field(default_factory=dict)
    booked: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended, as the API answers it. `failure` is a public code, empty on success."""

    id: str
    failure: str
    pictures: tuple[StoredPicture, ...]
    response_format: str
    revised_prompts: Mapping[int, str] = field(default_factory=dict)
