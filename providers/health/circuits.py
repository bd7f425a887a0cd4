"""The rules of one offer's health: plain Python over one row. Times are epoch seconds by the database's clock.

closed -> open          too many recent calls failed
open -> half-open       its pause is over, and one process probes it (see `probes`)
half-open -> closed     one real call went well
half-open -> open       the probe or that call failed: the pause is doubled

A call speaks for a circuit only if it began after the circuit's last change: what was under way when an upstream broke
down ends much later, and says nothing about how it does since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from providers.contract import Code
from providers.models import OfferHealth

#: The window: so many calls, not older than so many seconds.
MOST_CALLS = 50
LONGEST_AGE_S = 600.0
#: Half of the calls of a minute is an outage if there were at least so many; fewer may be chance.
LEAST_CALLS = 5
MINUTE_S = 60.0
#: Where calls are rare a minute never holds enough of them; so many failures in a row are an outage at any pace.
FAILED_IN_A_ROW = 5
#: A connection that never stood is the plainest sign there is, and each costs a customer up to ten seconds.
UNREACHABLE_IN_A_ROW = 3
#: How long a circuit stays open before its first probe, and at most: upstreams restart in less than a minute, and one
#: that is down for hours is asked six times in each of them.
FIRST_PAUSE_S = 30
LONGEST_PAUSE_S = 600
#: Throttled without being told for how long. Rate quotas of carriers are per minute, burst limits over in seconds:
#: ten seconds, doubled while it goes on, up to the minute after which every such quota is fresh.
COOLING_S = 10.0
LONGEST_COOLING_S = 60.0
#: More than a carrier can mean by Retry-After for one model.
LONGEST_RETRY_AFTER_S = 600.0
#: The weight of the latest call in the mean of those that succeed is one in this.
MEAN_OVER = 5
#: Before a canary is judged by its bounds; with fewer, one bad call would be ten percent and more.
CANARY_LEAST_CALLS = 10

CLOSED, OPEN, HALF_OPEN = OfferHealth.Circuit.CLOSED, OfferHealth.Circuit.OPEN, OfferHealth.Circuit.HALF_OPEN


class Seen(NamedTuple):
    """One call of the window, as the row keeps it: when it ended, 1 or 0, how long it took, why it failed."""

    at: float
    ok: int
    ms: int
    code: str

    @property
    def began_at(self) -> float:
        return self.at - self.ms / 1000


@dataclass(slots=True)
class Pulse:
    """The health row of one offer while its lock is held. `moved`, `cooled` and `freed` say what is to be written."""

    offer_id: int
    circuit: str = CLOSED
    reason: str = ""
    changed_at: float | None = None
    pause_s: int = 0
    cooling_until: float = 0.0
    cooling_reason: str = ""
    recent: list[Seen] = field(default_factory=list)
    latency_ms: int = 0
    probe_owner: str = ""
    moved: bool = False
    cooled: bool = False
    #: Whoever had the one trial learned nothing by it: the next call may have it.
    freed: bool = False

    def note_success(self, seen: Seen, *, on_trial: bool = False) -> None:
        self._remember(seen)
        if seen.ms:
            self.latency_ms += round((seen.ms - self.latency_ms) / (MEAN_OVER if self.latency_ms else 1))
        if self.circuit == HALF_OPEN and (on_trial or self._concerns(seen)):
            self._move(CLOSED, "a call succeeded", pause_s=0)

    def note_fault(self, seen: Seen, detail: str = "", *, on_trial: bool = False) -> None:
        self._remember(seen)
        if not on_trial and not self._concerns(seen):
            return
        if self.circuit == HALF_OPEN:
            self._move(OPEN, quote("the one call that tried it failed", seen, detail), double_pause(self.pause_s))
        elif self.circuit == CLOSED and (why := find_outage(self._list_concerned(), now=seen.at)):
            self._move(OPEN, quote(why, seen, detail), FIRST_PAUSE_S)

    def note_throttle(self, seen: Seen, detail: str = "", *, retry_after_s: float | None = None) -> None:
        """Several that arrive in the same cool-down are one burst, and remembered as one."""
        cooling = self.cooling_until > seen.at
        if cooling and retry_after_s is None:
            return
        until = seen.at + choose_cooling_s(retry_after_s, repeats=count_throttles(self.recent))
        if not cooling:
            self._remember(seen)
        if until > self.cooling_until:
            self.cooling_until, self.cooling_reason, self.cooled = until, quote("throttled", seen, detail), True

    def free_trial(self, generation_id: str) -> None:
        """A call of this generation ended without a word about the upstream."""
        if self.circuit == HALF_OPEN and generation_id and generation_id in self.probe_owner:
            self.freed = True

    def _remember(self, seen: Seen) -> None:
        self.recent = sorted([*self.recent, seen])[-MOST_CALLS:]
        self.recent = [one for one in self.recent if one.at > seen.at - LONGEST_AGE_S]

    def _concerns(self, seen: Seen) -> bool:
        return self.changed_at is None or seen.began_at >= self.changed_at

    def _list_concerned(self) -> list[Seen]:
        return [one for one in self.recent if is_telling(one) and self._concerns(one)]

    def _move(self, circuit: str, reason: str, pause_s: int) -> None:
        self.circuit, self.reason, self.pause_s, self.moved = circuit, reason[:300], pause_s, True


def is_telling(seen: Seen) -> bool:
    """Whether a call says how well the upstream works: being throttled is no fault."""
    return seen.code != Code.RATE_LIMITED


def find_outage(calls: Sequence[Seen], *, now: float) -> str:
    """Why a closed circuit opens now; empty where it stays closed. `calls` are oldest first."""
    if len(calls) >= UNREACHABLE_IN_A_ROW and all(
        call.code == Code.UNREACHABLE for call in calls[-UNREACHABLE_IN_A_ROW:]
    ):
        return f"{UNREACHABLE_IN_A_ROW} calls in a row did not reach it"
    if len(calls) >= FAILED_IN_A_ROW and not any(call.ok for call in calls[-FAILED_IN_A_ROW:]):
        return f"{FAILED_IN_A_ROW} calls in a row failed"
    lately = [call for call in calls if call.at > now - MINUTE_S]
    failed = sum(not call.ok for call in lately)
    if len(lately) >= LEAST_CALLS and failed * 2 >= len(lately):
        return f"{failed} of {len(lately)} calls failed within a minute"
    return ""


def double_pause(pause_s: int) -> int:
    return max(FIRST_PAUSE_S, min(LONGEST_PAUSE_S, pause_s * 2))


def choose_cooling_s(retry_after_s: float | None, *, repeats: int = 0) -> float:
    """How long a throttled offer rests: what the carrier said, else longer with each cool-down in a row."""
    if retry_after_s is not None:
        return min(max(retry_after_s, 1.0), LONGEST_RETRY_AFTER_S)
    return min(COOLING_S * 2 ** min(repeats, 10), LONGEST_COOLING_S)


def count_throttles(calls: Sequence[Seen]) -> int:
    """Cool-downs since the last call that went well."""
    count = 0
    for call in reversed(calls):
        if call.ok:
            break
        count += call.code == Code.RATE_LIMITED
    return count


def judge_canary(calls: Sequence[Seen], *, min_success: int | None, max_latency_s: int | None) -> str:
    """Why a canary falls back; empty where it stays. Its latency is the mean of calls that succeeded."""
    calls = [call for call in calls if is_telling(call)]
    if len(calls) < CANARY_LEAST_CALLS:
        return ""
    good = [call.ms for call in calls if call.ok]
    if min_success is not None and len(good) * 100 < min_success * len(calls):
        return f"{len(good)} of its latest {len(calls)} calls succeeded: fewer than {min_success} %"
    if max_latency_s is not None and good and sum(good) > max_latency_s * 1000 * len(good):
        return f"its latest {len(good)} good calls took {sum(good) / len(good) / 1000:.1f} s: more than {max_latency_s}"
    return ""


def quote(what: str, seen: Seen, detail: str) -> str:
    """An operator's line; `detail` is the carrier's wording, redacted by the adapter."""
    return f"{what}: {seen.code}: {detail}"[:300] if detail else f"{what}: {seen.code}"
