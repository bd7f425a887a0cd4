"""What every adapter over HTTP does the same way: options, calls, verdicts. No carrier's protocol is in here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from providers.adapters.answers import quote_start, read_retry_after, take_image
from providers.contract import Billed, Code, Done, PollFailed, ProviderError, RemoteImage, Scope, Shape
from providers.transport import NotSent, Reply, ReplyLost, Transport, redact

#: Models with open weights, as the hubs and most who host them spell it; no closed model is called so.
HUB_NAMES = frozenset({"qwen/qwen-image", "qwen/qwen-image-2512"})


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
# The picture was made, and whether it is billed nobody says.
FLAGGED = Verdict(Code.CONTENT_POLICY, Billed.UNKNOWN, Scope.REQUEST)
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


def build_switch(what: str, *, default: bool = False) -> Option:
    """An option that is on or off."""
    return Option(default, lambda value: isinstance(value, bool), f"{what}, true or false")


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

    async def probe(self) -> None:
        """A carrier with a free call has one of its own, and says in `free_probe` what it is."""
        raise NotImplementedError(f"{self.kind} knows no call that is free of charge")

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

    def _reject(
        self, reply: Reply, verdict: Verdict, code: str = "", message: str = "", *, upstream_id: str = ""
    ) -> ProviderError:
        """The error of an answer that is none: in the carrier's words, or the start of what came."""
        words = f"{code}: {message}" if code else message
        detail = f"{reply.status} {words}" if words else quote_start(reply)
        return self._fail(verdict, detail, upstream_id=upstream_id, reply=reply)

    def _deliver(
        self,
        items: Sequence[Any],
        reply: Reply,
        *,
        upstream_id: str = "",
        usage: Mapping[str, Any] | None = None,
        flags: Sequence[Any] = (),
    ) -> Done:
        """The pictures among the items of a success. Raises ProviderError where none is.

        `flags` say, item by item, what the carrier's own moderation found: such a picture is not passed on.
        """
        images: list[RemoteImage] = []
        refused: list[ProviderError] = []
        for position, item in enumerate(items):
            image = take_image(item)
            if position < len(flags) and flags[position] is True:
                refused.append(self._fail(FLAGGED, "flagged by the carrier's moderation", upstream_id=upstream_id))
            elif image is None:
                refused.append(self._fail(BAD_RESPONSE, "an item without a picture", upstream_id=upstream_id))
            else:
                images.append(image)
        if not images:
            flagged = (error for error in refused if error.code is Code.CONTENT_POLICY)
            raise next(flagged, self._reject(reply, BAD_RESPONSE, upstream_id=upstream_id))
        return Done(tuple(images), upstream_id=upstream_id, refused=tuple(refused), usage=usage or {})

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
