"""Celery's beat, which does not ring on and on while nobody is there to hear it.

A message that has expired is thrown away by the worker that finds it, not by the broker. A filesystem broker keeps
each as a file and lists the folder for every message it takes: a day without a worker would be 17,000 of them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from typing import Any

from celery.beat import PersistentScheduler

#: As many messages may wait in a broker's folder before bells are left out.
MOST_UNHEARD = 50
#: What expires this soon is a bell: another follows.
LONGEST_BELL_S = 60.0


class Beat(PersistentScheduler):
    """Leaves out bells while many messages wait."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        if not (is_bell(entry.options) and is_unheard(self.app.conf.broker_transport_options)):
            super().apply_entry(entry, producer=producer)


def is_bell(options: dict[str, Any]) -> bool:
    return options.get("expires", LONGEST_BELL_S + 1) <= LONGEST_BELL_S


def is_unheard(broker: dict[str, Any] | None) -> bool:
    """Whether many messages wait; no other broker than that of files shows them this cheaply, or minds them as much."""
    folder = (broker or {}).get("data_folder_out")
    if folder is None:
        return False
    with suppress(FileNotFoundError), os.scandir(folder) as files:
        return sum(1 for _ in islice(files, MOST_UNHEARD)) == MOST_UNHEARD
    return False
