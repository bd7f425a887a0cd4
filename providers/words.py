"""What the rows of routing say to an operator, in one line each: limits, health, roles. None reads the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.utils import timezone

from providers.health.circuits import Seen, is_telling
from providers.models import Capacity, Offer, OfferHealth

Circuit = OfferHealth.Circuit


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def describe_limits(capacity: Capacity | None) -> str:
    """`2 submits per 60 s, 2 at a time`."""
    if capacity is None:
        return "no limit is known"
    said = []
    if capacity.submit_interval_ms is not None:
        window_s = capacity.submit_burst * capacity.submit_interval_ms / 1000
        said.append(f"{count(capacity.submit_burst, 'submit')} per {window_s:g} s")
    if capacity.max_running is not None:
        said.append(f"{capacity.max_running:,} at a time")
    return ", ".join(said) or "no limit"


def describe_use(capacity: Capacity) -> str:
    """How much of it is taken now."""
    of = "" if capacity.max_running is None else f" of {capacity.max_running:,}"
    took = f", a call takes {describe_ms(capacity.call_ms)}" if capacity.call_ms else ""
    return f"{capacity.running:,}{of} running{took}"


def describe_starts(capacity: Capacity) -> str:
    """When the latest submits began, the newest first; a rate limit remembers only as many as it needs."""
    moments = [datetime.fromtimestamp(start / 1000, UTC) for start in reversed(capacity.starts)]
    return ", ".join(map(tell_time, moments)) or "–"


def describe_ms(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.1f} s"


def tell_time(moment: datetime) -> str:
    """The time of day, with its date where that is not today's."""
    local, today = timezone.localtime(moment), timezone.localdate()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"


def tell_share(percent: int) -> str:
    return f"{percent} %"


@dataclass(frozen=True, slots=True)
class Dot:
    """One recent call; `level` is success, warning (it was throttled, which is no fault) or danger."""

    level: str
    title: str


@dataclass(frozen=True, slots=True)
class Record:
    """The recent calls of an offer, the newest last. `rate` is in percent; None where none of them tells anything."""

    dots: tuple[Dot, ...] = ()
    rate: int | None = None
    telling: int = 0
    mean_ms: int = 0

    @property
    def summary(self) -> str:
        if not self.dots:
            return "no recent call"
        said = [] if self.rate is None else [f"{self.rate} % of {count(self.telling, 'call')} succeeded"]
        said += [f"{describe_ms(self.mean_ms)} on average"] if self.mean_ms else []
        throttled = len(self.dots) - self.telling
        return ", ".join(said + ([f"{throttled:,} throttled"] if throttled else []))

    @property
    def brief(self) -> str:
        rate = "" if self.rate is None else f"{self.rate} %"
        return ", ".join(part for part in (rate, describe_ms(self.mean_ms) if self.mean_ms else "") if part)


def read_record(health: OfferHealth | None) -> Record:
    seen = [Seen(*call) for call in (health.recent if health else ())]
    telling = [call for call in seen if is_telling(call)]
    good = [call.ms for call in telling if call.ok]
    return Record(
        dots=tuple(map(make_dot, seen)),
        rate=round(100 * len(good) / len(telling)) if telling else None,
        telling=len(telling),
        mean_ms=round(sum(good) / len(good)) if good else 0,
    )


def make_dot(call: Seen) -> Dot:
    level = "success" if call.ok else "danger" if is_telling(call) else "warning"
    ended = "succeeded" if call.ok else call.code or "failed"
    return Dot(level, f"{tell_time(datetime.fromtimestamp(call.at, UTC))} {ended} after {describe_ms(call.ms)}")


def is_cooling(health: OfferHealth | None) -> bool:
    return health is not None and health.cooling_until is not None and health.cooling_until > timezone.now()


def name_circuit(health: OfferHealth | None) -> str:
    return health.get_circuit_display() if health else "closed"


def describe_circuit(health: OfferHealth | None) -> str:
    """`open since 14:02:11: 5 calls in a row failed; probed next at 14:03:11`."""
    return f"{name_circuit(health)} {describe_change(health)}".strip()


def describe_change(health: OfferHealth | None) -> str:
    """Since when, why, and what comes next; empty for a circuit that never moved."""
    if health is None or health.changed_at is None:
        return ""
    why, then = f": {health.reason}" if health.reason else "", describe_probe(health)
    # A carrier's words end as the carrier likes.
    return f"since {tell_time(health.changed_at)}{why.rstrip('.') if then else why}{then}"


def describe_probe(health: OfferHealth) -> str:
    if health.circuit == Circuit.OPEN and health.retry_at:
        return f"; probed next at {tell_time(health.retry_at)}"
    if health.circuit == Circuit.HALF_OPEN and health.probe_owner and health.probe_until:
        return f"; one call tries it, until {tell_time(health.probe_until)}"
    return ""


def describe_cooling(health: OfferHealth | None) -> str:
    """Empty where it does not cool down."""
    if health is None or health.cooling_until is None or not is_cooling(health):
        return ""
    why = f": {health.cooling_reason}" if health.cooling_reason else ""
    return f"cools down until {tell_time(health.cooling_until)}{why}"


def describe_role(offer: Offer) -> str:
    """`canary 5 %, fallen back since 14:02:11: …`; empty for an offer that serves by priority and weight alone."""
    if offer.shadow_percent is not None:
        return f"shadow {tell_share(offer.shadow_percent)}, at most {offer.shadow_per_day:,} a day"
    if offer.canary_percent is None:
        return ""
    said = f"canary {tell_share(offer.canary_percent)}"
    if offer.canary_fallen_at is None:
        return said
    why = f": {offer.canary_fallen_reason}" if offer.canary_fallen_reason else ""
    return f"{said}, fallen back since {tell_time(offer.canary_fallen_at)}{why}"
