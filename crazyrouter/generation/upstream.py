"""One upstream call from submit to stored pictures, without the database: what came of it is a `CallResult`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson
from django.conf import settings
from django.db import Error as AnyDatabaseError

from crazyrouter.files.errors import PictureRefused, StorageUnavailable
from crazyrouter.files.pictures import MAX_BYTES
from crazyrouter.files.store import StoredPicture, store_picture
from crazyrouter.generation.anonymity import keep_revised_prompt
from crazyrouter.generation.lane import LaneClosed
from crazyrouter.generation.models import Attempt
from crazyrouter.generation.order import Call, CallResult, Failure, Order
from crazyrouter.generation.outcomes import STORAGE_CODE, LeaseLost
from crazyrouter.generation.polling import Poller, PollSubject
from providers import credentials
from providers.adapters import get_adapter_class
from providers.contract import Adapter, Billed, Code, Done, Pending, ProviderError, RemoteImage, Scope
from providers.credentials import CredentialUnreadable
from providers.routing import Route
from providers.transport import FetchFailed, Transport

logger = logging.getLogger(__name__)

#: One download, in seconds; a failed one is tried again.
FETCH_TIMEOUT_S = 60.0
#: Even past the deadline a finished picture is worth this long: the upstream charges for it.
LEAST_FETCH_BUDGET_S = 60.0
FETCH_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)

OnAccepted = Callable[[Pending], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Upstream:
    """How carriers are reached: the transport, the poller, and the newest ciphertext of a channel's credential by its
    id."""

    transport: Transport
    poller: Poller
    find_credential: Callable[[int], Awaitable[str | None]]


@lru_cache(maxsize=256)
def make_adapter(transport: Transport, kind: str, ciphertext: str, base_url: str, options: str) -> Adapter:
    """One adapter a channel and credential; opening the secret costs more than building a request."""
    return get_adapter_class(kind)(
        transport,
        credential=credentials.decrypt(ciphertext),
        base_url=base_url,
        options=orjson.loads(options),
    )


async def make_call(
    upstream: Upstream, order: Order, call: Call, *, deadline: float, on_accepted: OnAccepted
) -> CallResult:
    """Submit, poll to the end, fetch and store. Never raises for what an upstream or our disk did.

    `deadline` is in `time.monotonic()` seconds. `on_accepted` makes a task id durable before the first poll, and may
    raise LeaseLost. A call that was accepted before is only polled.
    """
    accepted = call.accepted is not None

    async def note_acceptance(pending: Pending) -> None:
        nonlocal accepted
        accepted = True
        await on_accepted(pending)

    try:
        done = await order_images(upstream, order, call, note_acceptance)
        return await collect(upstream.transport, order, call, done, deadline=deadline)
    except ProviderError as error:
        return CallResult(call.number, name_end(error, accepted=accepted), failures=(describe(error),))
    except (AnyDatabaseError, LaneClosed, LeaseLost):
        raise
    except Exception as error:
        # A fault of an adapter or of ours must not leave the money held: what was sent is not known.
        logger.exception("call %s of %s broke", call.number, order.id)
        broken = Failure(Code.BAD_RESPONSE, Billed.UNKNOWN, Scope.OFFER, f"internal: {type(error).__name__}")
        return CallResult(call.number, Attempt.State.UNKNOWN, failures=(broken,))


def name_end(error: ProviderError, *, accepted: bool) -> str:
    """The attempt's last state: what is not known to be free is never called rejected."""
    if error.billed is Billed.UNKNOWN:
        return Attempt.State.UNKNOWN
    if error.billed is Billed.YES or accepted:
        return Attempt.State.FAILED
    return Attempt.State.REJECTED


def describe(error: ProviderError) -> Failure:
    return Failure(
        error.code, error.billed, error.scope, error.detail, error.upstream_id, retry_after_s=error.retry_after
    )


async def order_images(upstream: Upstream, order: Order, call: Call, on_accepted: OnAccepted) -> Done:
    """The carrier's pictures. Raises ProviderError, also when its time horizon passes without an answer."""
    route = call.route
    adapter = open_adapter(upstream, call, route.ciphertext)
    if call.accepted is not None:
        return await poll_to_end(upstream, call, adapter, call.accepted, until=time.monotonic() + call.patience_s)
    started = time.monotonic()
    try:
        async with asyncio.timeout(settings.SYNC_HORIZON_S):
            answer = await adapter.submit(order.make_job(route, len(call.slots)))
    except TimeoutError:
        raise ProviderError(Code.TIMEOUT, billed=Billed.UNKNOWN, scope=Scope.OFFER, detail="no answer") from None
    if isinstance(answer, Done):
        return answer
    await on_accepted(answer)
    return await poll_to_end(upstream, call, adapter, answer, until=started + settings.ASYNC_HORIZON_S)


def open_adapter(upstream: Upstream, call: Call, ciphertext: str) -> Adapter:
    """Raises ProviderError where the channel cannot be used as it is set up; a task it took may still be billed."""
    route = call.route
    try:
        return make_adapter(upstream.transport, route.kind, ciphertext, route.base_url, route.options)
    except (CredentialUnreadable, LookupError, ValueError) as error:
        detail = f"the channel cannot be used as it is configured: {error}"
        billed = Billed.NO if call.accepted is None else Billed.UNKNOWN
        # Not AUTH: a process with keys of its own that are wrong would take every channel out of service.
        raise ProviderError(Code.UNREACHABLE, billed=billed, scope=Scope.CHANNEL, detail=detail) from error


