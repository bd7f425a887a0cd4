"""How the offers of a model have done: the production facts by which an operator calls it verified, or takes it back.

By offer and role: what served customers, what served a share of them as a canary, and the copies of a shadow. Looked at
are the newest generations within the days asked for, at most so many of them: what it costs does not grow with the
table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import Avg, Case, Count, DurationField, ExpressionWrapper, F, Func, Q, QuerySet, Sum, Value, When
from django.db.models import Window as Over
from django.db.models.functions import RowNumber
from django.utils import timezone

from crazyrouter.files.errors import Refusal
from crazyrouter.generation.ids import PAIRS
from crazyrouter.generation.models import Attempt, Generation
from crazyrouter.generation.recovery import REQUEST_CODES
from models_registry.long_lists import NEWEST
from models_registry.models import ImageModel
from providers.models import Offer

State = Attempt.State

CUSTOMER, CANARY, SHADOW = "customer", "canary", "shadow"
#: Days that may be looked at, the usual ones first.
DAYS = (30, 1, 7, 90)
#: Copies that are compared one by one, the newest first.
MOST_COMPARED = 10_000
OPEN = Q(state__in=(State.CREATED, State.ACCEPTED))
#: Refused for the request's sake: no carrier's fault, whoever it was sent to.
REFUSED = Q(state__in=(State.REJECTED, State.FAILED), code__in=REQUEST_CODES)
#: Given up by ourselves before the carrier heard of it.
NEVER_SENT = Q(state=State.REJECTED, detail__startswith="never sent: ")
WRONG_SIZE = Q(detail__startswith=Refusal.WRONG_ASPECT) | Q(detail__startswith=Refusal.TOO_SMALL)
TOOK = ExpressionWrapper(F("ended_at") - F("created_at"), output_field=DurationField())
#: What figures are of.
GROUP = ("offer_id", "channel_id", "upstream_model", "role")

Key = tuple[int | None, int, str, str]


class ListLength(Func):
    """Of a JSON column that holds a list."""

    function = "jsonb_array_length"
    output_field = models.IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="json_array_length", **context)


@dataclass(frozen=True, slots=True)
class Window:
    """The generations from `first_id` on. `whole` says whether all those of the days are among them."""

    days: int
    since: datetime
    first_id: str
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Figures:
    """What calls over one offer came to in one role. `offer_id` is None where the offer was deleted since.

    `running` have no end yet, `refused` were refused for the request's sake; the success rate is of all others. A call
    succeeded if it brought a picture. `wanted` and `images` count pictures of calls that ended. Times are those of
    calls that succeeded, from the attempt to its end; `wrong_size` counts calls whose picture could not be delivered
    for its size.
    """

    offer_id: int | None
    channel: str
    upstream_model: str
    role: str
    calls: int
    running: int
    refused: int
    succeeded: int
    wanted: int
    images: int
    wrong_size: int
    mean_ms: int | None = None
    p95_ms: int | None = None
    failures: Mapping[str, int] = field(default_factory=dict)

    @property
    def judged(self) -> int:
        return self.calls - self.running - self.refused

    @property
    def success_rate(self) -> float | None:
        """From 0 to 1; None where nothing can be said."""
        return self.succeeded / self.judged if self.judged else None


@dataclass(slots=True)
class Comparison:
    """Copies of one shadow beside what customers got of the same requests.

    The times are means over the requests that both served; the customer's is of the whole request, as it was waited
    for. `as_asked` of the `pictures` had exactly the size that was asked for.
    """

    offer_id: int | None
    channel: str
    upstream_model: str
    copies: int = 0
    both: int = 0
    customer_only: int = 0
    copy_only: int = 0
    neither: int = 0
    pictures: int = 0
    as_asked: int = 0
    customer_total_ms: int = 0
    copy_total_ms: int = 0

    @property
    def customer_ms(self) -> int | None:
        return self.customer_total_ms // self.both if self.both else None

    @property
    def copy_ms(self) -> int | None:
        return self.copy_total_ms // self.both if self.both else None

    def add(self, one: Mapping[str, Any]) -> None:
        copied, served = bool(one["images"]), bool(one["customer"]["images"])
        self.copies += 1
        self.both += copied and served
        self.customer_only += served and not copied
        self.copy_only += copied and not served
        self.neither += not copied and not served
        self.pictures += len(one["sizes"])
        self.as_asked += sum(size == one["asked"] for size in one["sizes"])
        if copied and served:
            self.copy_total_ms += one["latency_ms"]
            self.customer_total_ms += one["customer"]["latency_ms"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything there is for one model, from `window` until `at`."""

    window: Window
    at: datetime
    figures: tuple[Figures, ...]
    comparisons: tuple[Comparison, ...]


