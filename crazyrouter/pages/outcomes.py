"""The outcome table and the errors of the contract, in the words of a page: Markdown, as the tables have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crazyrouter.api.errors import Kind
from crazyrouter.generation.outcomes import Key, Next, Row

#: Where a row has nothing to say.
NOTHING = "–"
ANY_REFUSAL = "[one of the errors](/docs/errors)"
AS_THE_ERROR = "as that error says"
#: Whose answer it is where a row stands for another order's.
ANSWERS_OF = {Next.REPLAY: "the first one's, an error as well", Next.JOIN: "the first try's, or a new order's"}


@dataclass(frozen=True, slots=True)
class OutcomeLine:
    """One outcome as it is shown; `code` links to its error, where there is one."""

    name: str
    happened: str
    answer: str
    code: str
    retry: str
    pays: str
    key: str
    follows: str


@dataclass(frozen=True, slots=True)
class ErrorLine:
    code: str
    status: int
    type: str
    retry: str
    message: str


def describe_outcomes(rows: Sequence[Row]) -> list[OutcomeLine]:
    return [describe_outcome(row) for row in rows]


def describe_outcome(row: Row) -> OutcomeLine:
    # A request that takes no key was refused, for any of many reasons.
    refused = row.key is Key.NOT_TAKEN
    retry = describe_retry(row.retry_after, may_retry=row.should_retry)
    return OutcomeLine(
        name=row.name,
        happened=row.happened,
        answer=ANY_REFUSAL if refused else ANSWERS_OF.get(row.next, str(row.status or NOTHING)),
        code=row.code,
        retry=AS_THE_ERROR if refused else retry,
        pays=row.pays,
        key=NOTHING if row.key is Key.UNDECIDED else row.key,
        follows=row.next,
    )


def describe_errors(kinds: Mapping[str, Kind]) -> list[ErrorLine]:
    """By status; those of one status in the order of the contract."""
    lines = [
        ErrorLine(
            code, kind.status, kind.type, describe_retry(kind.retry_after, may_retry=kind.may_retry), kind.message
        )
        for code, kind in kinds.items()
    ]
    return sorted(lines, key=lambda line: line.status)


def describe_retry(retry_after: int | None, *, may_retry: bool) -> str:
    """The headers that an SDK's automatic retries go by."""
    if not may_retry:
        return "`x-should-retry: false`"
    return NOTHING if retry_after is None else f"`Retry-After: {retry_after}`"
