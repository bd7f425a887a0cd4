"""Everything that one running simulator remembers. It lives in one event loop; nothing here is locked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from providers.simulator.bill import Bill
from providers.simulator.clock import Clock
from providers.simulator.errors import Refusal
from providers.simulator.faults import STAGE_OF, Endpoint, Stage, Struck
from providers.simulator.limits import Limiter
from providers.simulator.links import Shelf
from providers.simulator.outages import Outages
from providers.simulator.rules import Facts, Rule, strike
from providers.simulator.scenario import Scenario
from providers.simulator.studio import Studio
from providers.simulator.traffic import Kind, Traffic
from providers.simulator.wire import Request

if TYPE_CHECKING:
    from providers.simulator.tasks import Task


class State:
    """The scenario in force and what has happened under it. `public_base_url` is where others reach it."""

    def __init__(self, scenario: Scenario, *, public_base_url: str) -> None:
        self.scenario = scenario
        self.public_base_url = public_base_url.rstrip("/")
        self.clock = Clock()
        self.bill = Bill(self.clock)
        self.shelf = Shelf(self.clock, public_base_url=self.public_base_url)
        self.studio = Studio()
        self._forget()

    def _forget(self) -> None:
        self.limiter = Limiter()
        self.traffic = Traffic()
        self.outages = Outages()
        #: By id, oldest first; and those of an account that had not ended when it last ordered one.
        self.tasks: dict[str, Task] = {}
        self.open_tasks: defaultdict[str, list[Task]] = defaultdict(list)

    def reset(self) -> None:
        """Forget bill, rules, outages, tasks, pictures, limits in use, and moved time; the scenario stays."""
        self.clock.reset()
        self.bill.reset()
        self.shelf.clear()
        self.scenario.rules.clear()
        self._forget()

    def reset_bill(self) -> None:
        """A new bill, with new counts of what was throttled."""
        self.bill.reset()
        self.traffic = Traffic()

    def strike(self, facts: Facts, directives: Iterable[Rule] = ()) -> Struck:
        """What goes wrong with this call: an outage, or what it asked for itself before the scenario's rules."""
        return self.outages.strike(facts, now=self.clock.now()) or strike(facts, directives, self.scenario.rules)

    def authenticate(self, request: Request) -> str:
        """The account of a DashScope key. Raises Refusal; a key of another region is unknown here too."""
        account = self.scenario.find_account(request.key) if request.scheme == "bearer" else None
        if account is None:
            raise Refusal("InvalidApiKey")
        return account

    def admit_submit(self, *, account: str, model: str) -> None:
        """Raises Refusal, and counts it."""
        limits = self.scenario.get_limits(account)
        try:
            self.limiter.admit_submit(limits, account=account, model=model, now=self.clock.now())
        except Refusal:
            self.traffic.note_throttled(account=account, kind=Kind.SUBMITS)
            raise

    def admit_query(self, *, account: str, endpoint: Endpoint) -> None:
        """Count a query. Raises Refusal, and counts that, too."""
        now = self.clock.now()
        if STAGE_OF[endpoint] in {Stage.POLL, Stage.RESULT}:
            self.traffic.note_query(account=account, now=now)
        try:
            self.limiter.admit_query(self.scenario.get_limits(account), account=account, what=endpoint, now=now)
        except Refusal:
            self.traffic.note_throttled(account=account, kind=Kind.QUERIES)
            raise
