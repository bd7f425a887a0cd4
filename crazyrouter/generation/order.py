"""The values that travel through a generation; immutable, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from billing.money import quote
from crazyrouter.files.store import StoredPicture
from models_registry.catalog import PublicModel, PublicPrice
from providers.contract import Job
from providers.routing import Route


@dataclass(frozen=True, slots=True)
class Order:
    """One validated request of one key, with everything frozen that must not change while it runs."""

    id: str
    account_id: int
    api_key_id: int
    key_prefix: str
    model: PublicModel
    price: PublicPrice
    prompt: str
    options: Mapping[str, Any]
    size: tuple[int, int]
    render_size: tuple[int, int]
    n: int
    response_format: str
    candidates: tuple[Route, ...]

    @property
    def amount_micros(self) -> int:
        """What the whole order would cost."""
        return quote(unit_micros=self.price.amount_micros, images=self.n)

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

    `paid_tries` counts earlier calls for these slots that an upstream may have charged for.
    """

    number: int
    slots: tuple[int, ...]
    candidates: tuple[Route, ...]
    paid_tries: int = 0

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
    """How one call ended: the state of its attempt, the pictures stored, what was refused or failed."""

    number: int
    state: str
    pictures: tuple[StoredPicture, ...] = ()
    failures: tuple[Failure, ...] = ()
    upstream_id: str = ""
    revised_prompts: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended, as the API answers it. `failure` is a public code, empty on success."""

    id: str
    failure: str
    pictures: tuple[StoredPicture, ...]
    created: int
    revised_prompts: Mapping[int, str] = field(default_factory=dict)
