"""What this process knows of the health of offers."""

from __future__ import annotations

from typing import Any

from providers.health import Report


class Wellbeing:
    def __init__(self, *, lane: Any, reader: Any, snapshot: Any, transport: Any, owner: str) -> None:
        self.cooling: dict[int, float] = {}

    def note(self, report: Report) -> None:
        pass

    async def close(self) -> None:
        pass
