"""The outcome table: what can happen to a request, what is answered, who pays, what becomes of its key, what follows.

One table decides and tells: `judge` finds the row of an ended generation, `judge_failure` that of a failed call,
the engine does what its row says, the API answers as its row says, and the public page shows the very rows. Nothing
of it stands in an `if` somewhere else.

    OrderRefused    nothing was opened, nothing written
    KeyTaken        nothing was opened: another request opened the generation of this Idempotency-Key first
    LeaseLost       another process drives this generation now; this one writes nothing more
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from billing.ledger import Verdict
from crazyrouter.generation.order import CallResult, Failure
from providers.contract import Billed, Code, Scope

#: Ours, not a carrier's: the picture came, and our own disk refused it.
STORAGE_CODE = "storage_unavailable"
#: Nobody took the order: channels that cannot be reached or used at all.
NOBODY_THERE = frozenset({Code.AUTH, Code.ARREARS, Code.NOT_AVAILABLE, Code.UNREACHABLE})


class OrderRefused(Exception):
    """The ledger's verdict says what was in the way. Without one, nobody could serve it: in time, where
    `retry_after_s` says when somebody could, and otherwise at all."""

    def __init__(self, verdict: Verdict | None, *, retry_after_s: int | None = None) -> None:
        super().__init__(verdict)
        self.verdict = verdict
        self.retry_after_s = retry_after_s


class KeyTaken(Exception):
    """Look it up: it is there now."""


class LeaseLost(Exception):
    """The row is no longer ours."""


class Pays(StrEnum):
    """What the customer pays; the words stand in the public documentation."""

    NOTHING = "nothing"
    DELIVERED = "the images delivered"
    LATER = "the images, if they end up stored"
    STORED = "exactly the images stored"
    ONCE = "once"
    AS_USUAL = "as if the client had stayed"
    NOTHING_FOR_IT = "nothing for it"


class Key(StrEnum):
    """What becomes of an Idempotency-Key."""

    NOT_TAKEN = "not taken"
    KEPT = "kept"
    FREED = "freed"
    UNDECIDED = "undecided"


class Next(StrEnum):
    """What follows."""

    END = "nothing more is tried"
    NEXT_CANDIDATE = "the next channel is asked while time remains"
    RETRY_IF_ALLOWED = "not ordered again, unless the channel is set to allow it"
    KEEP_RUNNING = "it keeps running and can be collected by id, by list or by key"
    COLLECT = "it can be collected by id, by list, by key, or by the SDK's own retry"
    TAKE_OVER = "another process takes it over"
    REPLAY = "the first answer again, with `Idempotent-Replayed: true`; a run that is not over is waited for"
    JOIN = "the first try's own answer, if it was never delivered; otherwise a new order"


@dataclass(frozen=True, slots=True)
class Ends:
    """What a generation, or one call of it, came to."""

    pictures: int
    codes: frozenset[str]
    scopes: frozenset[str]
    billed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Row:
    """One outcome. `code` names the error that is answered, none where images are; several stand for a class.

    `generation` says when an ended generation is this row, `call` when an ended upstream call is; the first row that
    matches is taken. `retry_after` is in seconds; `should_retry` False stops the automatic retry of OpenAI's SDKs.
    """

    name: str
    happened: str
    status: int | None = None
    type: str = ""
    code: str = ""
    message: str = ""
    retry_after: int | None = None
    should_retry: bool = True
    pays: Pays = Pays.NOTHING
    key: Key = Key.UNDECIDED
    next: Next = Next.END
    generation: Callable[[Ends], bool] | None = None
    call: Callable[[Ends], bool] | None = None


USER_ERROR = "image_generation_user_error"
INVALID = "invalid_request_error"
UPSTREAM = "upstream_error"
UNAVAILABLE = "service_unavailable"

REFUSED = Row(
    "refused",
    "The request is refused: a validation error, an unknown model, a bad key, no money, a limit that is reached. "
    "No upstream hears of it.",
    key=Key.NOT_TAKEN,
)
DELIVERED = Row(
    "delivered",
    "At least one of the n images was delivered; others may have failed.",
    status=200,
    pays=Pays.DELIVERED,
    key=Key.KEPT,
    generation=lambda ends: ends.pictures > 0,
    call=lambda ends: ends.pictures > 0,
)
MODERATION = Row(
    "moderation",
    "Moderation refused the prompt or the output, and no image is left.",
    status=400,
    type=USER_ERROR,
    code="moderation_blocked",
    message="The request was refused by content moderation. Nothing was charged. Please change the prompt.",
    should_retry=False,
    key=Key.KEPT,
    generation=lambda ends: Code.CONTENT_POLICY in ends.codes,
    call=lambda ends: Code.CONTENT_POLICY in ends.codes,
)
INVALID_UPSTREAM = Row(
    "invalid",
    "A valid request that no upstream accepts as it is.",
    status=400,
    type=INVALID,
    code="invalid_value",
    message="The request was refused as invalid.",
    should_retry=False,
    key=Key.KEPT,
    generation=lambda ends: Scope.REQUEST in ends.scopes,
    call=lambda ends: Scope.REQUEST in ends.scopes,
)
STORAGE = Row(
    "storage",
    "The images came, and could not be stored.",
    status=503,
    type=UNAVAILABLE,
    code=STORAGE_CODE,
    message="The image could not be stored. Nothing was charged.",
    should_retry=False,
    key=Key.FREED,
    generation=lambda ends: STORAGE_CODE in ends.codes,
    call=lambda ends: STORAGE_CODE in ends.codes,
)
FREE_FAILURE = Row(
    "free-failure",
    "An upstream failed and is known not to charge: it refused before it accepted, was busy, or its task failed.",
    next=Next.NEXT_CANDIDATE,
    call=lambda ends: bool(ends.billed) and ends.billed <= {Billed.NO},
)
BILLED_FAILURE = Row(
    "billed-failure",
    "An upstream failed, or answered nothing usable, and charges or may charge: its answer was lost, or its picture "
    "is none.",
    pays=Pays.NOTHING_FOR_IT,
    next=Next.RETRY_IF_ALLOWED,
    call=lambda ends: True,
)
NO_CAPACITY = Row(
    "no-capacity",
    "No upstream has room for it in time.",
    status=429,
    type="rate_limit_error",
    code="rate_limit_exceeded",
    message="The model is at capacity. Nothing was charged. Please try again.",
    retry_after=10,
    key=Key.FREED,
    generation=lambda ends: bool(ends.codes) and ends.codes <= {Code.RATE_LIMITED},
)
NO_CHANNEL = Row(
    "no-channel",
    "Every upstream is down, or none is set up.",
    status=503,
    type=UNAVAILABLE,
    code="no_channel_available",
    message="The model cannot be served right now. Nothing was charged.",
    retry_after=10,
    key=Key.FREED,
    generation=lambda ends: bool(ends.codes) and ends.codes <= NOBODY_THERE | {Code.RATE_LIMITED},
)
EXHAUSTED = Row(
    "exhausted",
    "None of the n images could be generated.",
    status=502,
    type=UPSTREAM,
    code="upstream_failed",
    message="The image could not be generated. Nothing was charged.",
    should_retry=False,
    key=Key.FREED,
    generation=lambda ends: True,
)
TIMEOUT = Row(
    "timeout",
    "The deadline passed while an upstream still works.",
    status=504,
    type=UPSTREAM,
    code="generation_timeout",
    message="The image is not ready yet. It keeps being generated and is charged only if it is delivered. "
    "Collect it under the generation_id.",
    should_retry=False,
    pays=Pays.LATER,
    key=Key.KEPT,
    next=Next.KEEP_RUNNING,
)
CLIENT_LEFT = Row(
    "client-left",
    "The client went away.",
    pays=Pays.AS_USUAL,
    key=Key.KEPT,
    next=Next.COLLECT,
)
PROCESS_KILLED = Row(
    "process-killed",
    "The process that served it was killed, at any point.",
    pays=Pays.STORED,
    key=Key.KEPT,
    next=Next.TAKE_OVER,
)
REPLAYED = Row(
    "replayed",
    "The same Idempotency-Key with the same body, within 24 hours of the first, or while that one runs.",
    pays=Pays.ONCE,
    key=Key.KEPT,
    next=Next.REPLAY,
)
KEY_REUSED = Row(
    "key-reused",
    "The same Idempotency-Key with another body.",
    status=422,
    type=INVALID,
    code="idempotency_key_reused",
    message="This Idempotency-Key was used with another request body.",
    should_retry=False,
    key=Key.KEPT,
)
SDK_RETRY = Row(
    "sdk-retry",
    "An SDK's automatic retry without a key (`x-stainless-retry-count` of 1 or more) of a request of the same API key "
    "with the same body, from the last 15 minutes.",
    pays=Pays.ONCE,
    next=Next.JOIN,
)

#: In the order in which an ended generation or call is judged.
TABLE: tuple[Row, ...] = (
    REFUSED,
    DELIVERED,
    MODERATION,
    INVALID_UPSTREAM,
    STORAGE,
    FREE_FAILURE,
    BILLED_FAILURE,
    NO_CAPACITY,
    NO_CHANNEL,
    EXHAUSTED,
    TIMEOUT,
    CLIENT_LEFT,
    PROCESS_KILLED,
    REPLAYED,
    KEY_REUSED,
    SDK_RETRY,
)
ROWS_BY_CODE = {row.code: row for row in TABLE if row.code}


def judge(results: Sequence[CallResult]) -> Row:
    """The row of an ended generation."""
    ends = sum_up(results)
    return next(row for row in TABLE if row.generation is not None and row.generation(ends))


def judge_failure(failure: Failure) -> Row:
    """What one failure means for its own slots, whatever the rest of the call brought."""
    ends = Ends(0, frozenset({failure.code}), frozenset({failure.scope}), frozenset({failure.billed}))
    return next(row for row in TABLE if row.call is not None and row.call(ends))


def sum_up(results: Sequence[CallResult]) -> Ends:
    failures: list[Failure] = [failure for result in results for failure in result.failures]
    return Ends(
        pictures=sum(len(result.pictures) for result in results),
        codes=frozenset(failure.code for failure in failures),
        scopes=frozenset(failure.scope for failure in failures),
        billed=frozenset(failure.billed for failure in failures),
    )