def gather_evidence(model: ImageModel, *, days: int = DAYS[0]) -> Evidence:
    """Seven queries, whatever was sold."""
    window = open_window(days)
    attempts = list_attempts(model, window)
    return Evidence(window, timezone.now(), tuple(count_calls(attempts)), tuple(compare_copies(attempts)))


# --- which attempts ---


def open_window(days: int) -> Window:
    """Ids sort by time, so that a range of them is one of time, and their index answers it."""
    since = timezone.now() - timedelta(days=days)
    first = make_first_id(since)
    newest = Generation.objects.order_by("-id").values_list("id", flat=True)[NEWEST - 1 : NEWEST].first()
    return Window(days, since, max(first, newest or ""), whole=newest is None or newest <= first)


def make_first_id(moment: datetime) -> str:
    """Of all ids of generations that could have been drawn at that moment, or later."""
    value = int(moment.timestamp() * 1000) << 80
    return "gen_" + "".join([PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])


def list_attempts(model: ImageModel, window: Window) -> QuerySet[Attempt]:
    """The model's attempts of the window that went to a carrier, each with its `role`."""
    attempts = Attempt.objects.filter(generation_id__gte=window.first_id, generation__model=model)
    attempts = attempts.exclude(NEVER_SENT).order_by()
    canaries = [When(Q(offer=offer_id) & span, then=Value(CANARY)) for offer_id, span in list_canary_spans(model)]
    role = Case(
        When(purpose=Attempt.Purpose.SHADOW, then=Value(SHADOW)),
        *canaries,
        default=Value(CUSTOMER),
        output_field=models.CharField(),
    )
    return attempts.annotate(role=role)


def list_canary_spans(model: ImageModel) -> Iterable[tuple[int, Q]]:
    """When which offer of the model was a canary, after its recorded versions; the last of them is as the row is now.

    A canary that was promoted keeps the calls it had as one: what is recorded of an attempt does not say it.
    """
    now = dict(Offer.objects.filter(model=model).values_list("pk", "canary_percent"))
    versions: dict[int, list[tuple[datetime | None, int | None]]] = {pk: [(None, None)] for pk in now}
    recorded = Offer.history.filter(id__in=now).order_by("history_date", "history_id")
    for pk, at, percent in recorded.values_list("id", "history_date", "canary_percent"):
        versions[pk].append((at, percent))
    for pk, several in versions.items():
        several[-1] = (several[-1][0], now[pk])
        yield from ((pk, span) for span in join_spans(several))


def join_spans(versions: list[tuple[datetime | None, int | None]]) -> Iterable[Q]:
    """Conditions on `created_at` for the times with a share, one for each run of them."""
    begun: datetime | None = None
    inside = False
    for at, percent in versions:
        if percent is not None and not inside:
            begun, inside = at, True
        elif percent is None and inside and at is not None:
            yield select_since(begun) & Q(created_at__lt=at)
            inside = False
    if inside:
        yield select_since(begun)


