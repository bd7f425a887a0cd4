"""`manage.py drill`: what it expects is data, what it finds can be bad, and afterwards everything is as it was."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import subprocess
import urllib.request
from argparse import ArgumentTypeError
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from PIL import Image

from billing.models import Account, ApiKey
from crazyrouter.management.commands.drill import read_chapters, read_expected, read_plan, read_rate, read_seconds
from crazyrouter.management.drill import deeds, report
from crazyrouter.management.drill.chapters import ALWAYS, CHAPTERS, NAMES
from crazyrouter.management.drill.customers import Order, Seen, Taste, find_leaks
from crazyrouter.management.drill.expectations import (
    Expectation,
    NotAnExpectation,
    Relation,
    Verdict,
    judge,
    judge_all,
    read_expectation,
)
from crazyrouter.management.drill.figures import Evidence, count_all
from crazyrouter.management.drill.pictures import find_deep_fault, find_fault
from crazyrouter.management.drill.proofs import list_tracebacks
from crazyrouter.management.drill.report import Findings, Played
from crazyrouter.management.drill.shop import CHANNELS, FIRST, MODELS, PREFIX, SECOND, TASKS, A, B, Limits, build_limits
from crazyrouter.management.drill.site import SiteFailed, join_site
from crazyrouter.management.drill.upstream import Billed, Upstream, UpstreamFailed, is_ours
from crazyrouter.management.drill.wire import Answer, Unanswered, Why, call
from models_registry.models import ImageModel
from providers.models import Alert, Capacity, Channel, Offer, OfferHealth
from tests.ops.processes import is_running, spawn_python, wait_until
from tests.ops.test_serve import list_children
from tests.shop import Customer, open_channel
from tests.simulator.running import CONTROL_KEY, RunningSimulator

IS, AT_LEAST, AT_MOST, ONLY = Relation.IS, Relation.AT_LEAST, Relation.AT_MOST, Relation.ONLY


# --- expectations ---


def expect(figure: str, relation: Relation, bound: int | str | tuple[str, ...]) -> Expectation:
    return Expectation("", figure, relation, bound)


@pytest.mark.parametrize(
    ("expectation", "figures", "kept", "said"),
    [
        (expect("missing", IS, 0), {"missing": 0}, True, "missing is 0"),
        (expect("missing", IS, 0), {"missing": 2}, False, "missing is 2"),
        (expect("alerts", AT_LEAST, 1), {"alerts": 1}, True, "alerts is 1"),
        (expect("alerts", AT_LEAST, 1), {"alerts": 0}, False, "alerts is 0"),
        (expect("p99_ms", AT_MOST, 900), {"p99_ms": 901}, False, "p99_ms is 901"),
        (expect("unpaid", IS, "struck"), {"unpaid": 4, "struck": 4}, True, "unpaid is 4 (struck is 4)"),
        (expect("unpaid", IS, "struck"), {"unpaid": 4, "struck": 3}, False, "unpaid is 4 (struck is 3)"),
        (expect("answers", ONLY, ("200",)), {"answers": {"200": 7}}, True, "answers: 7 x 200"),
        (
            expect("answers", ONLY, ("200",)),
            {"answers": {"200": 7, "502 upstream_failed": 2}},
            False,
            "answers: 2 x 502 upstream_failed",
        ),
        (expect("answers", ONLY, ("200",)), {"answers": {}}, False, "answers: none"),
        (expect("unknown", IS, 0), {}, False, "unknown is not known"),
        (expect("unpaid", IS, "struck"), {"unpaid": 4}, False, "unpaid is struck compares no numbers"),
        (expect("answers", IS, 0), {"answers": {}}, False, "answers is 0 compares no numbers"),
        (expect("missing", ONLY, ("200",)), {"missing": 0}, False, "missing only 200 compares no names"),
    ],
)
def test_a_verdict(expectation: Expectation, figures: dict[str, Any], kept: bool, said: str) -> None:
    assert judge(expectation, figures) == Verdict(expectation, kept, said)


def test_an_expectation_of_the_command_line() -> None:
    chapter, expectation = read_expectation("quiet: p99_ms at most 4000")
    assert (chapter, expectation.condition) == ("quiet", "p99_ms at most 4000")
    assert expectation.bound == 4000
    assert read_expectation("lost:unpaid is struck")[1].bound == "struck"


@pytest.mark.parametrize(
    "text", ["quiet", "quiet: orders > 3", "orders is 3", "quiet: orders is", "quiet: answers only 200"]
)
def test_what_is_no_expectation_is_refused(text: str) -> None:
    with pytest.raises(NotAnExpectation):
        read_expectation(text)
    with pytest.raises(CommandError):
        read_expected([text])


def test_an_expectation_of_no_chapter_is_refused() -> None:
    with pytest.raises(CommandError, match="there is no chapter loud"):
        read_expected(["loud: orders is 3"])


# --- figures ---


def make_order(number: int = 1, *, n: int = 1, model: str = FIRST, key: str = "") -> Order:
    return Order(number, model, f"a lantern, day-1-quiet-{number}", n, (512, 512), "url", key, replays=False)


def make_seen(generation: str, *, images: int = 1, label: str = "200", **more: Any) -> Seen:
    return Seen(make_order(n=max(images, 1)), label=label, generation=generation, images=images, took_s=1.0, **more)


def make_attempt(generation: str, **changes: Any) -> dict[str, Any]:
    usual = {
        "generation": generation,
        "number": 1,
        "channel": A.channels[1],
        "state": "succeeded",
        "code": "",
        "detail": "",
        "waited_s": 0,
        "began": 100.0,
        "least": 1,
        "most": 1,
    }
    return usual | changes


def make_row(charged: int = 1, **changes: Any) -> dict[str, Any]:
    return {"state": "succeeded", "charged": charged, "takeovers": 0} | changes


#: One order, as it should be.
WELL = Evidence(
    seen=[make_seen("gen_1")],
    generations={"gen_1": make_row()},
    attempts=[make_attempt("gen_1")],
    bill=[Billed(A.account, "a lantern", accepted=True, charged=1)],
    marks={},
    counts={},
)
#: What scripts and the run count themselves, where all goes well.
EXTRA = {"struck": 0, "throttled": 0, "still_running": 0}


def list_broken(evidence: Evidence, chapter: str = "quiet", **extra: int) -> list[str]:
    """What does not hold of a chapter that left this behind."""
    [chosen] = [one for one in CHAPTERS if one.name == chapter]
    verdicts = judge_all((*ALWAYS, *chosen.expectations), count_all(evidence) | EXTRA | extra)
    return [verdict.said for verdict in verdicts if not verdict.kept]


def test_a_quiet_hour_that_was_one() -> None:
    assert list_broken(WELL) == []


LOST = make_attempt("gen_1", state="unknown", least=0, most=1)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"seen": []}, ["orders is 0", "mischarged is 1", "unheard is 1", "answers: none"]),
        ({"generations": {"gen_1": make_row(2)}}, ["mischarged is 1", "unpaid is -1"]),
        ({"generations": {"gen_1": make_row(0)}}, ["mischarged is 1", "unpaid is 1"]),
        ({"generations": {"gen_1": make_row(), "gen_2": make_row(0)}}, ["unheard is 1"]),
        ({"seen": [make_seen("gen_1", faults=["no PNG"])]}, ["faults is 1"]),
        ({"seen": [make_seen("gen_1", leaks=["dashscope"])]}, ["leaks is 1"]),
        ({"bill": []}, ["uncounted is 1", "unpaid is -1"]),
        ({"bill": [Billed(A.account, "", accepted=True, charged=2)]}, ["uncounted is 1", "unpaid is 1"]),
        ({"attempts": [make_attempt("gen_1", channel="Simulated reseller")]}, ["elsewhere is 1"]),
        ({"attempts": [make_attempt("gen_1", channel=B.channels[1])]}, ["calls_b is 1"]),
        ({"counts": {"alerts": 1}}, ["alerts is 1"]),
        ({"counts": {"circuits_open": 1}}, ["circuits_open is 1"]),
        (
            {"seen": [make_seen("", images=0, label="503 no_channel_available")], "generations": {}, "attempts": []}
            | {"bill": []},
            ["hintless is 1", "answers: 1 x 503 no_channel_available", "missing is 1"],
        ),
        (
            {"seen": [make_seen("", images=0, label="broken")]},
            ["mischarged is 1", "unheard is 1", "answers: 1 x broken", "missing is 1"],
        ),
        (
            {"seen": [make_seen("gen_1", images=0, label="502 upstream_failed")], "attempts": [LOST]}
            | {"generations": {"gen_1": make_row(0)}},
            ["answers: 1 x 502 upstream_failed", "missing is 1", "unpaid is 1"],
        ),
    ],
)
def test_a_quiet_hour_that_was_none(changes: dict[str, Any], broken: list[str]) -> None:
    assert list_broken(replace(WELL, **changes)) == broken


def test_limits_that_were_broken() -> None:
    assert list_broken(WELL, throttled=3) == ["throttled is 3"]


def test_what_never_ends() -> None:
    assert list_broken(WELL, still_running=1) == ["still_running is 1"]


def test_a_lost_reply_is_possible_cost_and_no_more() -> None:
    lost = replace(
        WELL,
        seen=[make_seen("gen_1", images=0, label="502 upstream_failed")],
        generations={"gen_1": make_row(0)},
        attempts=[LOST],
    )
    assert list_broken(lost, "lost", struck=1) == []
    again = replace(lost, attempts=[LOST, make_attempt("gen_1", number=2, channel=B.channels[1])])
    assert list_broken(again, "lost", struck=1) == []
    assert list_broken(lost, "lost", struck=2) == [
        f"{figure} is 1 (struck is 2)" for figure in ("attempts_unknown", "missing", "unpaid", "possible")
    ]
    charged = replace(lost, generations={"gen_1": make_row(1)})
    assert list_broken(charged, "lost", struck=1) == ["mischarged is 1", "unpaid is 0 (struck is 1)"]


def test_calls_are_counted_from_when_a_change_is_effective() -> None:
    began = [99.0, 101.9, 102.0, 109.9, 110.0, 112.5]
    attempts = [make_attempt("gen_1", began=moment) for moment in began]
    attempts.append(make_attempt("gen_1", began=105.0, channel=B.channels[0], state="rejected"))
    figures = count_all(replace(WELL, attempts=attempts, marks={"swapped": 100.0, "back": 110.0}))
    found = {name: number for name, number in figures.items() if "_since_" in name}
    assert found == {
        "calls_a_since_swapped": 2,
        "good_a_since_swapped": 2,
        "calls_b_since_swapped": 1,
        "good_b_since_swapped": 0,
        "calls_a_since_back": 1,
        "good_a_since_back": 1,
        "calls_b_since_back": 0,
        "good_b_since_back": 0,
    }


def test_late_answers_are_collected() -> None:
    late = make_seen("gen_1", label="504 generation_timeout", collected=True)
    never = make_seen("gen_2", label="504 generation_timeout", images=0)
    figures = count_all(replace(WELL, seen=[late, never], generations={"gen_1": make_row(), "gen_2": make_row(0)}))
    wanted = ("overdue", "collected", "failed", "missing", "mischarged")
    assert [figures[name] for name in wanted] == [2, 1, 1, 1, 0]


# --- customers ---


def test_the_same_seed_orders_the_same_things() -> None:
    drawn = [[Taste("day-1-quiet-", random.Random(seed)).make_order() for _ in range(1)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    taste = Taste("day-1-quiet-", random.Random(1))
    orders = [taste.make_order() for _ in range(200)]
    assert len({order.prompt for order in orders}) == 200
    assert {order.model for order in orders} == set(MODELS)
    assert {order.n for order in orders} == {1, 2, 3}
    assert {order.response_format for order in orders} == {"url", "b64_json"}
    assert 0 < sum(order.replays for order in orders) < sum(bool(order.key) for order in orders) < 200


def test_an_order_that_is_asked_for() -> None:
    order = Taste("day-1-slow-", random.Random(1)).make_order(directive="[[sim: hang]]", model=SECOND, n=4)
    assert (order.model, order.n) == (SECOND, 4)
    assert order.prompt.endswith("day-1-slow-1 [[sim: hang]]")


def test_leaks_are_looked_for_outside_of_pictures() -> None:
    body = json.dumps({"data": [{"b64_json": "dashscope"}, {"url": "http://127.0.0.1:9/files/x"}]}).encode()
    assert find_leaks(Answer(200, {}, body), ["dashscope", "127.0.0.1:7"]) == []
    assert find_leaks(Answer(200, {"via": "DashScope"}, body), ["dashscope"]) == ["dashscope"]
    assert find_leaks(Answer(502, {}, b'{"error": {"message": "drill A pictures"}}'), ["drill a"]) == ["drill a"]


# --- pictures ---


def draw(size: tuple[int, int], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, kind)
    return file.getvalue()


def test_a_whole_picture() -> None:
    assert find_deep_fault(draw((512, 384)), (512, 384)) == ""


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda data: b"<html>" + data, "no PNG: it begins with b'<html>\\x89PNG\\r\\n'"),
        (lambda data: b"", "no PNG: it begins with b''"),
        (lambda data: data[:-20], "it ends within b'IDAT'"),
        (lambda data: data[:-12], "it ends with b'IDAT' and 0 bytes more"),
        (lambda data: data + b"more", "it ends with b'IEND' and 4 bytes more"),
        (lambda data: data.replace(b"IHDR", b"IHDS"), "the checksum of b'IHDS' is wrong"),
    ],
)
def test_a_spoilt_picture(spoil: Callable[[bytes], bytes], fault: str) -> None:
    assert find_fault(spoil(draw((64, 64))), (64, 64)) == fault


def test_a_picture_of_another_size_or_kind() -> None:
    assert find_fault(draw((64, 48)), (48, 64)) == "it is 64x48, asked were 48x64"
    assert find_fault(draw((64, 48), "JPEG"), (64, 48)).startswith("no PNG")


# --- the wire ---


@asynccontextmanager
async def serve(answer: bytes | None) -> AsyncIterator[str]:
    """Answers every connection with these bytes and closes it; None never answers."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def test_a_whole_answer() -> None:
    async with serve(b'HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nContent-Length: 8\r\n\r\n{"a": 1}more') as url:
        answer = await call("POST", url, body=b"{}", timeout_s=5)
    assert (answer.status, answer.headers["retry-after"], answer.read_object()) == (429, "3", {"a": 1})