async def poll_to_end(upstream: Upstream, call: Call, adapter: Adapter, task: Pending, *, until: float) -> Done:
    """Ask until the task is over, when the process's poller says so."""
    route = call.route
    age_s = 0.0 if call.accepted is None else max(0.0, settings.ASYNC_HORIZON_S - call.patience_s)
    return await upstream.poller.poll_to_end(
        adapter,
        task,
        subject=PollSubject(route.account_id, route.polls_per_s, route.offer_id, route.latency_ms, age_s),
        until=until,
        renew=lambda refused: renew_adapter(upstream, call, refused),
    )


async def renew_adapter(upstream: Upstream, call: Call, adapter: Adapter) -> Adapter:
    """One credential is refused: the newest of the upstream account; where that is refused, the task's own again."""
    newest = await upstream.find_credential(call.route.channel_id)
    if newest is None or newest == call.route.ciphertext:
        return adapter
    try:
        renewed = open_adapter(upstream, call, newest)
        return open_adapter(upstream, call, call.route.ciphertext) if renewed is adapter else renewed
    except ProviderError:
        return adapter


async def collect(transport: Transport, order: Order, call: Call, done: Done, *, deadline: float) -> CallResult:
    """Fetch and store each picture that came back; more than was asked for are not ours to sell."""
    pairs = list(zip(call.slots, done.images, strict=False))
    source = call.route.base_url
    jobs = [bring_in(transport, order, slot, image, source=source, deadline=deadline) for slot, image in pairs]
    ends: Sequence[StoredPicture | Failure] = [await jobs[0]] if len(jobs) == 1 else await asyncio.gather(*jobs)
    pictures = tuple(end for end in ends if isinstance(end, StoredPicture))
    failures = [end for end in ends if isinstance(end, Failure)] + list_missing(call.slots[len(pairs) :], done)
    return CallResult(
        number=call.number,
        state=Attempt.State.SUCCEEDED if pictures else Attempt.State.FAILED,
        pictures=pictures,
        failures=tuple(failures),
        upstream_id=done.upstream_id,
        revised_prompts=read_rewrites(call.route, pairs, {picture.slot for picture in pictures}),
    )


def list_missing(slots: tuple[int, ...], done: Done) -> list[Failure]:
    """A failure for each slot without a picture: first the carrier's reasons, then those that it says nothing of.

    A picture that did not come was not charged where the carrier counts exactly those that did.
    """
    refused = [replace(describe(error), slots=(slot,)) for error, slot in zip(done.refused, slots, strict=False)]
    counted = done.usage.get("image_count") == len(done.images)
    silent = Failure(
        Code.BAD_RESPONSE, Billed.NO if counted else Billed.UNKNOWN, Scope.OFFER, "fewer pictures came back than asked"
    )
    return refused + [replace(silent, slots=(slot,)) for slot in slots[len(refused) :]]


def read_rewrites(route: Route, pairs: Sequence[tuple[int, RemoteImage]], delivered: set[int]) -> dict[int, str]:
    """Rewritten prompts of delivered pictures, where the adapter vouches for them and they name no carrier."""
    if not get_adapter_class(route.kind).faithful_rewrite:
        return {}
    texts = {slot: keep_revised_prompt(image.revised_prompt, route) for slot, image in pairs if slot in delivered}
    return {slot: text for slot, text in texts.items() if text}


async def bring_in(
    transport: Transport, order: Order, slot: int, image: RemoteImage, *, source: str, deadline: float
) -> StoredPicture | Failure:
    """One picture from the carrier into our store. What fails here the upstream has charged for."""
    try:
        raw: bytes | str | None = image.b64
        if raw is None:
            raw = await fetch(transport, image.url or "", source=source, deadline=deadline)
        return await store_picture(raw, asked=order.render_size, target=order.size, generation_id=order.id, slot=slot)
    except FetchFailed as error:
        return Failure(Code.BAD_RESPONSE, Billed.YES, Scope.OFFER, f"not downloaded: {error}", slots=(slot,))
    except PictureRefused as error:
        return Failure(Code.BAD_RESPONSE, Billed.YES, Scope.OFFER, str(error), slots=(slot,))
    except StorageUnavailable as error:
        return Failure(STORAGE_CODE, Billed.YES, Scope.CHANNEL, str(error), slots=(slot,))


async def fetch(transport: Transport, url: str, *, source: str, deadline: float) -> bytes:
    """Download, again after failures while there is time: a repeated download orders nothing.

    `source` is the base URL of the carrier that named it.
    """
    until = max(deadline, time.monotonic() + LEAST_FETCH_BUDGET_S)
    for pause in (*FETCH_PAUSES, None):
        left = until - time.monotonic()
        try:
            timeout = min(FETCH_TIMEOUT_S, max(left, 1.0))
            return await transport.fetch(url, max_bytes=MAX_BYTES, timeout=timeout, source=source)
        except FetchFailed as error:
            if error.permanent or pause is None or left <= pause:
                raise
            await asyncio.sleep(pause)
    raise AssertionError("unreachable: the last pause is None")
