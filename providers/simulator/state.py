"""Everything that one running simulator remembers. It lives in one event loop; nothing here is locked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from providers.simulator.bill import Bill
from providers.simulator.clock import Clock
from providers.simulator.errors import Refusal
from providers.simulator.faults import Struck
from providers.simulator.limits import Limiter
from providers.simulator.links import Shelf
from providers.simulator.rules import Facts, Rule, strike
from providers.simulator.scenario import Scenario
from providers.simulator.studio import Studio

if TYPE_CHECKING:
    from providers.simulator.tasks import Task


class State:
    """The scenario in force and what has happened under it."""

    def __init__(self, scenario: Scenario, *, public_base_url: str) -> None:
        self.scenario = scenario
        self.clock = Clock()
        self.bill = Bill(self.clock)
        self.limiter = Limiter()
        self.shelf = Shelf(self.clock, public_base_url=public_base_url)
        self.studio = Studio()
        #: By id, oldest first.
        self.tasks: dict[str, Task] = {}

    def reset(self) -> None:
        """Forget bill, rules, tasks, pictures, limits in use, and moved time; the scenario stays."""
        self.clock.reset()
        self.bill.reset()
        self.limiter = Limiter()
        self.shelf.clear()
        self.tasks.clear()
        self.scenario.rules.clear()

    def strike(self, facts: Facts, directives: Iterable[Rule] = ()) -> Struck:
        """What goes wrong with this call: what it asked for itself comes before the scenario's rules."""
        return strike(facts, directives, self.scenario.rules)

    def authenticate(self, key: str) -> str:
        """The account of a DashScope key. Raises Refusal; a key of another region is unknown here too."""
        account = self.scenario.find_account(key)
        if account is None:
            raise Refusal("InvalidApiKey")
        return account
