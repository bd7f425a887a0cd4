"""What stands in the exports, to the last micro-unit."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from billing.exports import ExportError, Order, make_plan, name_file, stream_export
from billing.exports import entries as entries_of_exports
from billing.exports.streams import BOM
from billing.ledger import refund
from billing.models import Account, LedgerEntry
from billing.periods import cut_month
from tests.entries import make_charge, make_top_up, write_entries

NOVEMBER = (date(2026, 11, 1), date(2026, 11, 30))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def export(kind: str, first: date = NOVEMBER[0], last: date = NOVEMBER[1], account: Account | None = None) -> str:
    plan = make_plan(Order(kind, first, last, account.pk if account else None))
    return b"".join(piece for piece, _ in stream_export(plan)).decode()


def read(*args: Any, **kwargs: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(export(*args, **kwargs), newline="")))


def pick(rows: list[dict[str, str]], *names: str, **wanted: str) -> list[tuple[str, ...]]:
    """These columns of the rows whose cells are as wanted."""
    return [
        tuple(row[name] for name in names) for row in rows if all(row[key] == value for key, value in wanted.items())
    ]


def open_account(name: str = "acme", *, zone: str = "Asia/Shanghai") -> Account:
    return Account.objects.create(name=name, time_zone=zone, created_at=at("2026-01-01"))


# --- charges and ledger ---


def test_a_line_for_each_charged_image(db: None) -> None:
    account = open_account()
    rows = write_entries(
        account,
        [
            make_top_up(at("2026-10-31 15:00"), 100_000_000),
            make_charge(at("2026-11-02 08:30:00.123"), reference="gen_a", line=2, account_price_version=9),
        ],
    )
    assert export("charges") == (
        "account_id,account,sequence,entry_id,booked_at,generation_id,slot,model,size,unit_price,amount,currency,"
        "price_version,account_price_version,key_prefix\r\n"
        f"{account.pk},acme,2,{rows[1].pk},2026-11-02T16:30:00.123000+08:00,gen_a,2,qwen-image-plus,1328x1328,"
        "0.200000,0.200000,CNY,1,9,sk-cr-abc\r\n"
    )


def test_the_ledger_has_every_entry_with_the_balance_after_it(db: None) -> None:
    account = open_account()
    rows = write_entries(
        account,
        [
            make_top_up(at("2026-11-01"), 1_000_000, reference="bank-7"),
            make_charge(at("2026-11-02"), reference="gen_a"),
        ],
    )
    text = export("ledger")
    assert text.splitlines()[1:] == [
        f"{account.pk},acme,1,{rows[0].pk},2026-11-01T08:00:00.000000+08:00,top_up,1.000000,1.000000,CNY,bank-7,0,"
        ",,,,,,wire,olga,,,",
        f"{account.pk},acme,2,{rows[1].pk},2026-11-02T08:00:00.000000+08:00,charge,-0.200000,0.800000,CNY,gen_a,0,"
        "qwen-image-plus,1328x1328,0.200000,1,,sk-cr-abc,,,,,",
    ]
    assert text.count("\r\n") == text.count("\n") == 3


def test_what_customers_and_people_wrote_is_text_to_a_spreadsheet(db: None) -> None:
    account = open_account('=HYPERLINK("http://x")')
    memos = ["=1+1", "+49", "-5", "@SUM(A1)", "\tx", "\rx", 'say "hi", twice', "two\nlines", "北京 ＝1"]
    write_entries(
        account, [make_top_up(at("2026-11-01"), 1, memo=memo, reference=f"r{n}") for n, memo in enumerate(memos)]
    )
    rows = read("ledger")
    assert [row["memo"] for row in rows] == [f"'{memo}" for memo in memos[:6]] + memos[6:]
    assert {row["account"] for row in rows} == {'\'=HYPERLINK("http://x")'}


def test_numbers_are_never_neutralised(db: None) -> None:
    write_entries(open_account(), [make_charge(at("2026-11-02"), micros=1)])
    assert pick(read("ledger"), "amount", "balance_after") == [("-0.000001", "-0.000001")]


def test_lines_are_in_the_order_of_the_books(db: None) -> None:
    second, first = open_account("a"), open_account("b")
    for account in (first, second):
        write_entries(account, [make_charge(at(f"2026-11-{day}")) for day in (20, 10, 15)])
    assert pick(read("charges"), "account_id", "sequence") == [
        (str(account.pk), str(n)) for account in (second, first) for n in (1, 2, 3)
    ]


def test_one_account_alone(db: None) -> None:
    acme, other = open_account(), open_account("other")
    for account in (acme, other):
        write_entries(account, [make_charge(at("2026-11-02"))])
    assert pick(read("charges", account=other), "account") == [("other",)]
    assert pick(read("statement", account=other), "account", section="control") == [("other",)]


def test_a_refund_names_the_charge_that_it_gives_back(db: None) -> None:
    account = open_account()
    charge = write_entries(account, [make_charge(at("2026-10-15"), reference="gen_a", line=1)])[0]
    given_back = refund(charge, amount_micros=50_000, memo="blurred", actor="olga")
    today = given_back.booked_at.astimezone(ZoneInfo("Asia/Shanghai")).date()
    names = ("kind", "reference", "corrects_generation_id", "corrects_slot", "corrects_month", "memo")
    assert pick(read("ledger", today, today), *names) == [
        ("refund", str(charge.pk), "gen_a", "1", "2026-10", "blurred")
    ]
    assert pick(read("statement", today, today), "section", "amount", *names, kind="refund")[-1] == (
        ("correction", "0.050000", "refund", str(charge.pk), "gen_a", "1", "2026-10", "blurred")
    )


def test_pages_make_no_difference(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    account = open_account()
    write_entries(account, [make_charge(at("2026-11-02") + timedelta(hours=n)) for n in range(23)])
    whole = export("ledger")
    for size in (1, 4, 23):
        monkeypatch.setattr(entries_of_exports, "PAGE", size)
        assert export("ledger") == whole


def test_what_is_booked_while_an_export_runs_is_not_in_it(db: None) -> None:
    account = open_account()
    write_entries(account, [make_top_up(at("2026-11-01"), 5_000_000), make_charge(at("2026-11-02"))])
    plans = {kind: make_plan(Order(kind, *NOVEMBER)) for kind in ("charges", "ledger", "statement")}
    before = {kind: export(kind) for kind in plans}
    write_entries(account, [make_charge(at("2026-11-03")), make_charge(at("2026-10-03"))])
    for kind, plan in plans.items():
        assert b"".join(piece for piece, _ in stream_export(plan)).decode() == before[kind]
        assert export(kind) != before[kind]


def test_the_number_of_rows_is_known_before_and_counted_on_the_way(db: None) -> None:
    write_entries(open_account(), [make_charge(at("2026-11-02")) for _ in range(1500)])
    plan = make_plan(Order("charges", *NOVEMBER))
    assert plan.rows == 1500
    assert [rows for _, rows in stream_export(plan)] == [0, 1000, 1500]


def test_a_byte_order_mark_comes_first_and_once(db: None) -> None:
    write_entries(open_account(), [make_charge(at("2026-11-02"))])
    plan = make_plan(Order("charges", *NOVEMBER))
    data = b"".join(piece for piece, _ in stream_export(plan, bom=BOM))
    assert data.startswith(b"\xef\xbb\xbfaccount_id,")
    assert data.count(BOM) == 1


def test_nothing_booked_is_a_header(db: None) -> None:
    open_account()
    assert export("charges").count("\r\n") == export("ledger").count("\r\n") == 1


# --- statements ---


def test_a_statement_line_by_line(db: None) -> None:
    account = open_account()
    write_entries(
        account,
        [
            make_top_up(at("2026-10-15"), 100_000_000),
            make_charge(at("2026-10-31 15:59:59.999")),  # October's last
            make_charge(at("2026-10-31 16:00")),  # November's first
            make_charge(at("2026-11-05"), micros=500_000, model="qwen-image-max", price_version=2),
            make_charge(
                at("2026-11-06"), micros=450_000, model="qwen-image-max", price_version=2, account_price_version=7
            ),
            make_charge(at("2026-11-07")),
            {
                "kind": "adjustment",
                "amount_micros": -3,
                "booked_at": at("2026-11-08"),
                "reference": "adj",
                "memo": "fee",
            },
            make_charge(at("2026-11-30 16:00")),  # December's
        ],
    )
    lines = export("statement").splitlines()
    head = f"{account.pk},acme,Asia/Shanghai,2026-11,2026-11-01,2026-11-30,"
    assert lines[0] == (
        "account_id,account,time_zone,month,first_day,last_day,section,kind,model,unit_price,price_version,"
        "account_price_version,entries,amount,currency,first_sequence,last_sequence,booked_at,reference,line,memo,"
        "corrects_generation_id,corrects_slot,corrects_month"
    )
    assert [line.removeprefix(head) for line in lines[1:]] == [
        "opening_balance,,,,,,,99.800000,CNY,,,,,,,,,",
        "movement,top_up,,,,,0,0.000000,CNY,,,,,,,,,",
        "movement,charge,,,,,4,-1.350000,CNY,3,6,,,,,,,",
        "movement,refund,,,,,0,0.000000,CNY,,,,,,,,,",
        "movement,adjustment,,,,,1,-0.000003,CNY,7,7,,,,,,,",
        "model,charge,qwen-image-max,0.450000,2,7,1,-0.450000,CNY,5,5,,,,,,,",
        "model,charge,qwen-image-max,0.500000,2,,1,-0.500000,CNY,4,4,,,,,,,",
        "model,charge,qwen-image-plus,0.200000,1,,2,-0.400000,CNY,3,6,,,,,,,",
        "correction,adjustment,,,,,1,-0.000003,CNY,7,7,2026-11-08T08:00:00.000000+08:00,adj,0,fee,,,",
        "closing_balance,,,,,,,98.449997,CNY,,,,,,,,,",
        "control,,,,,,5,-1.350003,CNY,3,7,,,,,,,",
    ]


def test_every_section_says_how_to_check_it(db: None) -> None:
    write_ledger(open_account("acme", zone="Europe/Berlin"), seed=5)
    for month in ("2026-10", "2026-11"):
        rows = [row for row in read("statement", date(2026, 10, 1), NOVEMBER[1]) if row["month"] == month]
        opening, closing = (add_up(rows, section=name) for name in ("opening_balance", "closing_balance"))
        assert opening + add_up(rows, section="movement") == closing
        assert add_up(rows, section="movement") == add_up(rows, section="control")
        for name in ("entries",):
            assert sum(int(row[name]) for row in rows if row["section"] == "movement") == int(
                pick(rows, name, section="control")[0][0]
            )
        assert add_up(rows, section="model", kind="charge") == add_up(rows, section="movement", kind="charge")


def test_months_chain_and_end_with_the_balance(db: None) -> None:
    account = open_account("acme", zone="America/New_York")
    write_ledger(account, seed=7)
    rows = read("statement", date(2026, 9, 20), date(2026, 12, 10))
    opening = [row[0] for row in pick(rows, "amount", section="opening_balance")]
    closing = [row[0] for row in pick(rows, "amount", section="closing_balance")]
    assert pick(rows, "month", "first_day", "last_day", section="control") == [
        ("2026-09", "2026-09-20", "2026-09-30"),
        ("2026-10", "2026-10-01", "2026-10-31"),
        ("2026-11", "2026-11-01", "2026-11-30"),
        ("2026-12", "2026-12-01", "2026-12-10"),
    ]
    assert opening == ["0.000000", *closing[:-1]]
    account.refresh_from_db()
    assert Decimal(closing[-1]).scaleb(6) == account.balance_micros


def test_an_opening_balance_is_what_was_booked_before_whoever_numbered_it(db: None) -> None:
    account = open_account()
    write_entries(
        account,
        [
            make_top_up(at("2026-03-15"), 7_000_000),
            make_top_up(at("2026-01-15"), 1_000_000),
            {"kind": "adjustment", "amount_micros": -250_000, "booked_at": at("2026-02-15")},
        ],
    )
    january, february = (date(2026, 1, 1), date(2026, 1, 31)), (date(2026, 2, 1), date(2026, 2, 28))
    names = ("section", "amount")
    assert pick(read("statement", *january), *names, kind="")[:1] == [("opening_balance", "0.000000")]
    assert [row for row in pick(read("statement", *february), *names, kind="") if row[0] != "control"] == [
        ("opening_balance", "1.000000"),
        ("closing_balance", "0.750000"),
    ]
    assert pick(read("ledger", *january), "sequence", "amount", "balance_after") == [("2", "1.000000", "8.000000")]


def test_only_accounts_that_were_there_have_a_statement(db: None) -> None:
    open_account("idle")
    Account.objects.create(name="later", created_at=at("2026-12-01"))
    backdated = Account.objects.create(name="backdated", created_at=at("2026-12-01"))
    write_entries(backdated, [make_top_up(at("2026-11-05"), 1)])
    assert pick(read("statement"), "account", section="control") == [("idle",), ("backdated",)]
    later = Account.objects.get(name="later")
    assert pick(read("statement", account=later), "account", "entries", section="control") == [("later", "0")]


# --- zones, and sums ---


def add_up(rows: list[dict[str, str]], **wanted: str) -> Decimal:
    return sum((Decimal(amount) for (amount,) in pick(rows, "amount", **wanted)), Decimal())


def write_ledger(account: Account, *, seed: int) -> list[LedgerEntry]:
    """Some hundred entries around every midnight of October and November, in no order of time."""
    chance, zone = random.Random(seed), ZoneInfo(account.time_zone)
    edges = [cut_month(date(2026, 10, 1), zone).starts_at + timedelta(days=n) for n in range(62)]
    moments = [
        edge + timedelta(hours=chance.choice([-1, 0, 1]), microseconds=chance.choice([-1, 0, 1])) for edge in edges * 4
    ]
    chance.shuffle(moments)
    kinds = [
        lambda moment: make_charge(moment, micros=chance.randrange(1, 10**6), price_version=chance.randrange(1, 4)),
        lambda moment: make_top_up(moment, chance.randrange(1, 10**9)),
    ]
    return write_entries(account, [chance.choice(kinds)(moment) for moment in moments])


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "Europe/Berlin", "America/New_York", "Africa/Cairo"])
def test_the_days_add_up_to_the_month(db: None, zone: str) -> None:
    written = write_ledger(open_account(zone=zone), seed=3)
    for first in (date(2026, 10, 1), date(2026, 11, 1)):
        period = cut_month(first, ZoneInfo(zone))
        days = [first.replace(day=n) for n in range(1, period.last_day.day + 1)]
        for kind in ("charges", "ledger"):
            whole = read(kind, first, period.last_day)
            parts = [row for day in days for row in read(kind, day, day)]
            assert Counter(row["entry_id"] for row in parts) == Counter(row["entry_id"] for row in whole)
            assert add_up(parts) == add_up(whole)
        inside = [entry for entry in written if period.starts_at <= entry.booked_at < period.ends_at]
        assert add_up(whole).scaleb(6) == sum(entry.amount_micros for entry in inside)
        statements = [row for day in days for row in read("statement", day, day)]
        month = read("statement", first, period.last_day)
        assert add_up(statements, section="movement") == add_up(month, section="movement") == add_up(whole)
        assert pick(statements, "amount", section="closing_balance")[-1:] == pick(
            month, "amount", section="closing_balance"
        )


def test_each_account_has_its_own_midnight(db: None) -> None:
    for zone in ("Asia/Shanghai", "Europe/Berlin", "America/New_York"):
        write_entries(
            open_account(zone, zone=zone),
            [make_charge(at("2026-11-01") + timedelta(hours=hours)) for hours in range(-24, 24)],
        )
    day = read("charges", date(2026, 11, 1), date(2026, 11, 1))
    assert Counter(row["account"] for row in day) == {"Asia/Shanghai": 24, "Europe/Berlin": 24, "America/New_York": 20}
    assert pick(day, "booked_at", account="Asia/Shanghai")[0] == ("2026-11-01T00:00:00.000000+08:00",)
    assert pick(day, "booked_at", account="Europe/Berlin")[0] == ("2026-11-01T00:00:00.000000+01:00",)
    offsets = [row[0][-6:] for row in pick(day, "booked_at", account="America/New_York")]
    assert offsets == ["-04:00"] * 2 + ["-05:00"] * 18


# --- refusals ---


def test_what_cannot_be_exported_says_why(db: None) -> None:
    with pytest.raises(ExportError, match="there is no kind of export 'invoices'"):
        Order("invoices", *NOVEMBER)
    with pytest.raises(ExportError, match="the last day, 2026-11-01, is before the first, 2026-11-30"):
        Order("charges", NOVEMBER[1], NOVEMBER[0])
    open_account(zone="Mars/Olympus")
    with pytest.raises(ExportError, match="there is no time zone 'Mars/Olympus'"):
        make_plan(Order("charges", *NOVEMBER))


@pytest.mark.parametrize("kind", ["charges", "statement"])
def test_days_beyond_the_calendar_are_refused(db: None, kind: str) -> None:
    open_account()
    with pytest.raises(ExportError, match="out of range"):
        make_plan(Order(kind, date(9999, 12, 31), date(9999, 12, 31)))


def test_files_are_named_for_what_is_in_them() -> None:
    assert name_file(Order("charges", *NOVEMBER)) == "charges-2026-11-01-to-2026-11-30.csv"
    assert name_file(Order("ledger", *NOVEMBER, 7)) == "ledger-account-7-2026-11-01-to-2026-11-30.csv"