@pytest.mark.parametrize(
    ("sent", "timeout_s", "why"),
    [
        (b"", 5.0, Why.BROKEN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", 5.0, Why.BROKEN),
        (b"HTTP/1.1 200 OK\r\n\r\nno length", 5.0, Why.BROKEN),
        (b"hello\r\n\r\n", 5.0, Why.BROKEN),
        (None, 0.2, Why.SILENT),
    ],
)
async def test_an_answer_that_is_none(sent: bytes | None, timeout_s: float, why: Why) -> None:
    async with serve(sent) as url:
        with pytest.raises(Unanswered) as raised:
            await call("GET", url, timeout_s=timeout_s)
    assert raised.value.why is why


async def test_nobody_listens() -> None:
    async with serve(b"") as url:
        pass
    with pytest.raises(Unanswered) as raised:
        await call("GET", url, timeout_s=5)
    assert raised.value.why is Why.REFUSED


# --- the report ---


def play(name: str, *verdicts: Verdict, **figures: Any) -> Played:
    [chapter] = [one for one in CHAPTERS if one.name == name]
    usual = count_all(WELL) | EXTRA
    return Played(
        chapter, usual | figures, verdicts, events=["  1.0 s  it rains"], examples=["gen_1 is odd"], seconds=4
    )


def test_what_is_told() -> None:
    quiet = judge_all((*ALWAYS, expect("missing", IS, 0)), count_all(WELL) | EXTRA)
    findings = Findings(
        played=[
            play("quiet", *quiet),
            play("swap", judge(expect("failed", IS, 0), {"failed": 2}), answers={"502 upstream_failed": 2}, failed=2),
        ],
        ends=[judge(Expectation("the books are right", "reconcile", IS, 0), {"reconcile": 0})],
        lines=["the books are right"],
        notes=["killed was left out"],
    )
    assert findings.broken == 1
    told = report.render(findings).splitlines()
    assert told[:3] == [
        "chapter  orders  images  p50 ms  p99 ms  charged  billed  possible  alerts  answers",
        "quiet         1     1/1    1000    1000        1       1         0       0  1 x 200",
        "swap          1     1/1    1000    1000        1       1         0       0  2 x 502 upstream_failed",
    ]
    assert told[4:13] == [
        "quiet: a quiet hour (4 s)",
        "  kept    : missing is 0",
        "        1.0 s  it rains",
        "",
        "swap: A is swapped for B and back, under load (4 s)",
        "  BROKEN  : failed is 2",
        "      gen_1 is odd",
        "        1.0 s  it rains",
        "",
    ]
    rest = 14 + len(ALWAYS)
    assert told[13:rest] == ["In every chapter", *[f"  kept    {one.words}" for one in ALWAYS]]
    assert told[rest + 1 :] == [
        "The books and the bill",
        "  kept    the books are right: reconcile is 0",
        "      the books are right",
        "",
        "killed was left out",
        f"1 of {len(ALWAYS) + 3} expectations BROKEN",
    ]
    facts = report.describe(findings)
    assert (facts["broken"], [one["name"] for one in facts["chapters"]]) == (1, ["quiet", "swap"])


def test_what_is_expected_everywhere_names_where_it_was_not_so() -> None:
    sick = replace(WELL, generations={"gen_1": make_row(2)})
    told = report.render(Findings(played=[play("quiet", *judge_all(ALWAYS, count_all(sick) | EXTRA))])).splitlines()
    words = "each picture that was charged is had, and none that was had is free"
    assert f"  BROKEN  {words}: mischarged is 1" in told
    assert f"  BROKEN  {words}: not in quiet" in told


def test_tracebacks_are_found_in_a_log() -> None:
    lines = [
        "quiet",
        "ERROR it is tried again",
        "Traceback (most recent call last):",
        "  File x",
        "    y()",
        "OSError: gone",
    ]
    assert list_tracebacks([*lines, "more"]) == ["ERROR it is tried again | OSError: gone"]


# --- options and places ---


OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("seconds", "rate", "ready_file", "env_file")),
    "quick": False,
    "seed": 1,
    "chapters": (),
    "database": "sqlite",
    "database_url": "",
    "expect": [],
}


