"""An accepted order, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from providers.simulator.bill import Submission
from providers.simulator.catalogue import ModelFacts, Parameters
from providers.simulator.clock import DAY_S
from providers.simulator.errors import INPUT_REFUSED, OUTPUT_REFUSED, Refusal
from providers.simulator.faults import Fault, Struck
from providers.simulator.links import PREFIX, Picture
from providers.simulator.pictures import Drawing
from providers.simulator.rules import Facts, Rule
from providers.simulator.state import State


@dataclass(slots=True)
class Order:
    """One call's worth of pictures. `late` is what will be found wrong with it only after it was accepted.

    `link_life_s` is how long this carrier's links live, unless the scenario or a fault says otherwise.
    """

    model_name: str
    model: ModelFacts
    prompt: str
    parameters: Parameters
    negative_prompt: str = ""
    late: Refusal | None = None
    wants_b64: bool = False
    file_format: str = "png"
    link_life_s: float = DAY_S
    link_prefix: str = PREFIX
    account: str = ""
    request_id: str = ""
    facts: Facts | None = None
    directives: list[Rule] = field(default_factory=list)
    struck: Struck = field(default_factory=Struck)
    entry: Submission | None = None

    @property
    def placed(self) -> tuple[Facts, Submission]:
        """What an order has once it went through the intake."""
        if self.facts is None or self.entry is None:
            raise RuntimeError("this order did not go through the intake")
        return self.facts, self.entry


@dataclass(frozen=True, slots=True)
class Flaw:
    """One item of an order that did not become a picture."""

    code: str
    message: str


def find_failure(order: Order) -> Refusal | None:
    """Why nothing will come of an accepted order."""
    moderated = order.struck.get("moderation_input")
    if moderated and moderated.get("late", False):
        return refuse_input()
    if order.struck.get("moderation_output"):
        return Refusal("DataInspectionFailed", OUTPUT_REFUSED)
    failed = order.struck.get("failed")
    if failed:
        return Refusal(failed.get("code", "InternalError.Algo"), failed.get("message", ""))
    partial = order.struck.get("partial")
    if partial and partial.get("ok", 1) == 0:
        return _read_partial(partial)
    return order.late


def get_latency(state: State, order: Order) -> float:
    """Seconds from the order to its pictures."""
    other = order.struck.get("latency")
    facts, _ = order.placed
    return other.get("seconds", 0.0) if other else state.scenario.get_latency(order.model.name, facts.endpoint)


def get_link_life(state: State, order: Order) -> float:
    """Seconds from a picture to the end of its link."""
    expires = order.struck.get("image_expires")
    if expires:
        life: float = expires.get("seconds", 0.0)
        return life
    return order.link_life_s if state.scenario.link_life_s is None else state.scenario.link_life_s


def refuse_input() -> Refusal:
    return Refusal("DataInspectionFailed", INPUT_REFUSED)


def produce(state: State, order: Order, *, name: str, at: float) -> list[Picture | Flaw]:
    """Make the pictures and charge for them, at that moment. Items keep their order; flaws come last."""
    facts, entry = order.placed
    partial = order.struck.get("partial")
    total = partial.get("of", order.parameters.n) if partial else order.parameters.n
    good = min(partial.get("ok", 1), total) if partial else total
    withheld = order.struck.get("no_results") or order.struck.get("no_data")
    if withheld is None or withheld.get("billed", False):
        state.bill.charge(entry, images=good, price_fen=order.model.price_fen, at=at)
    if withheld:
        return []
    pictures = [
        state.shelf.put(
            _describe(order, name=name, index=index),
            facts=facts,
            directives=order.directives,
            expires=at + get_link_life(state, order),
            prefix=order.link_prefix,
        )
        for index in range(good)
    ]
    if partial is None:
        return list(pictures)
    refusal = _read_partial(partial)
    return [*pictures, *[Flaw(refusal.code, refusal.message)] * (total - good)]


def get_link(order: Order, picture: Picture) -> str:
    """The URL that is handed out: the picture's, unless a fault puts another in its place."""
    elsewhere = order.struck.get("image_url")
    return elsewhere.get("url", "") if elsewhere else picture.link


def count_images(order: Order, items: list[Picture | Flaw]) -> int:
    """`usage.image_count`: the pictures, unless a fault makes it lie."""
    lie = order.struck.get("image_count")
    return lie.get("count", 0) if lie else sum(isinstance(item, Picture) for item in items)


def _describe(order: Order, *, name: str, index: int) -> Drawing:
    wanted = order.parameters
    return Drawing(
        model=order.model_name,
        prompt=order.prompt,
        width=wanted.width,
        height=wanted.height,
        name=name,
        index=index,
        seed=wanted.seed,
        watermark=wanted.watermark,
    )


def _read_partial(partial: Fault) -> Refusal:
    return Refusal(partial.get("code", "DataInspectionFailed"), partial.get("message", ""))