def select_since(moment: datetime | None) -> Q:
    return Q(purpose=Attempt.Purpose.CUSTOMER) if moment is None else Q(created_at__gte=moment)


# --- figures ---


def count_calls(attempts: QuerySet[Attempt]) -> list[Figures]:
    """By channel and role; three queries."""
    slowest, failures = find_p95(attempts), count_failures(attempts)
    ended = ~OPEN
    rows = attempts.values(*GROUP, "channel__name").annotate(
        calls=Count("pk"),
        running=Count("pk", filter=OPEN),
        refused=Count("pk", filter=REFUSED),
        succeeded=Count("pk", filter=Q(state=State.SUCCEEDED)),
        wanted=Sum(ListLength("slots"), filter=ended, default=0),
        brought=Sum("images", filter=ended, default=0),
        wrong_size=Count("pk", filter=WRONG_SIZE),
        mean=Avg(TOOK, filter=Q(state=State.SUCCEEDED)),
    )
    figures = [make_figures(row, slowest, failures) for row in rows]
    return sorted(figures, key=lambda one: (one.role != CUSTOMER, one.role, one.channel, one.offer_id or 0))


def make_figures(
    row: Mapping[str, Any], slowest: Mapping[Key, timedelta], failures: Mapping[Key, Mapping[str, int]]
) -> Figures:
    key = read_key(row)
    return Figures(
        offer_id=row["offer_id"],
        channel=row["channel__name"],
        upstream_model=row["upstream_model"],
        role=row["role"],
        calls=row["calls"],
        running=row["running"],
        refused=row["refused"],
        succeeded=row["succeeded"],
        wanted=row["wanted"],
        images=row["brought"],
        wrong_size=row["wrong_size"],
        mean_ms=read_ms(row["mean"]),
        p95_ms=read_ms(slowest.get(key)),
        failures=failures.get(key, {}),
    )


def read_key(row: Mapping[str, Any]) -> Key:
    return row["offer_id"], row["channel_id"], row["upstream_model"], row["role"]


def read_ms(took: timedelta | None) -> int | None:
    return None if took is None else round(took.total_seconds() * 1000)


def find_p95(attempts: QuerySet[Attempt]) -> dict[Key, timedelta]:
    """Of each group's calls that succeeded the one at rank ceil(0.95 n), the quickest being the first."""
    partition = [F(name) for name in GROUP]
    ranked = attempts.filter(state=State.SUCCEEDED).annotate(
        took=TOOK,
        above=Over(RowNumber(), partition_by=partition, order_by=TOOK.asc()) * 20
        - Over(Count("pk"), partition_by=partition) * 19,
    )
    found = ranked.filter(above__gte=0, above__lt=20).values(*GROUP, "took")
    return {read_key(row): row["took"] for row in found}


def count_failures(attempts: QuerySet[Attempt]) -> dict[Key, dict[str, int]]:
    """Codes of calls, the most frequent first; of a call with several, the first."""
    counts: dict[Key, dict[str, int]] = {}
    rows = attempts.exclude(code="").values(*GROUP, "code").annotate(times=Count("pk")).order_by("-times", "code")
    for row in rows:
        counts.setdefault(read_key(row), {})[row["code"]] = row["times"]
    return counts


def compare_copies(attempts: QuerySet[Attempt]) -> list[Comparison]:
    """By shadow, over the newest of its copies."""
    rows: Any = (
        attempts.filter(purpose=Attempt.Purpose.SHADOW, comparison__isnull=False)
        .order_by("-generation_id", "number")
        .values_list("offer_id", "channel__name", "upstream_model", "comparison")
    )
    found: dict[tuple[int | None, str, str], Comparison] = {}
    for offer_id, channel, upstream_model, comparison in rows[:MOST_COMPARED]:
        key = (offer_id, channel, upstream_model)
        found.setdefault(key, Comparison(*key)).add(comparison)
    return sorted(found.values(), key=lambda one: (one.channel, one.offer_id or 0))
