"""The outcome table and the errors of the contract, in the words of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from crazyrouter.api.errors import Kind
from crazyrouter.generation.outcomes import Key, Row

#: Where a row has nothing to say.
NOTHING = "–"
ANY_REFUSAL = "one of the errors below"
AS_THE_ERROR = "as that error says"


@dataclass(frozen=True, slots=True)
class OutcomeLine:
    """One outcome as it is shown; `code` links to its error, where there is one."""

    name: str
    happened: SafeString
    answer: str
    code: str
    retry: SafeString
    pays: str
    key: str
    follows: SafeString


@dataclass(frozen=True, slots=True)
class ErrorLine:
    code: str
    status: int
    type: str
    retry: SafeString
    message: str


def describe_outcomes(rows: Sequence[Row]) -> list[OutcomeLine]:
    return [describe_outcome(row) for row in rows]


def describe_outcome(row: Row) -> OutcomeLine:
    # A request that takes no key was refused, for any of many reasons.
    refused = row.key is Key.NOT_TAKEN
    retry = describe_retry(row.retry_after, may_retry=row.should_retry)
    return OutcomeLine(
        name=row.name,
        happened=mark_code(row.happened),
        answer=ANY_REFUSAL if refused else str(row.status or NOTHING),
        code=row.code,
        retry=mark_code(AS_THE_ERROR) if refused else retry,
        pays=row.pays,
        key=NOTHING if row.key is Key.UNDECIDED else row.key,
        follows=mark_code(row.next),
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


def describe_retry(retry_after: int | None, *, may_retry: bool) -> SafeString:
    """The headers that an SDK's automatic retries go by."""
    if not may_retry:
        return mark_code("`x-should-retry: false`")
    return mark_code(NOTHING if retry_after is None else f"`Retry-After: {retry_after}`")


def mark_code(text: str) -> SafeString:
    """Text with `code` between backticks, escaped."""
    plain, *rest = text.split("`")
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return format_html("{}{}", plain, format_html_join("", "<code>{}</code>{}", pairs))