def test_quick_is_short_and_may_be_made_longer() -> None:
    assert (read_plan(OPTIONS).seconds, read_plan(OPTIONS).hasten) == (15.0, False)
    quick = read_plan({**OPTIONS, "quick": True, "seconds": 5.0})
    assert (quick.seconds, quick.hasten) == (5.0, True)
    assert quick.environment["GENERATION_DEADLINE_S"] == "20"


@pytest.mark.parametrize(
    ("read", "text"),
    [(read_chapters, "quiet,loud"), (read_seconds, "0"), (read_seconds, "601"), (read_rate, "0"), (read_rate, "51")],
)
def test_options_out_of_bounds_are_refused(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        read(text)


def test_chapters_are_named() -> None:
    assert read_chapters("swap, quiet") == ("swap", "quiet")
    assert len(set(NAMES)) == len(NAMES) == len(CHAPTERS)


FACTS = {"base_url": "http://127.0.0.1:1", "api_key": "k", "simulator_url": "http://127.0.0.1:2", "simulator_key": "s"}


def test_a_server_that_runs_is_reached_by_its_environment_file(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with pytest.raises(SiteFailed, match="cannot read"):
        join_site(ready, None, folder=tmp_path)
    ready.write_text('{"base_url": 1}')
    with pytest.raises(SiteFailed, match="is no ready file"):
        join_site(ready, None, folder=tmp_path)
    ready.write_text(json.dumps(FACTS))
    with pytest.raises(SiteFailed, match="name it by --env-file"):
        join_site(ready, None, folder=tmp_path)
    other = tmp_path / "other.env"
    other.write_text("SIMULATOR_KEY=s\n")
    site = join_site(ready, other, folder=tmp_path)
    assert (site.base_urls, site.is_own) == (("http://127.0.0.1:1",), False)
    assert site.environment["ENV_FILE"] == str(other)


# --- the desk ---


KEYS = {side.letter: side.make_key() for side in (A, B)}
URL = "http://127.0.0.1:9"


@pytest.fixture
def sold(database: None) -> Channel:
    return open_channel(f"{URL}/api/v1", "dashscope_sync", {FIRST: 6, SECOND: 1, TASKS: 1}, priority=7)


def open_shop(*, alone: bool = False) -> dict[str, Any]:
    opened: dict[str, Any] = deeds.open_shop(
        simulator_url=URL, keys=KEYS, submits_per_s=12, most_running=30, alone=alone
    )
    return opened


def test_the_shop_is_asked_before_all_others(sold: Channel) -> None:
    open_shop()
    ours = Offer.objects.filter(channel__name__startswith=PREFIX)
    rows = ours.order_by("priority", "channel__name", "model__name")
    assert list(rows.values_list("channel__name", "model__name", "priority", "max_n", "shape")) == [
        ("drill A pictures", FIRST, -3, 1, "sync"),
        ("drill A pictures", SECOND, -3, 1, "sync"),
        ("drill A tasks", TASKS, -3, 1, "async"),
        ("drill B pictures", FIRST, -2, 3, "sync"),
        ("drill B pictures", SECOND, -2, 1, "sync"),
        ("drill B tasks", TASKS, -2, 1, "async"),
    ]
    channels = Channel.objects.filter(name__in=CHANNELS)
    assert {one.credentials.get().reveal() for one in channels} == set(KEYS.values())
    assert {(one.account.name, one.simulated, one.enabled) for one in channels if one.account} == {
        ("drill A", True, True),
        ("drill B", True, True),
    }
    limits = build_limits(Limits(12, 30))[A.account]
    for capacity in Capacity.objects.all():
        count, seconds = limits["submits"][capacity.upstream_model]
        interval_ms = capacity.submit_interval_ms or 0
        assert capacity.submit_burst == count
        assert interval_ms * count >= seconds * 1000 - count
        assert capacity.max_running == limits["async_concurrency"]
    assert Offer.objects.filter(channel=sold, enabled=True).count() == 3
    assert ApiKey.objects.get().account.name == "drill"


def test_the_shop_closes_and_opens_again(sold: Channel) -> None:
    open_shop(alone=True)
    assert Offer.objects.filter(channel=sold, enabled=True).count() == 0
    deeds.close_shop()
    assert set(Channel.objects.filter(name__in=CHANNELS).values_list("enabled", "disabled_reason")) == {
        (False, "the drill is over")
    }
    assert ApiKey.objects.filter(revoked_at=None).count() == 0
    open_shop()
    assert Channel.objects.filter(name__in=CHANNELS, enabled=True).count() == len(CHANNELS)
    assert Account.objects.filter(name="drill").count() == 1
    assert ApiKey.objects.filter(revoked_at=None).count() == 1


def test_where_pictures_are_real_nothing_is_drilled(sold: Channel) -> None:
    Channel.objects.filter(pk=sold.pk).update(simulated=False)
    with pytest.raises(deeds.NotDrillable, match="sells real pictures, by dashscope_sync-7"):
        open_shop()
    assert not Channel.objects.filter(name__startswith=PREFIX).exists()
    Channel.objects.filter(pk=sold.pk).update(enabled=False)
    open_shop()


def test_what_is_not_on_sale_is_not_drilled(sold: Channel) -> None:
    ImageModel.objects.filter(name=SECOND).update(status=ImageModel.Status.HIDDEN)
    with pytest.raises(deeds.NotDrillable, match=f"not on sale here: {SECOND}"):
        open_shop()


def test_operators_calm_things_down(sold: Channel) -> None:
    open_shop()
    channel = Channel.objects.get(name=A.channels[1])
    offer = Offer.objects.get(channel=channel, model__name=FIRST)
    OfferHealth.objects.create(offer=offer, circuit="open", reason="it broke")
    Channel.objects.filter(pk=channel.pk).update(enabled=False, disabled_reason="auth")
    Alert.objects.create(kind="channel_disabled", subject="channel 1", channel=channel, text="its key is refused")
    name = f"{A.channels[1]}: {FIRST}"
    found = deeds.read_health()
    assert found["offers"][name] == {"circuit": "open", "reason": "it broke", "cools": False}
    assert (found["channels"][A.channels[1]], [one[3] for one in found["alerts"]]) == (False, [True])
    assert deeds.end_pauses() == 1
    assert deeds.calm() is True
    found = deeds.read_health()
    assert found["offers"][name]["circuit"] == "closed"
    assert (found["channels"][A.channels[1]], [one[3] for one in found["alerts"]]) == (True, [False])
    assert deeds.calm() is False


def test_a_key_is_replaced(sold: Channel) -> None:
    open_shop()
    Channel.objects.filter(name__in=A.channels).update(enabled=False, disabled_reason="auth")
    deeds.replace_keys(channels=A.channels, secret="sk-sim-drill-a.new")
    for channel in Channel.objects.filter(name__in=A.channels):
        newest = channel.credentials.order_by("-id").first()
        assert newest is not None
        assert (channel.enabled, newest.reveal(), channel.credentials.count()) == (True, "sk-sim-drill-a.new", 2)


def test_every_model_is_swapped_and_back(sold: Channel) -> None:
    open_shop()
    before = set(Offer.objects.values_list("id", "enabled", "priority"))
    moves = [(model, A.find_channel(model), B.find_channel(model)) for model in MODELS]
    made = deeds.swap(moves=moves)
    serving = Offer.objects.filter(channel__name__startswith=PREFIX, enabled=True)
    assert set(serving.values_list("channel__name", "priority")) == {(name, -3) for name in B.channels}
    deeds.swap_back(ids=made)
    assert set(Offer.objects.values_list("id", "enabled", "priority")) == before


async def order(gateway: Any, prompt: str, **more: Any) -> None:
    body = {"model": FIRST, "size": "512x512", "prompt": prompt, **more}
    await gateway.post("/v1/images/generations", json=body)


async def test_rows_are_told_by_their_tag(gateway: Any, customer: Customer) -> None:
    from asgiref.sync import sync_to_async

    await order(gateway, "a lantern, day-1-quiet-1", n=2)
    await order(gateway, "a lantern, day-1-lost-1 [[sim: reset billed=true]]")
    tally = await sync_to_async(deeds.read_tally)(tag="day-1-quiet-")
    [row] = tally["generations"].values()
    assert (row["state"], row["n"], row["delivered"], row["charged"]) == ("succeeded", 2, 2, 2)
    assert [(one["state"], one["least"], one["most"]) for one in tally["attempts"]] == [("succeeded", 2, 2)]
    tally = await sync_to_async(deeds.read_tally)(tag="day-1-lost-")
    [row] = tally["generations"].values()
    assert (row["state"], row["failure"], row["charged"]) == ("failed", "upstream_failed", 0)
    assert [(one["state"], one["least"], one["most"]) for one in tally["attempts"]] == [("unknown", 0, 1)]
    charged = await sync_to_async(deeds.list_charged)(tag="day-1-")
    assert [(width, height, slot) for _, width, height, _, slot in charged] == [(512, 512, 0), (512, 512, 1)]
    assert await sync_to_async(deeds.count_running)(tag="day-1-") == 0


# --- the upstream ---


@pytest.fixture
def upstream(simulator: RunningSimulator) -> Upstream:
    return Upstream(simulator.base_url, CONTROL_KEY)


async def test_the_simulator_is_left_as_it_was(upstream: Upstream) -> None:
    foreign = {"match": {"account": "acme"}, "fault": {"name": "html"}}
    await upstream.ask("POST", "rules", foreign)
    await upstream.ask("POST", "outages", {"match": {"account": "acme"}})
    # Of a drill that was killed.
    await upstream.ask("POST", "outages", {"match": {"key": f"{A.key_prefix}old"}})
    before = await upstream.ask("GET", "scenario")
    await upstream.prepare(Limits(12, 30), latency_s=0.0)
    await upstream.limit(Limits(3, 1))
    await upstream.plant(A, {"name": "html"}, times=4)
    scenario = await upstream.ask("GET", "scenario")
    assert scenario["limits"]["accounts"][B.account]["async_concurrency"] == 1
    assert await upstream.count_strikes() == 0
    await upstream.restore()
    assert [rule["match"] for rule in (await upstream.ask("GET", "rules"))["rules"]] == [{"account": "acme"}]
    assert [one["match"] for one in (await upstream.ask("GET", "outages"))["outages"]] == [{"account": "acme"}]
    after = await upstream.ask("GET", "scenario")
    assert {**before, "limits": {}, "latency_s": before.get("latency_s", 1.0)} == after


async def test_the_bill_is_read_from_where_the_drill_began(upstream: Upstream) -> None:
    async def ask_for(prompt: str) -> int:
        body = json.dumps({"model": FIRST, "prompt": prompt, "size": "512x512"}).encode()
        headers = {"Authorization": f"Bearer {A.make_key()}"}
        return (
            await call("POST", f"{upstream.url}/v1/images/generations", headers=headers, body=body, timeout_s=20)
        ).status

    await ask_for("before")
    await upstream.prepare(Limits(12, 30), latency_s=0.0)
    assert await ask_for("one") == 200
    await upstream.plant(A, {"name": "throttle"}, times=2)
    assert await ask_for("two") == 429
    assert await upstream.count_strikes() == 1
    assert await upstream.read_bill() == [
        Billed(A.account, "one", accepted=True, charged=1),
        Billed(A.account, "two", accepted=False, charged=0),
    ]
    async with upstream.outage({"account": A.account}):
        assert await ask_for("three") == 503
    await upstream.ask("DELETE", "bill")
    with pytest.raises(UpstreamFailed, match="has begun a new bill"):
        await upstream.read_bill()
    await upstream.restore()


async def test_an_upstream_that_is_not_there() -> None:
    with pytest.raises(UpstreamFailed, match="does not answer"):
        await Upstream(URL, "").ask("GET", "bill")


def test_what_is_ours() -> None:
    assert is_ours({"account": B.account})
    assert is_ours({"key": A.make_key()})
    assert not is_ours({"account": "acme"})
    assert not is_ours({})


# --- the whole of it ---


def run_drill(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "DEBUG": "true"}
    return spawn_python("manage.py", "drill", "--quick", *arguments, env=environment)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, output


@pytest.mark.live
def test_a_bad_day_on_a_server_of_its_own_with_one_planted_expectation(tmp_path: Path) -> None:
    """All that is expected holds, but for what cannot: which proves both."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    json_file = tmp_path / "drill.json"
    chapters = "quiet,throttling,outage,revoked,lost,killed"
    planted = ("--expect", "quiet: orders is 0")
    process = run_drill("--chapters", chapters, *planted, "--json", str(json_file), folder=scratch)
    code, output = finish(process)
    facts = json.loads(json_file.read_text()) if json_file.exists() else {}
    broken = [
        f"{chapter['name']}: {one['condition']}"
        for chapter in [*facts.get("chapters", []), {"name": "end", "expectations": facts.get("ends", [])}]
        for one in chapter["expectations"]
        if not one["kept"]
    ]
    assert (broken, code) == (["quiet: orders is 0"], 1), output[-20_000:]
    assert [chapter["name"] for chapter in facts["chapters"]] == chapters.split(",")
    assert "BROKEN  as the command line says: orders is" in output
    assert [path.name for path in scratch.iterdir() if path.name.startswith("crazyrouter-drill")] == []


@pytest.fixture
def quickstart(tmp_path: Path) -> Iterator[Path]:
    """The ready file of a running one, in its data folder."""
    folder = tmp_path / "data"
    arguments = ("--data", str(folder), "--port", "0", "--ready-file", str(folder / "ready.json"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        process = spawn_python("manage.py", "quickstart", *arguments, env=environment, stdout=log)
    try:
        wait_until(lambda: (folder / "ready.json").exists() or process.poll() is not None, within_s=120)
        yield folder / "ready.json"
    finally:
        process.terminate()
        process.wait(60)


def ask(url: str, key: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers), timeout=60) as answer:
        return json.load(answer)


@pytest.mark.live
def test_a_running_server_is_drilled_and_left_as_it_was(quickstart: Path, tmp_path: Path) -> None:
    facts = json.loads(quickstart.read_text())
    control = f"{facts['simulator_url']}/_sim"
    code, output = finish(
        run_drill("--ready-file", str(quickstart), "--chapters", "wrong,killed,swap", folder=tmp_path)
    )
    assert code == 0, output
    assert "killed was left out" in output
    assert output.splitlines()[-1].endswith("expectations kept")
    assert ask(f"{control}/rules", facts["simulator_key"]) == {"rules": []}
    scenario = ask(f"{control}/scenario", facts["simulator_key"])
    assert (scenario["limits"], scenario["latency_s"]) == ({}, 1.0)
    order = {"model": FIRST, "prompt": "a red fox in fresh snow", "size": "512x512"}
    assert len(ask(f"{facts['base_url']}/v1/images/generations", facts["api_key"], order)["data"]) == 1
    bill = ask(f"{control}/bill", facts["simulator_key"])
    latest = [entry for entry in bill["entries"] if entry["kind"] == "submission"][-1]
    assert not latest["account"].startswith("drill")


@pytest.mark.live
def test_an_interrupted_drill_leaves_nothing_behind(tmp_path: Path) -> None:
    process = run_drill("--chapters", "quiet", "--seconds", "300", folder=tmp_path)
    wait_until(lambda: len(list_children(process.pid)) == 3, within_s=120)
    children = list(list_children(process.pid))
    grandchildren = [pid for child in children for pid in list_children(child)]
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == 130, output
    assert not any(is_running(pid) for pid in [*children, *grandchildren])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("crazyrouter-drill")] == []
