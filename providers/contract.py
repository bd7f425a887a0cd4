"""What every carrier adapter promises. No Django, no HTTP client, no database.

An adapter translates one normalised `Job` into one carrier's protocol and the carrier's answer back
into this closed vocabulary. It gets its client, credential, base URL and options in the constructor
and touches nothing else: no settings, no money, no routing.

    ProviderError       the call, or the task, is over and brought nothing
    PollFailed          a poll went wrong; it says nothing about the task, which may well be running

What follows a failure is decided by `ProviderError.billed`, never by an HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from providers.transport import Transport


class Shape(StrEnum):
    """How a carrier answers: the images in the reply, or a task to poll."""

    SYNC = "sync"
    ASYNC = "async"


class Code(StrEnum):
    """Why nothing came back; a closed set, ours, safe to show an operator."""

    BAD_REQUEST = "bad_request"  # the carrier calls a field of the request invalid
    CONTENT_POLICY = "content_policy"  # moderation refused the prompt or every picture
    AUTH = "auth"  # our key is wrong, revoked, or of another region
    ARREARS = "arrears"  # our account is overdue or out of quota
    NOT_AVAILABLE = "not_available"  # model or endpoint not there, not opened, retired
    RATE_LIMITED = "rate_limited"  # throttled
    OVERLOADED = "overloaded"  # refused by a server error that names itself
    UNREACHABLE = "unreachable"  # the request was never sent: no address, refused, TLS
    TIMEOUT = "timeout"  # sent, and no answer within the time
    CONNECTION_LOST = "connection_lost"  # sent, and the connection broke
    TASK_FAILED = "task_failed"  # the accepted task ended without a picture
    TASK_LOST = "task_lost"  # the carrier does not know the task (any more)
    BAD_RESPONSE = "bad_response"  # an answer outside the protocol, or a picture that is none


class Billed(StrEnum):
    """Whether the carrier charges us for what failed."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """Whose trouble it is: the customer's request, this model at this channel, or the whole channel."""

    REQUEST = "request"
    OFFER = "offer"
    CHANNEL = "channel"


class ProviderError(Exception):
    """A submit or a task that is over without a usable picture.

    `detail` is the carrier's own wording, shortened and redacted: operators see it, customers never.
    `retry_after` is in seconds, where the carrier said it.
    """

    def __init__(
        self,
        code: Code,
        *,
        billed: Billed,
        scope: Scope,
        detail: str = "",
        upstream_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code} (billed={billed}, scope={scope}): {detail}")
        self.code = code
        self.billed = billed
        self.scope = scope
        self.detail = detail
        self.upstream_id = upstream_id
        self.retry_after = retry_after


class PollFailed(Exception):
    """A poll that brought no knowledge of the task: poll again. `code` says what was in the way."""

    def __init__(self, code: Code, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Job:
    """One upstream call. `model` is the carrier's own name for it; width and height are in pixels."""

    model: str
    prompt: str
    width: int
    height: int
    n: int = 1
    negative_prompt: str | None = None
    seed: int | None = None
    prompt_extend: bool | None = None
    watermark: bool | None = None


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """One picture that came back: a URL to fetch unchanged, or its base64 text; exactly one of them."""

    url: str | None = None
    b64: str | None = None
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What really came back, counted by pictures. `refused` holds the items that did not."""

    images: tuple[RemoteImage, ...]
    upstream_id: str = ""
    refused: tuple[ProviderError, ...] = ()
    usage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pending:
    """An accepted task. `poll_after` is in seconds, from now."""

    task_id: str
    upstream_id: str = ""
    poll_after: float = 1.0


class Adapter(Protocol):
    """One carrier protocol. `kind` is what the database stores; `shape` is how this adapter answers."""

    kind: ClassVar[str]
    shape: ClassVar[Shape]
    #: Whether `RemoteImage.revised_prompt` is a faithful rewrite that a customer may read.
    faithful_rewrite: ClassVar[bool]
    #: What `probe` does, and that it costs nothing; empty where the carrier has no free call, and it is never probed.
    free_probe: ClassVar[str]
    #: The carrier's names, in lower case, of models with open weights: never the closed model of a similar name.
    open_weights: ClassVar[frozenset[str]]

    def __init__(
        self, client: Transport, *, credential: str, base_url: str, options: Mapping[str, Any] | None = None
    ) -> None: ...

    async def submit(self, job: Job) -> Done | Pending:
        """Place the order, once; never repeated by the adapter. Raises ProviderError."""
        ...

    async def poll(self, task_id: str) -> Done | Pending:
        """Ask for a task. Raises ProviderError when the task is over and failed, PollFailed otherwise.

        A sync adapter is never asked; it raises ProviderError(BAD_RESPONSE) if it is.
        """
        ...

    async def probe(self) -> None:
        """Check credential and reachability by a call that is free of charge. Raises ProviderError.

        Only asked where `free_probe` says what it is.
        """
        ...

    @classmethod
    def find_unsupported(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """Fields of a Job that a channel with these options cannot pass on, of those that a customer may leave out."""
        ...
