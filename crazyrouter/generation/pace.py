"""When to look at a task that runs: how long those of its offer take says when looking is worth it. Pure; seconds.

Nothing is asked before a task may plausibly be ready; around its expected end looks are dense; one that takes longer
than it should is asked ever more rarely, up to a limit.
"""

from __future__ import annotations

from dataclasses import dataclass

#: No look comes sooner after another, whatever the adapter says.
SHORTEST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 15.0
#: What is known of an offer may be wrong: the first look waits no longer.
LONGEST_FIRST_PAUSE_S = 60.0
#: Between looks at a task that takes longer than expected, or of which nothing is known, its time grows by this share.
GROWTH = 0.25
#: The spread that one single time says, and the least that is believed, as shares of the typical time.
FIRST_SPREAD = 0.25
LEAST_SPREAD = 0.05
#: Of the spread; looks are this far apart around the expected end.
DENSITY = 0.25
#: Weights of the newest time in the mean and in the spread, once there are enough of them (RFC 6298).
MEAN_GAIN = 1 / 8
SPREAD_GAIN = 1 / 4
#: A single time counts as no more than so many typical ones.
LARGEST_SURPRISE = 4.0


@dataclass(slots=True)
class Pace:
    """How long the tasks of one offer take. `typical` 0: nothing is known."""

    typical: float = 0.0
    spread: float = 0.0
    seen: int = 0

    def learn(self, *, after: float, by: float) -> None:
        """A task has ended between these two ages. Where nobody looked before, half of its time counts as sure."""
        took = (max(after, by / 2) + by) / 2
        if not self.typical:
            self.assume(took)
            return
        took = min(took, self.typical * LARGEST_SURPRISE)
        share = 1 / (self.seen + 1)
        self.spread += (abs(took - self.typical) - self.spread) * max(SPREAD_GAIN, share)
        self.typical += (took - self.typical) * max(MEAN_GAIN, share)
        self.seen += 1

    def assume(self, took: float) -> None:
        """The only time that is known."""
        self.typical, self.spread, self.seen = took, took * FIRST_SPREAD, 1

    def choose_first(self, age: float, *, floor: float) -> float:
        """The pause before the first look at a task of this age: `floor` where it may be ready already."""
        return max(floor, min(self._find_early() - age, LONGEST_FIRST_PAUSE_S))

    def choose_pause(self, age: float, *, floor: float) -> float:
        """The pause before the next look at a task that was seen running at this age."""
        if not self.typical:
            wanted = age * GROWTH
        else:
            late = self.typical + 2 * self._get_spread()
            wanted = max(self._get_spread() * DENSITY, self._find_early() - age, (age - late) * GROWTH)
        return max(floor, min(wanted, LONGEST_PAUSE_S))

    def _find_early(self) -> float:
        return self.typical - 2 * self._get_spread()

    def _get_spread(self) -> float:
        return max(self.spread, self.typical * LEAST_SPREAD)
