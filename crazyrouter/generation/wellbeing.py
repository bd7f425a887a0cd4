"""What one process knows of the health of offers, and its part in finding out: reports written, probes made.

A call's end costs a request nothing here: reports are collected, failures written at once, successes once a second, as
one write of the lane. A cool-down that this process has met holds from that moment; once it is in its row, that is
where every process reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType
from typing import Any

from django.db import Error as AnyDatabaseError
from django.db import InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from crazyrouter.generation.lane import Lane, LaneClosed
from crazyrouter.generation.snapshot import Reader, Snapshot
from crazyrouter.generation.upstream import make_adapter
from providers.adapters import get_adapter_class
from providers.contract import Billed, Code, ProviderError, Scope
from providers.credentials import CredentialUnreadable
from providers.health import (
    Effect,
    Probed,
    Report,
    Target,
    choose_cooling_s,
    claim_probes,
    find_due,
    find_effect,
    finish_probes,
    load_targets,
    record_reports,
)
from providers.health.circuits import MOST_CALLS
from providers.transport import Transport

logger = logging.getLogger(__name__)

#: How long a success may wait to be written with others.
WRITE_EVERY_S = 1.0
#: Before what could not be written is tried again: a row that is written elsewhere, a database that is away.
SKIPPED_PAUSE_S = 0.05
AWAY_PAUSE_S = 1.0
#: Longer than a failure takes to its row and from there into the snapshot: then the row says it, or that it was reset.
BRIDGE_S = 5.0
#: How often circuits are looked at whose pause may be over.
LOOK_EVERY_S = 2.0
#: Below the time after which another process may make the same probe.
PROBE_TIMEOUT_S = 20.0
#: Answers to a free call by which the carrier is there and knows our key; what is missing may be the free call itself.
#: Whether pictures can be had again is for the real call to find out.
ANSWERED = frozenset({Code.NOT_AVAILABLE, Code.BAD_REQUEST, Code.CONTENT_POLICY, Code.RATE_LIMITED})


class Wellbeing:
    """One a process, on its event loop. `owner` names the process."""

    def __init__(self, *, lane: Lane, reader: Reader, snapshot: Snapshot, transport: Transport, owner: str) -> None:
        self._lane = lane
        self._reader = reader
        self._snapshot = snapshot
        self._transport = transport
        self._owner = owner
        self._cooling: dict[int, float] = {}
        self._pending: dict[tuple[int, bool], deque[tuple[Report, float]]] = {}
        self._noted = asyncio.Event()
        self._urgent = asyncio.Event()
        self._chores = [
            asyncio.create_task(self._repeat(self._write_next)),
            asyncio.create_task(self._repeat(self._probe_next)),
        ]

    @property
    def cooling(self) -> Mapping[int, float]:
        """Offer id -> epoch seconds until which it cools down, for what no row may say yet. It changes as that does."""
        return MappingProxyType(self._cooling)

    def note(self, report: Report) -> None:
        """A call has ended. Nothing is waited for."""
        if report.effect is Effect.COOL:
            self._cool(report)
        if report.is_written:
            self._put_back([(report, time.monotonic())])
            if not report.ok or report.trial:
                self._urgent.set()

    async def close(self) -> None:
        """Write what is left, and probe no more."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        try:
            await self._write()
        except (AnyDatabaseError, LaneClosed):
            logger.exception("what the last calls said of their offers is lost")

    def _cool(self, report: Report) -> None:
        until = time.time() + choose_cooling_s(report.retry_after_s)
        until = self._cooling[report.offer_id] = max(until, self._cooling.get(report.offer_id, 0.0))
        asyncio.get_running_loop().call_later(BRIDGE_S, self._leave_to_row, report.offer_id, until)

    def _leave_to_row(self, offer_id: int, until: float) -> None:
        if self._cooling.get(offer_id) == until:
            del self._cooling[offer_id]

    async def _repeat(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Until cancelled, whatever one round meets."""
        while True:
            try:
                await chore()
            except LaneClosed:
                return
            except Exception:
                logger.exception("%s is tried again", chore.__name__)
                await asyncio.sleep(AWAY_PAUSE_S)

    # --- reports ---

    async def _write_next(self) -> None:
        await self._noted.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WRITE_EVERY_S):
                await self._urgent.wait()
        urgent = self._urgent.is_set()
        left = await self._write()
        if urgent:
            # Whoever asks next here sees what these calls changed, unless the view is younger than a second anyway.
            await self._snapshot.get()
        if left:
            # Not in step with the process that was writing the row.
            await asyncio.sleep(SKIPPED_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            self._urgent.set()

    async def _write(self) -> int:
        """One write for all that is pending; how many of its reports are left for the next."""
        taken = [entry for entries in self._pending.values() for entry in entries]
        self._pending.clear()
        self._noted.clear()
        self._urgent.clear()
        if not taken:
            return 0
        now = time.monotonic()
        reports = tuple(replace(report, age_s=now - noted_at) for report, noted_at in taken)
        try:
            written: list[bool] = await self._lane.write(record_batches, reports)
        except (OperationalError, InterfaceError):
            self._put_back(taken)
            raise
        skipped = [entry for entry, done in zip(taken, written, strict=True) if not done]
        self._put_back(skipped)
        return len(skipped)

    def _put_back(self, entries: Sequence[tuple[Report, float]]) -> None:
        """More than a window holds of an offer are not kept; failures and successes do not crowd each other out."""
        for entry in entries:
            queue = self._pending.setdefault((entry[0].offer_id, entry[0].ok), deque(maxlen=MOST_CALLS))
            queue.append(entry)
            self._noted.set()

    # --- probes ---

    async def _probe_next(self) -> None:
        await asyncio.sleep(LOOK_EVERY_S)
        await self.probe_due()

    async def probe_due(self) -> int:
        """Claim circuits whose pause is over, and make the free call of each channel; how many circuits."""
        if not await self._reader.read(find_due):
            return 0
        claimed: tuple[int, ...] = await self._lane.write(claim_probes, self._owner)
        if claimed:
            targets = await self._reader.read(load_targets, claimed)
            channels = [list(group) for _, group in groupby(targets, key=lambda target: target.channel_id)]
            await asyncio.gather(*[self._probe(group) for group in channels])
        return len(claimed)

    async def _probe(self, targets: Sequence[Target]) -> None:
        """One free call for all offers of a channel."""
        error = await call_free(self._transport, targets[0])
        ok = error is None or error.code in ANSWERED
        if error is not None:
            logger.warning("a probe of channel %d failed: %s", targets[0].channel_id, error)
            if not ok and find_effect(error.code, error.scope, error.billed) is Effect.DISABLE_CHANNEL:
                self.note(describe_probe(targets[0], error))
        detail = f"{error.code}: {error.detail}" if error else ""
        probed = [Probed(target.offer_id, self._owner, ok, detail) for target in targets]
        await asyncio.gather(*[self._lane.write(finish_probes, one) for one in probed])


def record_batches(connection: BaseDatabaseWrapper, items: Sequence[Sequence[Report]]) -> list[list[bool]]:
    """`record_reports`, for many reports in one write of the lane."""
    verdicts = iter(record_reports(connection, [report for item in items for report in item]))
    return [[next(verdicts) for _ in item] for item in items]


async def call_free(transport: Transport, target: Target) -> ProviderError | None:
    """Make the carrier's free call. None where it went well, or there is none."""
    try:
        if not get_adapter_class(target.kind).free_probe:
            return None
        adapter = make_adapter(transport, target.kind, target.ciphertext, target.base_url, target.options)
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await adapter.probe()
    except ProviderError as error:
        return error
    except TimeoutError:
        return ProviderError(Code.TIMEOUT, billed=Billed.NO, scope=Scope.CHANNEL, detail="no answer")
    except (CredentialUnreadable, LookupError, ValueError) as error:
        detail = f"the channel cannot be used as it is configured: {error}"
        return ProviderError(Code.BAD_RESPONSE, billed=Billed.NO, scope=Scope.CHANNEL, detail=detail)
    except Exception as error:
        # A fault of an adapter: without an end of its probe the circuit would be probed for ever.
        logger.exception("the probe of offer %d broke", target.offer_id)
        detail = f"internal: {type(error).__name__}"
        return ProviderError(Code.BAD_RESPONSE, billed=Billed.NO, scope=Scope.CHANNEL, detail=detail)
    return None


def describe_probe(target: Target, error: ProviderError) -> Report:
    """What a free call was told, as if an order had been."""
    return Report(
        offer_id=target.offer_id,
        channel_id=target.channel_id,
        credential_id=target.credential_id,
        ok=False,
        code=error.code,
        scope=error.scope,
        billed=error.billed,
        detail=error.detail,
    )
