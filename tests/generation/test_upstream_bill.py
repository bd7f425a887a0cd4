"""Two sides that agree, then one thing changed on either side: exactly that is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crazyrouter.generation.upstream_bill.differences import compare
from crazyrouter.generation.upstream_bill.rows import BilledOrder, SentCall, UpstreamBill, add_up

BEGAN = datetime(2026, 11, 22, 12, tzinfo=UTC)
READ = BEGAN + timedelta(hours=1)


def make_order(number: int = 1, **changes: Any) -> BilledOrder:
    """A sync order for one picture, accepted and charged."""
    order = BilledOrder(
        id=number,
        request_id=f"call-{number}",
        task_id="",
        received_at=BEGAN + timedelta(seconds=number),
        key_last4="wxyz",
        account="acme",
        model="qwen-image-2.0",
        prompt="a cat",
        n=1,
        accepted=True,
        code="",
        charged=1,
    )
    return replace(order, **changes)


def make_call(number: int = 1, **changes: Any) -> SentCall:
    """The attempt that the order of this number is."""
    call = SentCall(
        generation_id=f"gen_{number}",
        number=1,
        created_at=BEGAN + timedelta(seconds=number, milliseconds=-5),
        state="succeeded",
        billed="",
        task_id="",
        upstream_id=f"call-{number}",
        model="qwen-image-2.0",
        credential_id=7,
        key_last4="wxyz",
        account="",
        slots=1,
        images=1,
        prompt="a cat",
    )
    return replace(call, **changes)


def make_bill(*orders: BilledOrder, **changes: Any) -> UpstreamBill:
    charged = sum(order.charged for order in orders)
    return replace(UpstreamBill(BEGAN, orders, 0, charged, len(orders)), **changes)


LOST: dict[str, Any] = {"state": "unknown", "billed": "unknown", "upstream_id": "", "images": 0}
FREE: dict[str, Any] = {"state": "rejected", "billed": "no", "images": 0}
REFUSED: dict[str, Any] = {"accepted": False, "code": "Throttling", "charged": 0}


def find(orders: list[BilledOrder], calls: list[SentCall], **given: Any) -> list[tuple[str, str, str]]:
    """(kind, rule, "subject: detail") of all that is found."""
    found = compare(make_bill(*orders, **given), calls, read_at=READ)
    return [("notice" if f.notice else "VIOLATION", f.rule, f"{f.subject}: {f.detail}") for f in found]


def violations(orders: list[BilledOrder], calls: list[SentCall]) -> list[tuple[str, str]]:
    return [(rule, said) for kind, rule, said in find(orders, calls) if kind == "VIOLATION"]


@pytest.mark.parametrize(
    ("order", "call"),
    [
        ({}, {}),
        ({"n": 3, "charged": 3}, {"slots": 3, "images": 3}),
        ({"task_id": "t1"}, {"task_id": "t1", "upstream_id": "a poll"}),
        ({"n": 3, "charged": 2}, {"slots": 3, "images": 2, "billed": "no"}),
        ({"n": 3, "charged": 2}, {"slots": 3, "images": 2}),
        ({"n": 2, "charged": 2}, {"slots": 2, "images": 1, "billed": "yes"}),
        ({}, {"state": "failed", "billed": "yes", "images": 0}),
        ({"task_id": "t1", "charged": 0}, {"task_id": "t1", "state": "failed", "billed": "no", "images": 0}),
        (REFUSED, FREE),
        (REFUSED, FREE | {"upstream_id": ""}),
        ({}, {"upstream_id": ""}),
        (REFUSED | {"model": "", "n": 0, "account": ""}, FREE),
    ],
)
def test_what_agrees(order: dict[str, Any], call: dict[str, Any]) -> None:
    assert find([make_order(**order)], [make_call(**call)]) == []


def test_what_was_never_sent_is_not_missed() -> None:
    assert find([], [make_call(**FREE, upstream_id="")]) == []


@pytest.mark.parametrize(
    ("order", "call", "rule", "said"),
    [
        (
            {"model": "qwen-image-max"},
            {},
            "model-is-the-same",
            "asked for qwen-image-2.0, the bill has qwen-image-max for order 1 (call-1)",
        ),
        (
            {"n": 2, "charged": 1},
            {},
            "count-is-the-same",
            "asked for 1 picture(s), the bill has 2 for order 1 (call-1)",
        ),
        (
            {"key_last4": "abcd"},
            {},
            "key-is-the-same",
            "sent with key …wxyz, the bill has …abcd for order 1 (call-1)",
        ),
        (
            {"charged": 2},
            {},
            "charged-is-counted",
            "the bill charges 2 picture(s) for order 1 (call-1), we count 1",
        ),
        (
            {"charged": 0},
            {},
            "charged-is-counted",
            "the bill charges 0 picture(s) for order 1 (call-1), we count 1",
        ),
        (
            {"n": 3, "charged": 3},
            {"slots": 3, "images": 2, "billed": "no"},
            "charged-is-counted",
            "the bill charges 3 picture(s) for order 1 (call-1), we count 2",
        ),
        (
            {"n": 3, "charged": 2},
            {"slots": 3, "images": 2, "billed": "yes"},
            "charged-is-counted",
            "the bill charges 2 picture(s) for order 1 (call-1), we count 3",
        ),
        (
            {"n": 4, "charged": 2},
            {"slots": 4, "images": 2, "billed": "yes"},
            "charged-is-counted",
            "the bill charges 2 picture(s) for order 1 (call-1), we count 3 to 4",
        ),
        (
            {"charged": 2},
            LOST,
            "charged-is-counted",
            "the bill charges 2 picture(s) for order 1 (call-1), we count 0 to 1",
        ),
        (
            {"accepted": False, "code": "Throttling"},
            {},
            "end-is-the-same",
            "succeeded, the bill says refused (Throttling) for order 1 (call-1)",
        ),
        (
            {"charged": 0},
            FREE,
            "end-is-the-same",
            "rejected, the bill says accepted for order 1 (call-1)",
        ),
        (
            {"accepted": None},
            {},
            "end-is-the-same",
            "succeeded, the bill says undecided yet for order 1 (call-1)",
        ),
    ],
)
def test_one_difference(order: dict[str, Any], call: dict[str, Any], rule: str, said: str) -> None:
    agreeing = [(make_order(9), make_call(9))]
    orders, calls = [make_order(**order), agreeing[0][0]], [make_call(**call), agreeing[0][1]]
    assert violations(orders, calls) == [(rule, f"gen_1 #1: {said}")]


def test_what_was_refused_here_and_charged_there_differs_twice() -> None:
    assert [rule for rule, _ in violations([make_order()], [make_call(**FREE)])] == [
        "end-is-the-same",
        "charged-is-counted",
    ]


def test_an_order_that_no_attempt_knows() -> None:
    said = "order 2 (call-2): no attempt knows it: 1 of qwen-image-2.0 by key …wxyz, accepted, 1 picture(s) charged"
    assert violations([make_order(), make_order(2)], [make_call()]) == [("order-has-an-attempt", said)]
    refused = make_order(2, **REFUSED, model="", n=0)
    said = "order 2 (call-2): no attempt knows it: unread by key …wxyz, refused (Throttling), 0 picture(s) charged"
    assert violations([make_order(), refused], [make_call()]) == [("order-has-an-attempt", said)]


def test_an_order_that_came_after_our_side_was_read() -> None:
    late = make_order(2, received_at=READ + timedelta(milliseconds=1))
    assert [(kind, rule) for kind, rule, _ in find([make_order(), late], [make_call()])] == [
        ("notice", "order-is-too-new")
    ]


@pytest.mark.parametrize("state", ["accepted", "succeeded", "failed", "unknown", "rejected"])
def test_an_attempt_that_the_bill_does_not_know(state: str) -> None:
    stray = make_call(2, state=state, upstream_id="nowhere", task_id="t9")
    said = f"gen_2 #1: is {state} (t9), the bill has no such order"
    assert violations([make_order()], [make_call(), stray]) == [("attempt-is-on-the-bill", said)]


def test_a_success_without_any_id_that_is_like_no_order() -> None:
    stray = make_call(2, upstream_id="", prompt="a dog")
    said = "gen_2 #1: is succeeded (no id), the bill has no such order"
    assert violations([make_order()], [make_call(), stray]) == [("attempt-is-on-the-bill", said)]


def test_two_attempts_with_the_ids_of_one_order() -> None:
    again = make_call(2, upstream_id="call-1")
    said = "gen_2 #1: has the ids of order 1 (call-1), which another attempt has"
    assert violations([make_order()], [make_call(), again]) == [("order-has-one-attempt", said)]


def test_running_and_unknown_ones_are_explained() -> None:
    orders = [
        make_order(1, task_id="t1", charged=0),
        make_order(2, task_id="t2", charged=1),
        make_order(3, accepted=None, charged=0),
        make_order(4, charged=1),
        make_order(5, **REFUSED),
    ]
    calls = [
        make_call(1, state="accepted", task_id="t1", images=0),
        make_call(2, state="accepted", task_id="t2", images=0),
        make_call(3, state="created", upstream_id="", images=0, prompt="a cat"),
        make_call(4, **{**LOST, "upstream_id": "call-4"}),
        make_call(5, **{**LOST, "upstream_id": "call-5"}),
        make_call(6, **LOST, prompt="nobody got it"),
        make_call(7, state="created", upstream_id="", images=0, prompt="just written"),
    ]
    assert find(orders, calls) == [
        ("notice", "attempt-is-running", "gen_1 #1: is accepted; the bill charges 0 picture(s) for order 1 (t1)"),
        ("notice", "attempt-is-running", "gen_2 #1: is accepted; the bill charges 1 picture(s) for order 2 (t2)"),
        (
            "notice",
            "attempt-may-be-charged",
            "gen_4 #1: is unknown, billed unknown, 0 to 1; the bill charges 1 picture(s) for order 4 (call-4)",
        ),
        (
            "notice",
            "attempt-may-be-charged",
            "gen_5 #1: is unknown, billed unknown, 0 to 1; the bill charges 0 picture(s) for order 5 (call-5)",
        ),
        ("notice", "attempt-is-running", "gen_3 #1: is created; the bill charges 0 picture(s) for order 3 (call-3)"),
        (
            "notice",
            "attempt-may-be-charged",
            "gen_6 #1: is unknown: the bill has no order like it, so that it never arrived, and costs nothing",
        ),
        ("notice", "attempt-is-running", "gen_7 #1: is created; the bill has no such order yet"),
    ]


def test_lost_answers_are_paired_by_likeness() -> None:
    """What was accepted goes to what may have been, what was refused to what was; each order has one attempt."""
    orders = [make_order(1, **REFUSED), make_order(2), make_order(3, prompt="a dog", charged=0), make_order(4, n=2)]
    calls = [
        make_call(1, **LOST),
        make_call(2, **FREE | {"upstream_id": ""}),
        make_call(3, **LOST, prompt=""),
        make_call(4, **LOST, slots=2),
    ]
    found = find(orders, calls)
    assert [(kind, rule) for kind, rule, _ in found] == [("notice", "attempt-may-be-charged")] * 3
    assert {said.partition(":")[0]: said.rpartition("for ")[2] for _, _, said in found} == {
        "gen_1 #1": "order 2 (call-2)",
        "gen_3 #1": "order 3 (call-3)",
        "gen_4 #1": "order 4 (call-4)",
    }


@pytest.mark.parametrize(
    "other", [{"key_last4": "abcd"}, {"model": "qwen-image-max"}, {"slots": 2}, {"prompt": "a dog"}]
)
def test_what_is_not_alike_is_not_paired(other: dict[str, Any]) -> None:
    found = find([make_order()], [make_call(**LOST | other)])
    assert [(kind, rule) for kind, rule, _ in found] == [
        ("VIOLATION", "order-has-an-attempt"),
        ("notice", "attempt-may-be-charged"),
    ]


def test_a_key_has_one_account_there() -> None:
    orders = [make_order(1), make_order(2), make_order(3, account="other")]
    said = "gen_3 #1: of credential 7, whose orders are those of acme there, the bill has other for order 3 (call-3)"
    assert violations(orders, [make_call(n) for n in (1, 2, 3)]) == [("account-is-the-same", said)]
    apart = [make_call(1), make_call(2), make_call(3, credential_id=8)]
    assert violations(orders, apart) == []


def test_an_account_of_ours_is_one_account_there() -> None:
    orders = [make_order(1), make_order(2), make_order(3, account="other")]
    calls = [make_call(n, account="Beijing", credential_id=n) for n in (1, 2, 3)]
    said = "gen_3 #1: of account Beijing, whose orders are those of acme there, the bill has other for order 3 (call-3)"
    assert violations(orders, calls) == [("account-is-the-same", said)]


def test_two_accounts_of_ours_that_are_one_there_share_its_limits() -> None:
    calls = [make_call(1, account="Beijing"), make_call(2, account="Spare", credential_id=8)]
    said = "acme: one account there, 2 here, whose limits are counted apart: Beijing, Spare"
    assert find([make_order(1), make_order(2)], calls) == [("notice", "account-is-one-here", said)]


def test_what_is_older_than_the_bill_cannot_be_on_it() -> None:
    older = make_call(2, created_at=BEGAN - timedelta(seconds=1))
    said = "the bill: begins at 2026-11-22T12:00:00+00:00: 1 older attempt(s) cannot be on it, and are not compared"
    assert find([make_order()], [make_call(), older]) == [("notice", "attempt-is-older-than-the-bill", said)]
    found = list(compare(make_bill(make_order()), [make_call(), older], read_at=READ, older=41))
    assert [found.detail.split(": ")[1] for found in found] == [
        "42 older attempt(s) cannot be on it, and are not compared"
    ]


def test_a_bill_that_is_longer_than_what_is_kept() -> None:
    """Two of the three orders are forgotten: their attempts are compared in the sum alone."""
    calls = [make_call(1), make_call(2), make_call(3)]
    forgotten = {"forgotten": 4, "charged": 3, "ordered": 3}
    said = (
        "the bill: 4 entries are forgotten: its totals say 3 orders with {} picture(s), one by one only those from "
        "2026-11-22T12:00:03+00:00 on are compared"
    )
    older = "the bill: begins at 2026-11-22T12:00:03+00:00: 2 older attempt(s) cannot be on it, and are not compared"
    not_compared = ("notice", "attempt-is-older-than-the-bill", older)
    last = make_order(3)
    assert find([last], calls, **forgotten) == [("notice", "bill-is-complete", said.format(3)), not_compared]
    wrong = ("VIOLATION", "charged-is-counted", "the sum: 4 picture(s) are charged in all, we count 3")
    assert find([last], calls, **forgotten | {"charged": 4}) == [
        ("notice", "bill-is-complete", said.format(4)),
        wrong,
        not_compared,
    ]


def test_sums() -> None:
    calls = [
        make_call(slots=3, images=3),
        make_call(slots=3, images=1, billed="yes"),
        make_call(**LOST | {"slots": 2}),
        make_call(**FREE),
    ]
    assert add_up(calls) == (5, 8)
