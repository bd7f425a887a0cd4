"""Orders that this process turned away because nobody could take them, until they are in the database.

They leave no row of their own, so they are counted here and added to their hours every few seconds. What was counted
since is lost with a process that crashes.
"""

from __future__ import annotations

import logging
import time

from django.db import Error as AnyDatabaseError

from crazyrouter.generation.journal.refusals import Refused, add_turned_away
from crazyrouter.generation.lane import Lane
from crazyrouter.generation.order import Order
from crazyrouter.generation.outcomes import OrderRefused

logger = logging.getLogger(__name__)


class Refusals:
    """The counts of one process. All methods run on its event loop."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._refused = Refused()

    def note(self, order: Order, error: BaseException) -> None:
        """Why an order was not opened: counted unless it is the customer's own affair, like money or a limit."""
        if isinstance(error, OrderRefused) and error.verdict is None:
            self._refused[int(time.time()) // 3600, order.model_id] += 1

    async def flush(self) -> None:
        """Write what was counted; what could not be written is kept for the next time. Raises LaneClosed."""
        if not self._refused:
            return
        # Whoever cancels this leaves the write in the lane: it is no longer ours.
        refused, self._refused = self._refused, Refused()
        try:
            await self._lane.write(add_turned_away, refused)
        except AnyDatabaseError:
            self._refused.update(refused)
            logger.exception("orders that were turned away could not be counted yet")
