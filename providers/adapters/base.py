"""What every adapter over HTTP does the same way: options, calls, verdicts. No carrier's protocol is in here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, NamedTuple

from providers.contract import Billed, Code, PollFailed, ProviderError, Scope, Shape
from providers.transport import NotSent, Reply, ReplyLost, Transport, redact

MAX_ID_CHARACTERS = 128


class Verdict(NamedTuple):
    """What a carrier's error means here."""

    code: Code
    billed: Billed
    scope: Scope


AUTH = Verdict(Code.AUTH, Billed.NO, Scope.CHANNEL)
ARREARS = Verdict(Code.ARREARS, Billed.NO, Scope.CHANNEL)
NOT_AVAILABLE = Verdict(Code.NOT_AVAILABLE, Billed.NO, Scope.OFFER)
RATE_LIMITED = Verdict(Code.RATE_LIMITED, Billed.NO, Scope.OFFER)
OVERLOADED = Verdict(Code.OVERLOADED, Billed.NO, Scope.OFFER)
BAD_REQUEST = Verdict(Code.BAD_REQUEST, Billed.NO, Scope.REQUEST)
CONTENT_POLICY = Verdict(Code.CONTENT_POLICY, Billed.NO, Scope.REQUEST)
UNREACHABLE = Verdict(Code.UNREACHABLE, Billed.NO, Scope.CHANNEL)
TIMEOUT = Verdict(Code.TIMEOUT, Billed.UNKNOWN, Scope.OFFER)
CONNECTION_LOST = Verdict(Code.CONNECTION_LOST, Billed.UNKNOWN, Scope.OFFER)
TASK_FAILED = Verdict(Code.TASK_FAILED, Billed.NO, Scope.OFFER)
TASK_LOST = Verdict(Code.TASK_LOST, Billed.UNKNOWN, Scope.OFFER)
BAD_RESPONSE = Verdict(Code.BAD_RESPONSE, Billed.UNKNOWN, Scope.OFFER)


@dataclass(frozen=True, slots=True)
class Option:
    """A setting of a channel. `meaning` says which values it takes, for the people who set it."""

    default: Any
    accepts: Callable[[Any], bool]
    meaning: str


def build_seconds_option(default: float, what: str) -> Option:
    """An option that holds a time."""
    return Option(
        default,
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 3600,
        f"{what}, in seconds, above 0 and at most 3600",
    )


class Carrier:
    """The constructor of the contract and the calls. Raises ValueError for an option value that is wrong;
    names it does not know are left alone, since a channel may carry notes of its own.
    """

    kind: ClassVar[str]
    shape: ClassVar[Shape]
    faithful_rewrite: ClassVar[bool] = False
    free_probe: ClassVar[str] = ""
    open_weights: ClassVar[frozenset[str]] = frozenset()
    OPTIONS: ClassVar[Mapping[str, Option]] = {}

    def __init__(
        self, client: Transport, *, credential: str, base_url: str, options: Mapping[str, Any] | None = None
    ) -> None:
        self._client = client
        self._credential = credential.strip()
        self._base_url = base_url.strip().rstrip("/")
        self._options = {name: option.default for name, option in self.OPTIONS.items()}
        for name, value in (options or {}).items():
            if name in self.OPTIONS and not self.OPTIONS[name].accepts(value):
                raise ValueError(f"{self.kind}: {name}: {self.OPTIONS[name].meaning}")
            self._options[name] = value

    @classmethod
    def find_unsupported(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return frozenset()

    async def _post(self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str], timeout: float) -> Reply:
        url = self._base_url + path
        return await self._await(self._client.post(url, headers=headers, json=body, read_timeout=timeout))

    async def _get(self, path: str, *, headers: Mapping[str, str], timeout: float) -> Reply:
        return await self._await(self._client.get(self._base_url + path, headers=headers, read_timeout=timeout))

    async def _await(self, call: Awaitable[Reply]) -> Reply:
        try:
            return await call
        except NotSent as error:
            raise self._fail(UNREACHABLE, str(error)) from error
        except ReplyLost as error:
            raise self._fail(TIMEOUT if error.timeout else CONNECTION_LOST, str(error)) from error

    def _authorise(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._credential}"}

    def _fail(
        self, verdict: Verdict, detail: str, *, upstream_id: str = "", reply: Reply | None = None
    ) -> ProviderError:
        return ProviderError(
            verdict.code,
            billed=verdict.billed,
            scope=verdict.scope,
            detail=self._clean(detail),
            upstream_id=upstream_id,
            retry_after=read_retry_after(reply) if reply else None,
        )

    def _clean(self, text: str) -> str:
        # Some carriers quote the key they refuse; a key need not look like one.
        return redact(text.replace(self._credential, "***") if self._credential else text)


@contextmanager
def free_of_charge() -> Iterator[None]:
    """Whatever goes wrong with a call that orders nothing, it is not billed."""
    try:
        yield
    except ProviderError as error:
        error.billed = Billed.NO
        raise


def as_poll_failure(error: ProviderError) -> PollFailed:
    """A failed query says nothing about the task."""
    return PollFailed(error.code, error.detail, error.retry_after)


def read_object(reply: Reply) -> dict[str, Any] | None:
    """The body, if it is a JSON object."""
    try:
        body = reply.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def read_mapping(parent: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """A member that should be an object; anything else is an empty one."""
    member = parent.get(name) if parent else None
    return member if isinstance(member, dict) else {}


def read_text(parent: Mapping[str, Any] | None, name: str) -> str:
    """A member that should be a text or a number; anything else is an empty text."""
    member = parent.get(name) if parent else None
    return str(member) if isinstance(member, str | int) and not isinstance(member, bool) else ""


def read_fault(body: Mapping[str, Any] | None) -> tuple[str, str]:
    """Code and message of either envelope, flat or under `error`; an empty code where there is none."""
    wrapped = read_mapping(body, "error")
    fault = wrapped or body
    return read_text(fault, "code") or read_text(wrapped, "type"), read_text(fault, "message")


def clip_id(text: str) -> str:
    """A carrier's id as it may be stored and shown: printable, at most 128 characters."""
    return "".join(sign for sign in text[:MAX_ID_CHARACTERS] if sign.isprintable())


def read_retry_after(reply: Reply) -> float | None:
    """Seconds from now, from either form of the Retry-After header."""
    value = reply.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def quote_start(reply: Reply) -> str:
    """The start of a body that is not what the protocol says, for the operator."""
    return f"{reply.status} {reply.body[:500].decode('utf-8', 'replace')}"
