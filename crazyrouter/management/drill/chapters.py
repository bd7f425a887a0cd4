"""The chapters of a bad day: what happens in each, and what is expected of it, as data.

A figure is one of `figures.py`, or one that the script itself counts. Whatever is expected everywhere stands in
`ALWAYS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from crazyrouter.management.drill import scripts
from crazyrouter.management.drill.expectations import Expectation, Relation
from crazyrouter.management.drill.stage import Stage

IS, AT_LEAST, AT_MOST, ONLY = Relation.IS, Relation.AT_LEAST, Relation.AT_MOST, Relation.ONLY
OK = "200"
UPSTREAM_FAILED, MODERATED = "502 upstream_failed", "400 moderation_blocked"
TIMED_OUT, NOBODY = "504 generation_timeout", "503 no_channel_available"


@dataclass(frozen=True, slots=True)
class Chapter:
    """`directive` stands in every prompt; `own` chapters need a server that may be hurt."""

    name: str
    title: str
    script: Callable[[Stage], Awaitable[None]]
    expectations: tuple[Expectation, ...]
    directive: str = ""
    own: bool = False


ALWAYS = (
    Expectation("customers sent orders", "orders", AT_LEAST, 1),
    Expectation("each picture that was charged is had, and none that was had is free", "mischarged", IS, 0),
    Expectation("nothing was generated that nobody was told of", "unheard", IS, 0),
    Expectation("everything came to its end", "still_running", IS, 0),
    Expectation("every answer and picture was whole", "faults", IS, 0),
    Expectation("no answer names a carrier", "leaks", IS, 0),
    Expectation("whoever was turned away was told when to come again", "hintless", IS, 0),
    Expectation("the bill lies within what we count as cost", "uncounted", IS, 0),
    Expectation("only carriers of the drill were asked", "elsewhere", IS, 0),
)
ALL_SERVED = (
    Expectation("every order was answered with pictures", "answers", ONLY, (OK,)),
    Expectation("no picture is missing", "missing", IS, 0),
)
NO_DOUBT = Expectation("nothing was paid upstream that no customer paid", "unpaid", IS, 0)
NO_ALERT = Expectation("nobody was called", "alerts", IS, 0)
NO_CIRCUIT = Expectation("no circuit opened", "circuits_open", IS, 0)
NO_THROTTLE = Expectation("the limits upstream were kept to", "throttled", IS, 0)

CHAPTERS = (
    Chapter(
        "quiet",
        "a quiet hour",
        scripts.pass_quietly,
        (
            *ALL_SERVED,
            NO_DOUBT,
            NO_ALERT,
            NO_CIRCUIT,
            NO_THROTTLE,
            Expectation("all was ordered from the first carrier", "calls_b", IS, 0),
        ),
    ),
    Chapter(
        "rush",
        "more than fits: short limits, slow pictures",
        scripts.rush,
        (
            *ALL_SERVED,
            NO_DOUBT,
            NO_ALERT,
            NO_CIRCUIT,
            NO_THROTTLE,
            Expectation("calls waited for their turn", "waited", AT_LEAST, 1),
        ),
    ),
    Chapter(
        "throttling",
        "A throttles every order",
        scripts.throttle,
        (
            *ALL_SERVED,
            NO_DOUBT,
            NO_ALERT,
            Expectation("being busy opened no circuit", "circuits_open", IS, 0),
            Expectation("A was left alone for a while", "cooled", AT_LEAST, 1),
            Expectation("A was not asked again and again", "rejected_a", AT_MOST, "most_refusals"),
            Expectation("B served", "good_b", AT_LEAST, 1),
        ),
    ),
    Chapter(
        "busy",
        "A and B throttle every order",
        scripts.throttle_all,
        (
            *ALL_SERVED,
            NO_DOUBT,
            NO_ALERT,
            Expectation("being busy opened no circuit", "circuits_open", IS, 0),
            Expectation("both were left alone for a while", "cooled", AT_LEAST, 2),
        ),
        own=True,
    ),
    Chapter(
        "outage",
        "A refuses everything, then comes back",
        scripts.break_down,
        (
            *ALL_SERVED,
            NO_DOUBT,
            NO_ALERT,
            Expectation("circuits opened", "circuits_open", AT_LEAST, 1),
            Expectation("B served", "good_b", AT_LEAST, 1),
            Expectation("every circuit closed again", "unclosed", IS, 0),
            Expectation("A serves again", "good_a_since_recovered", AT_LEAST, 1),
        ),
    ),
    Chapter(
        "slow",
        "A is ten times slower, some beyond the deadline",
        scripts.slow_down,
        (
            Expectation(
                "every order was answered with pictures, or with where to collect them",
                "answers",
                ONLY,
                (OK, TIMED_OUT),
            ),
            Expectation("only what took longer than the deadline was late", "overdue", IS, "sent_overdue"),
            Expectation("all that was late was collected", "collected", IS, "overdue"),
            Expectation("no picture is missing", "missing", IS, 0),
            NO_DOUBT,
            NO_ALERT,
            Expectation("being slow opened no circuit", "circuits_open", IS, 0),
        ),
    ),
    Chapter(
        "revoked",
        "A's key is revoked, then replaced",
        scripts.revoke_key,
        (
            *ALL_SERVED,
            NO_DOUBT,
            NO_CIRCUIT,
            Expectation("both channels of A were taken out of service", "channels_disabled", IS, 2),
            Expectation("an alert for each", "alerts_channel_disabled", IS, 2),
            Expectation("B served", "good_b", AT_LEAST, 1),
            Expectation("A serves again with its new key", "good_a_since_replaced", AT_LEAST, 1),
        ),
    ),
    Chapter(
        "dark",
        "every key is revoked, then replaced",
        scripts.revoke_all,
        (
            Expectation("answers are pictures, or that nobody is there", "answers", ONLY, (OK, NOBODY)),
            Expectation("somebody was turned away", "turned_away", AT_LEAST, 1),
            NO_DOUBT,
            NO_CIRCUIT,
            Expectation("all channels were taken out of service", "channels_disabled", IS, 4),
            Expectation("an alert for each", "alerts_channel_disabled", IS, 4),
            Expectation("A serves again with its new key", "good_a_since_replaced", AT_LEAST, 1),
        ),
        own=True,
    ),
    Chapter(
        "lost",
        "A does the work, and the answer is lost",
        scripts.lose_replies,
        (
            Expectation("answers are pictures, or that there are none", "answers", ONLY, (OK, UPSTREAM_FAILED)),
            Expectation("replies were lost", "struck", AT_LEAST, 1),
            Expectation("each lost reply is one call of unknown end", "attempts_unknown", IS, "struck"),
            Expectation("lost pictures are missing, and no others", "missing", IS, "struck"),
            Expectation("the upstream charges what was lost, and no customer does", "unpaid", IS, "struck"),
            Expectation("which is what we count as possible cost", "possible", IS, "struck"),
            NO_ALERT,
        ),
    ),
    Chapter(
        "wrong",
        "A's pictures are broken, or of other sizes",
        scripts.spoil_pictures,
        (
            Expectation("answers are pictures, or that there are none", "answers", ONLY, (OK, UPSTREAM_FAILED)),
            Expectation("pictures were spoilt", "struck", AT_LEAST, 1),
            Expectation("spoilt pictures are missing, and no others", "missing", IS, "struck"),
            Expectation("the upstream charges what was spoilt, and no customer does", "unpaid", IS, "struck"),
            Expectation("which is cost without doubt", "possible", IS, 0),
            NO_ALERT,
        ),
    ),
    Chapter(
        "moderation",
        "every prompt is refused",
        scripts.pass_quietly,
        (
            Expectation("every answer is a refusal", "answers", ONLY, (MODERATED,)),
            Expectation("nothing was charged", "charged", IS, 0),
            Expectation("nothing was paid upstream", "billed", IS, 0),
            Expectation("nobody else was asked", "calls_b", IS, 0),
            NO_ALERT,
            NO_CIRCUIT,
        ),
        directive="[[sim: moderation_input]]",
    ),
    Chapter(
        "killed",
        "a web process dies in the middle",
        scripts.kill_process,
        (
            Expectation("answers are pictures, or that there are none", "answers", ONLY, (OK, UPSTREAM_FAILED)),
            Expectation("connections broke", "broken", AT_LEAST, 1),
            Expectation("work was taken over", "takeovers", AT_LEAST, 1),
            Expectation("and soon", "slowest_broken_s", AT_MOST, "takeover_limit_s"),
            Expectation("only what was out of our hands when it died is missing", "missing", AT_MOST, "possible"),
            NO_ALERT,
        ),
        own=True,
    ),
    Chapter(
        "swap",
        "A is swapped for B and back, under load",
        scripts.swap_carriers,
        (
            *ALL_SERVED,
            NO_DOUBT,
            NO_ALERT,
            NO_CIRCUIT,
            Expectation("A served before", "good_a", AT_LEAST, 1),
            Expectation("once swapped, nothing new went to A", "calls_a_since_swapped", IS, 0),
            Expectation("B served meanwhile", "good_b_since_swapped", AT_LEAST, 1),
            Expectation("swapped back, nothing new went to B", "calls_b_since_back", IS, 0),
            Expectation("A serves again", "good_a_since_back", AT_LEAST, 1),
        ),
    ),
)
NAMES = tuple(chapter.name for chapter in CHAPTERS)
